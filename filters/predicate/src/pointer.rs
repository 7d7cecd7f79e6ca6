//! JSON Pointers (RFC 6901), parsed.

use std::fmt;

/// A JSON Pointer: `/card/number`; the empty one means the whole document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer {
    tokens: Vec<String>,
}

impl Pointer {
    /// Parses `text`.
    ///
    /// # Errors
    /// A text that says what is wrong and what to write.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self { tokens: Vec::new() });
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("{text:?} is not a JSON Pointer: write \"/{text}\""));
        };
        let tokens = rest.split('/').map(|token| unescape(token).ok_or(token)).collect::<Result<_, _>>();
        tokens.map(|tokens| Self { tokens }).map_err(|token| {
            format!("{text:?} is not a JSON Pointer: in {token:?}, write `~0` for `~` and `~1` for `/`")
        })
    }

    /// Parses `text` as a field: a pointer, or the name of a field at the top level.
    ///
    /// # Errors
    /// As [`new`](Self::new), and for the empty text.
    pub fn of_field(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("names no field: write its name, or a JSON Pointer such as \"/card/number\"".into()),
            _ if text.starts_with('/') => Self::new(text),
            _ => Ok(Self { tokens: vec![text.to_owned()] }),
        }
    }

    /// The pointer to the field `name` of what this one leads to.
    pub fn child(&self, name: &str) -> Self {
        let mut child = self.clone();
        child.tokens.push(name.to_owned());
        child
    }

    /// The names and indexes it goes through.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tokens.iter().try_for_each(|token| write!(f, "/{}", token.replace('~', "~0").replace('/', "~1")))
    }
}

fn unescape(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (escaped, rest) = match part.as_bytes().first()? {
            b'0' => ('~', part.get(1..)?),
            b'1' => ('/', part.get(1..)?),
            _ => return None,
        };
        out.push(escaped);
        out.push_str(rest);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers() {
        let tokens = |text: &str| Pointer::new(text).expect(text).tokens().to_vec();
        assert!(tokens("").is_empty());
        assert_eq!(tokens("/"), [""]);
        assert_eq!(tokens("/a~1b/~0/0"), ["a/b", "~", "0"]);
        for text in ["", "/", "/a~1b/~0/0", "/dep_delay"] {
            assert_eq!(Pointer::new(text).expect(text).to_string(), text);
        }
        let error = Pointer::new("dep_delay").expect_err("no slash");
        assert!(error.ends_with("write \"/dep_delay\""), "{error}");
        assert!(Pointer::new("/a~2").is_err());
        assert!(Pointer::new("/a~").is_err());
        assert_eq!(Pointer::of_field("a~b"), Pointer::new("/a~0b"));
        assert!(Pointer::of_field("").is_err());
    }
}
