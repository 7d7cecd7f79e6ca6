//! Picking the values at some pointers out of a JSON text in one pass; all else is skipped unbuilt.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{Found, Number, Pointer};

/// Pointers merged into one tree, so that a text is read once for all of them.
#[derive(Debug, Clone, Default)]
pub struct PointerTree {
    root: Node,
    slots: usize,
}

/// Where the value of a pointer stands in [`Fields`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

#[derive(Debug, Clone, Default)]
struct Node {
    slot: Option<usize>,
    children: Vec<(String, Node)>,
}

/// The values found in one text.
#[derive(Debug, Clone, Default)]
pub struct Fields<'a>(Vec<Found<'a>>);

impl PointerTree {
    /// Adds a pointer, or finds it there.
    pub fn add(&mut self, pointer: &Pointer) -> Slot {
        let slot = self.root.add(pointer.tokens(), self.slots);
        self.slots = self.slots.max(slot + 1);
        Slot(slot)
    }

    /// Whether there are no pointers.
    pub fn is_empty(&self) -> bool {
        self.slots == 0
    }

    /// The values at the pointers in `json`, which is read to its end.
    ///
    /// # Errors
    /// When `json` is not one JSON text. Invalid escapes in values that are skipped go unnoticed.
    pub fn pick<'a>(&self, json: &'a [u8]) -> Result<Fields<'a>, serde_json::Error> {
        let mut found = Fields(vec![Found::Missing; self.slots]);
        let text = std::str::from_utf8(json).map_err(serde_json::Error::custom)?;
        let mut parser = serde_json::Deserializer::from_str(text);
        Picker { node: &self.root, found: &mut found.0 }.deserialize(&mut parser)?;
        parser.end()?;
        Ok(found)
    }
}

impl<'a> Fields<'a> {
    /// The value at the pointer that got `slot`.
    pub fn at(&self, slot: Slot) -> &Found<'a> {
        self.0.get(slot.0).unwrap_or(&Found::Missing)
    }
}

impl Node {
    /// The slot of the node that `tokens` lead to: its own, or `free` if it had none.
    fn add(&mut self, tokens: &[String], free: usize) -> usize {
        let Some((token, rest)) = tokens.split_first() else {
            return *self.slot.get_or_insert(free);
        };
        match self.children.iter_mut().find(|(name, _)| name == token) {
            Some((_, child)) => child.add(rest, free),
            None => {
                let mut child = Self::default();
                let slot = child.add(rest, free);
                self.children.push((token.clone(), child));
                slot
            }
        }
    }

    fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|(child, _)| child == name).map(|(_, node)| node)
    }

    /// Forgets what stood under a name that comes again: the last one counts.
    fn clear(&self, found: &mut [Found<'_>]) {
        if let Some(place) = self.slot.and_then(|slot| found.get_mut(slot)) {
            *place = Found::Missing;
        }
        self.children.iter().for_each(|(_, child)| child.clear(found));
    }
}

struct Picker<'n, 'f, 'de> {
    node: &'n Node,
    found: &'f mut [Found<'de>],
}

impl<'de> Picker<'_, '_, 'de> {
    fn set(self, value: Found<'de>) {
        if let Some(place) = self.node.slot.and_then(|slot| self.found.get_mut(slot)) {
            *place = value;
        }
    }
}

impl<'de> DeserializeSeed<'de> for Picker<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Picker<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.set(Found::Bool(value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.set(Found::Number(Number::Integer(i128::from(value))));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.set(Found::Number(Number::Integer(i128::from(value))));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.set(Found::Number(Number::Float(value)));
        Ok(())
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<(), E> {
        self.set(Found::Text(Cow::Borrowed(value)));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.set(Found::Text(Cow::Owned(value.to_owned())));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(child) = map.next_key_seed(Key(self.node))? {
            match child {
                Some(node) => {
                    node.clear(self.found);
                    map.next_value_seed(Picker { node, found: self.found })?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        self.set(Found::Composite);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for index in 0_usize.. {
            let node = if self.node.children.is_empty() { None } else { self.node.child(&index.to_string()) };
            let more = match node {
                Some(node) => seq.next_element_seed(Picker { node, found: self.found })?.is_some(),
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        self.set(Found::Composite);
        Ok(())
    }
}

/// Reads a name and answers the child that has it.
struct Key<'n>(&'n Node);

impl<'de, 'n> DeserializeSeed<'de> for Key<'n> {
    type Value = Option<&'n Node>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for Key<'n> {
    type Value = Option<&'n Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.child(name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn reference(value: Option<&Value>) -> Found<'static> {
        match value {
            None | Some(Value::Null) => Found::Missing,
            Some(Value::Bool(found)) => Found::Bool(*found),
            Some(Value::Number(number)) => Found::Number(Number::of_json(number).expect("finite")),
            Some(Value::String(text)) => Found::Text(Cow::Owned(text.clone())),
            Some(Value::Array(_) | Value::Object(_)) => Found::Composite,
        }
    }

    fn check(json: &str, pointers: &[&str]) {
        let mut tree = PointerTree::default();
        let slots: Vec<Slot> =
            pointers.iter().map(|pointer| tree.add(&Pointer::new(pointer).expect(pointer))).collect();
        let found = tree.pick(json.as_bytes()).expect(json);
        let value: Value = serde_json::from_str(json).expect(json);
        for (pointer, slot) in pointers.iter().zip(slots) {
            assert_eq!(*found.at(slot), reference(value.pointer(pointer)), "{pointer} of {json}");
        }
    }

    #[test]
    fn picks_what_a_full_parse_finds() {
        let json =
            r#"{"a": {"b": [1, -2.5, {"c": "x"}], "d": null}, "e": true, "f\u0041": "\u00fc", "/": 1e400}"#;
        let json = &json.replace("1e400", "1e40");
        check(
            json,
            &["", "/a", "/a/b", "/a/b/0", "/a/b/1", "/a/b/2/c", "/a/b/3", "/a/d", "/e", "/fA", "/~1", "/x/y"],
        );
        check("[[1], 2]", &["/0/0", "/1", "/00", "/-", ""]);
        check("\"text\"", &["", "/a"]);
        check("null", &["", "/a"]);
    }

    #[test]
    fn of_repeated_names_the_last_counts() {
        check(r#"{"a": {"b": 1}, "a": {"c": 2}, "x": 1, "x": 2}"#, &["/a/b", "/a/c", "/x"]);
        check(r#"{"a": {"b": 1}, "a": null}"#, &["/a", "/a/b"]);
    }

    #[test]
    fn refuses_what_is_not_json() {
        let mut tree = PointerTree::default();
        tree.add(&Pointer::new("/a").expect("pointer"));
        for bad in ["", "{", r#"{"a": 1} x"#, r#"{"a": 1,}"#, "{'a': 1}", r#"{"b": tru}"#, r#"{"a": 01}"#] {
            assert!(tree.pick(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(tree.pick(b"{\"b\": \"\xff\"}").is_err());
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e12..1e12_f64).prop_map(Value::from),
            "[a-c\"\\\\/~\u{e9}]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c/~\"]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_full_parse(
            value in json(),
            paths in prop::collection::vec(prop::collection::vec("[a-c/~\"]{0,2}|[0-3]", 0..4), 1..6),
        ) {
            let pointers: Vec<String> = paths
                .iter()
                .map(|path| path.iter().map(|t| format!("/{}", t.replace('~', "~0").replace('/', "~1"))).collect())
                .collect();
            let pointers: Vec<&str> = pointers.iter().map(String::as_str).collect();
            check(&value.to_string(), &pointers);
            check(&serde_json::to_string_pretty(&value).expect("json"), &pointers);
        }
    }
}
