//! Keeping a selection of a document's fields. Their text is copied as it stands, so numbers and escapes survive.

use millstream_filter_predicate::{Level, Pointer};
use millstream_sdk::serde::de::Error;
use millstream_sdk::serde_json;

/// The fields to keep, as a tree.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    whole: bool,
    children: Vec<(String, Selection)>,
}

impl Selection {
    pub(crate) fn new(fields: &[Pointer]) -> Self {
        let mut selection = Self::default();
        fields.iter().for_each(|field| selection.add(field.tokens()));
        selection
    }

    fn add(&mut self, tokens: &[String]) {
        let Some((token, rest)) = tokens.split_first() else {
            self.whole = true;
            return;
        };
        match self.children.iter_mut().find(|(name, _)| name == token) {
            Some((_, child)) => child.add(rest),
            None => {
                let mut child = Self::default();
                child.add(rest);
                self.children.push((token.clone(), child));
            }
        }
    }

    /// The document with only the selected fields, in the document's order; an array keeps its selected elements. Of a
    /// document that is neither, nothing can be selected: `{}`.
    pub(crate) fn project(&self, json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
        let text = std::str::from_utf8(json).map_err(serde_json::Error::custom)?;
        let mut out = String::with_capacity(text.len());
        let level = Level::new(text)?;
        let some = self.write(text, &level, &mut out)?;
        if !some {
            out.push_str(if level.is_array { "[]" } else { "{}" });
        }
        Ok(out.into_bytes())
    }

    /// Writes what is selected of a level; answers whether anything was.
    fn write(&self, text: &str, level: &Level, out: &mut String) -> Result<bool, serde_json::Error> {
        let [open, close] = if level.is_array { ['[', ']'] } else { ['{', '}'] };
        let before = out.len();
        for (index, entry) in level.entries.iter().enumerate() {
            let Some((_, child)) = self.children.iter().find(|(token, _)| entry.is(index, token, text))
            else {
                continue;
            };
            let start = out.len();
            out.push(if start == before { open } else { ',' });
            if let Some(name) = entry.name.clone().and_then(|name| text.get(name)) {
                out.push_str(name);
                out.push(':');
            }
            let value = text.get(entry.value.clone()).unwrap_or_default();
            let some = match child.whole {
                true => {
                    out.push_str(value);
                    true
                }
                false => child.write(value, &Level::new(value)?, out)?,
            };
            if !some {
                out.truncate(start);
            }
        }
        let some = out.len() > before;
        if some {
            out.push(close);
        }
        Ok(some)
    }
}
