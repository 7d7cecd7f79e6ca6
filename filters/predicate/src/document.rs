//! A JSON text as a tree that is opened only where it is changed: all else stays as it was written, in its order.

use std::borrow::Cow;
use std::ops::Range;

use crate::{Level, Pointer};

/// A value of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node<'a> {
    /// A value that was not opened, or has nothing in it, as text.
    Text(Cow<'a, str>),
    /// An object's fields, each name as a JSON string with its quotes.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
    /// An array's elements.
    Array(Vec<Node<'a>>),
}

impl<'a> Node<'a> {
    /// Reads `json`, whose outermost level is opened.
    ///
    /// # Errors
    /// When it is not one JSON text.
    pub fn parse(json: impl Into<Cow<'a, str>>) -> Result<Self, serde_json::Error> {
        let mut node = Self::Text(json.into());
        node.open()?;
        Ok(node)
    }

    /// A JSON string.
    pub fn of_text(text: &str) -> Self {
        Self::Text(Cow::Owned(quoted(text)))
    }

    /// The value at `pointer`; of a name that is repeated, the last.
    pub fn get(&mut self, pointer: &Pointer) -> Option<&Self> {
        self.find(pointer.tokens()).map(|node| &*node)
    }

    /// Takes out the value at `pointer`; an array closes up.
    pub fn take(&mut self, pointer: &Pointer) -> Option<Self> {
        let (last, way) = pointer.tokens().split_last()?;
        let parent = self.find(way)?;
        parent.open().ok()?;
        match parent {
            Self::Text(_) => None,
            Self::Object(fields) => {
                let mut taken = None;
                fields.retain_mut(|(name, node)| {
                    let gone = is(name, last);
                    if gone {
                        taken = Some(std::mem::replace(node, Self::Array(Vec::new())));
                    }
                    !gone
                });
                taken
            }
            Self::Array(elements) => {
                let index = index(last).filter(|index| *index < elements.len())?;
                Some(elements.remove(index))
            }
        }
    }

    /// Puts `value` at `pointer`, in place of what is there or behind it; objects on the way there are made.
    ///
    /// # Errors
    /// A text, when a value on the way is no object, and no array with that element.
    pub fn set(&mut self, pointer: &Pointer, value: Self) -> Result<(), String> {
        let mut node = self;
        for (depth, token) in pointer.tokens().iter().enumerate() {
            // What cannot be opened is no text of ours.
            node.open().map_err(|error| error.to_string())?;
            node = match node {
                Self::Object(fields) => field(fields, token),
                Self::Array(elements) => {
                    let found = elements.len();
                    let element = index(token).and_then(|index| elements.get_mut(index));
                    element.ok_or_else(|| {
                        format!(
                            "{pointer} has no place: there is an array of {found} elements, without {token:?}"
                        )
                    })?
                }
                Self::Text(text) => {
                    let way: String =
                        pointer.tokens().iter().take(depth).map(|token| format!("/{token}")).collect();
                    let shown: String = text.chars().take(40).collect();
                    return Err(format!("{pointer} has no place: {way:?} is {shown}, not an object"));
                }
            };
        }
        *node = value;
        Ok(())
    }

    /// Gives the last field called as `from` leads to another name, at its place; answers whether it was there. A field that had
    /// the name is gone.
    pub fn rename(&mut self, from: &Pointer, name: &str) -> bool {
        let Some((last, way)) = from.tokens().split_last() else { return false };
        let Some(parent) = self.find(way) else { return false };
        // What cannot be opened has no fields.
        let (Ok(()), Self::Object(fields)) = (parent.open(), parent) else { return false };
        let Some(place) = fields.iter().rposition(|(name, _)| is(name, last)) else { return false };
        let mut at = 0;
        fields.retain_mut(|(found, _)| {
            let renamed = at == place;
            at += 1;
            if renamed {
                *found = Cow::Owned(quoted(name));
            }
            renamed || !(is(found, name) || is(found, last))
        });
        true
    }

    /// Opens this level, if it is an object or an array that was not.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn open(&mut self) -> Result<(), serde_json::Error> {
        let Self::Text(text) = self else { return Ok(()) };
        let text: &Cow<'a, str> = text;
        let level = Level::new(text)?;
        let part = |range: Range<usize>| match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.get(range).unwrap_or_default()),
            Cow::Owned(text) => Cow::Owned(text.get(range).unwrap_or_default().to_owned()),
        };
        if level.is_object {
            let fields = level.entries.into_iter();
            let fields =
                fields.map(|entry| (part(entry.name.unwrap_or_default()), Self::Text(part(entry.value))));
            *self = Self::Object(fields.collect());
        } else if level.is_array {
            *self =
                Self::Array(level.entries.into_iter().map(|entry| Self::Text(part(entry.value))).collect());
        }
        Ok(())
    }

    /// Writes it, without spaces where it was opened.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Object(fields) => {
                out.push('{');
                for (index, (name, node)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(name);
                    out.push(':');
                    node.write(out);
                }
                out.push('}');
            }
            Self::Array(elements) => {
                out.push('[');
                for (index, node) in elements.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    node.write(out);
                }
                out.push(']');
            }
        }
    }

    fn find(&mut self, tokens: &[String]) -> Option<&mut Self> {
        let mut node = self;
        for token in tokens {
            node.open().ok()?;
            node = match node {
                Self::Text(_) => return None,
                Self::Object(fields) => {
                    fields.iter_mut().rev().find(|(name, _)| is(name, token)).map(|(_, node)| node)?
                }
                Self::Array(elements) => elements.get_mut(index(token)?)?,
            };
        }
        Some(node)
    }
}

/// The field `name`, made if it is not there. Of several with the name only the last stays.
fn field<'n, 'a>(fields: &'n mut Vec<(Cow<'a, str>, Node<'a>)>, name: &str) -> &'n mut Node<'a> {
    let last = fields.iter().rposition(|(found, _)| is(found, name));
    let place = match last {
        Some(last) => {
            let before = fields.len();
            let mut at = 0;
            fields.retain(|(found, _)| {
                at += 1;
                at == last + 1 || !is(found, name)
            });
            last - (before - fields.len())
        }
        None => {
            fields.push((Cow::Owned(quoted(name)), Node::Object(Vec::new())));
            fields.len() - 1
        }
    };
    let (_, node) = fields.get_mut(place).expect("the place was found or made");
    node
}

/// Whether a name in quotes is the one that a pointer's token means.
fn is(quoted: &str, token: &str) -> bool {
    unquoted(quoted).is_some_and(|name| name == token)
}

/// An array's index as JSON Pointers write it: `0`, `17`, not `017`.
fn index(token: &str) -> Option<usize> {
    let index = token.parse().ok()?;
    (usize::to_string(&index) == token).then_some(index)
}

/// The text that a JSON string is; `None` when it is none.
pub fn unquoted(json: &str) -> Option<Cow<'_, str>> {
    match json.contains('\\') {
        false => json.strip_prefix('"')?.strip_suffix('"').map(Cow::Borrowed),
        true => serde_json::from_str(json).ok().map(Cow::Owned),
    }
}

/// A text as a JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn pointer(text: &str) -> Pointer {
        Pointer::new(text).expect(text)
    }

    fn text(node: &Node<'_>) -> String {
        let mut out = String::new();
        node.write(&mut out);
        out
    }

    const DOCUMENT: &str = r#"{ "b": 1.50, "a": {"x": [1, 2 ], "y": null}, "c\u0064": "\u00e9", "b": 2 }"#;

    #[test]
    fn gets_the_last_of_a_name() {
        let mut node = Node::parse(DOCUMENT).expect("json");
        let mut get = |at: &str| node.get(&pointer(at)).map(text);
        assert_eq!(get("/b").as_deref(), Some("2"));
        assert_eq!(get("/cd").as_deref(), Some(r#""\u00e9""#));
        assert_eq!(get("/a/x/1").as_deref(), Some("2"));
        assert_eq!(get("/a/x/01"), None);
        assert_eq!(get("/b/x"), None);
        assert!(get("").is_some());
        assert!(Node::parse("{").is_err());
    }

    #[test]
    fn takes_and_sets() {
        let check = |change: &dyn Fn(&mut Node<'_>), wanted: &str| {
            let mut node = Node::parse(DOCUMENT).expect("json");
            change(&mut node);
            assert_eq!(text(&node), wanted);
        };
        let set = |at: &'static str| {
            move |node: &mut Node<'_>| node.set(&pointer(at), Node::of_text("new")).expect(at)
        };
        check(&|_| (), r#"{"b":1.50,"a":{"x": [1, 2 ], "y": null},"c\u0064":"\u00e9","b":2}"#);
        check(
            &|node| assert!(node.take(&pointer("/b")).is_some()),
            r#"{"a":{"x": [1, 2 ], "y": null},"c\u0064":"\u00e9"}"#,
        );
        check(
            &|node| assert!(node.take(&pointer("/a/x/0")).is_some()),
            r#"{"b":1.50,"a":{"x":[2],"y":null},"c\u0064":"\u00e9","b":2}"#,
        );
        check(&set("/b"), r#"{"a":{"x": [1, 2 ], "y": null},"c\u0064":"\u00e9","b":"new"}"#);
        check(&set("/a/x/0"), r#"{"b":1.50,"a":{"x":["new",2],"y":null},"c\u0064":"\u00e9","b":2}"#);
        check(
            &set("/a/z/w"),
            r#"{"b":1.50,"a":{"x":[1, 2 ],"y":null,"z":{"w":"new"}},"c\u0064":"\u00e9","b":2}"#,
        );
        check(
            &|node| assert!(node.rename(&pointer("/a"), "b")),
            r#"{"b":{"x": [1, 2 ], "y": null},"c\u0064":"\u00e9"}"#,
        );
        check(
            &|node| assert!(node.rename(&pointer("/b"), "n")),
            r#"{"a":{"x": [1, 2 ], "y": null},"c\u0064":"\u00e9","n":2}"#,
        );
        let mut node = Node::parse(DOCUMENT).expect("json");
        assert_eq!(
            node.set(&pointer("/a/x/2"), Node::of_text("")),
            Err("/a/x/2 has no place: there is an array of 2 elements, without \"2\"".into())
        );
        assert_eq!(
            node.set(&pointer("/b/x"), Node::of_text("")),
            Err("/b/x has no place: \"/b\" is 2, not an object".into())
        );
        assert!(node.take(&pointer("/none")).is_none() && !node.rename(&pointer("/none"), "b"));
    }

    proptest! {
        #[test]
        fn what_is_set_is_there_and_the_rest_stays(
            map in prop::collection::btree_map("[a-c/~\"]{0,2}", prop::collection::btree_map("[a-c]", any::<i32>(), 0..3), 0..4),
            way in prop::collection::vec("[a-c/~\"]{0,2}", 1..3),
        ) {
            let document = json!(map);
            let at: String = way.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1"))).collect();
            let json = document.to_string();
            let mut node = Node::parse(&*json).expect("json");
            let mut wanted = document.clone();
            node.set(&pointer(&at), Node::of_text("new")).expect("objects of objects");
            let mut place = &mut wanted;
            for token in &way {
                place = &mut place[token.as_str()];
            }
            *place = json!("new");
            prop_assert_eq!(serde_json::from_str::<Value>(&text(&node)).expect("json"), wanted);
            let taken = node.take(&pointer(&at)).map(|node| text(&node));
            prop_assert_eq!(taken.as_deref(), Some("\"new\""));
        }
    }
}
