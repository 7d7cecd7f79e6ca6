//! One level of a JSON text, as places in it: for changing some of it and leaving the rest as it stands.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The entries of an object or the elements of an array, not parsed further; none for any other value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Level {
    /// In the text's order.
    pub entries: Vec<Entry>,
    /// Whether it is an object.
    pub is_object: bool,
    /// Whether it is an array.
    pub is_array: bool,
}

/// One entry or element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where its name stands, quotes included; `None` in an array.
    pub name: Option<Range<usize>>,
    /// Where its value stands.
    pub value: Range<usize>,
}

impl Level {
    /// Reads the outermost level of `text`, to its end.
    ///
    /// # Errors
    /// When `text` is not one JSON text.
    pub fn new(text: &str) -> Result<Self, serde_json::Error> {
        let mut parser = serde_json::Deserializer::from_str(text);
        let level = parser.deserialize_any(Reader { text })?;
        parser.end()?;
        Ok(level)
    }
}

impl Entry {
    /// From the start of its name, if it has one, to the end of its value.
    pub fn span(&self) -> Range<usize> {
        self.name.as_ref().map_or(self.value.start, |name| name.start)..self.value.end
    }

    /// Whether it is the one that a pointer's `token` means: by name, or by its `index` in an array.
    pub fn is(&self, index: usize, token: &str, text: &str) -> bool {
        let Some(name) = self.name.clone().and_then(|name| text.get(name)) else {
            return index.to_string() == token;
        };
        match name.contains('\\') {
            false => name.get(1..name.len() - 1) == Some(token),
            true => serde_json::from_str::<String>(name).is_ok_and(|name| name == token),
        }
    }
}

struct Reader<'t> {
    text: &'t str,
}

impl Reader<'_> {
    /// Where `part`, a slice of the text, stands.
    fn place(&self, part: &RawValue) -> Range<usize> {
        let start = part.get().as_ptr().addr() - self.text.as_ptr().addr();
        start..start + part.get().len()
    }
}

impl<'de> Visitor<'de> for Reader<'de> {
    type Value = Level;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Level, A::Error> {
        let mut level = Level { is_object: true, ..Level::default() };
        while let Some(name) = map.next_key::<&RawValue>()? {
            let value = map.next_value::<&RawValue>()?;
            level.entries.push(Entry { name: Some(self.place(name)), value: self.place(value) });
        }
        Ok(level)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Level, A::Error> {
        let mut level = Level { is_array: true, ..Level::default() };
        while let Some(value) = seq.next_element::<&RawValue>()? {
            level.entries.push(Entry { name: None, value: self.place(value) });
        }
        Ok(level)
    }

    fn visit_unit<E>(self) -> Result<Level, E> {
        Ok(Level::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Level, E> {
        Ok(Level::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Level, E> {
        Ok(Level::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Level, E> {
        Ok(Level::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Level, E> {
        Ok(Level::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Level, E> {
        Ok(Level::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_entries() {
        let text = " { \"a\" : [1, 2] , \"\\u0062\":\"x\"}";
        let level = Level::new(text).expect("json");
        let parts: Vec<(&str, &str)> = level
            .entries
            .iter()
            .map(|entry| (&text[entry.name.clone().expect("object")], &text[entry.value.clone()]))
            .collect();
        assert_eq!(parts, [("\"a\"", "[1, 2]"), ("\"\\u0062\"", "\"x\"")]);
        assert!(level.entries[1].is(1, "b", text));
        assert!(!level.entries[0].is(0, "0", text));
        let level = Level::new("[null, {}]").expect("json");
        assert_eq!(level.entries.iter().map(|entry| entry.value.clone()).collect::<Vec<_>>(), [1..5, 7..9]);
        assert!(level.entries[1].is(1, "1", text));
        for scalar in ["null", "1", "-1", "1.5", "\"x\"", "true"] {
            assert_eq!(Level::new(scalar).expect(scalar), Level::default());
        }
        for bad in ["", "{", "{} x", "{\"a\"}", "[1,]"] {
            assert!(Level::new(bad).is_err(), "{bad}");
        }
    }
}
