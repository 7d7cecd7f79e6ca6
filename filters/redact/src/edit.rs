//! Editing a JSON text in place: only the fields named are touched.

use std::ops::Range;

use millstream_filter_predicate::{Level, Pointer};
use millstream_sdk::serde_json;

/// What happens to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Mask,
    Remove,
}

/// Which fields are masked or removed.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    root: Node,
    mask: String,
}

#[derive(Debug, Clone, Default)]
struct Node {
    action: Option<Action>,
    children: Vec<(String, Node)>,
}

/// A part of the text that goes, and what comes in its place.
struct Edit<'p> {
    range: Range<usize>,
    with: &'p str,
}

impl Plan {
    pub(crate) fn new(mask_with: &str) -> Self {
        Self { root: Node::default(), mask: serde_json::Value::from(mask_with).to_string() }
    }

    pub(crate) fn add(&mut self, field: &Pointer, action: Action) {
        self.root.add(field.tokens(), action);
    }

    /// The text with the fields masked and removed; `None` when it has none of them.
    pub(crate) fn apply(&self, text: &str) -> Result<Option<String>, serde_json::Error> {
        let mut edits = Vec::new();
        self.collect(&self.root, text, 0, &mut edits)?;
        if edits.is_empty() {
            return Ok(None);
        }
        let mut out = String::with_capacity(text.len() + edits.len() * self.mask.len());
        let mut copied = 0;
        for Edit { range, with } in edits {
            out.push_str(text.get(copied..range.start).unwrap_or_default());
            out.push_str(with);
            copied = range.end;
        }
        out.push_str(text.get(copied..).unwrap_or_default());
        Ok(Some(out))
    }

    /// Adds the edits within `text`, which stands at `at` of the document, in ascending order.
    fn collect<'p>(
        &'p self,
        node: &Node,
        text: &str,
        at: usize,
        edits: &mut Vec<Edit<'p>>,
    ) -> Result<(), serde_json::Error> {
        let level = Level::new(text)?;
        // End of the last entry that stays, or that was removed together with the comma before it.
        let mut behind: Option<usize> = None;
        for (index, entry) in level.entries.iter().enumerate() {
            let child = node.children.iter().find(|(token, _)| entry.is(index, token, text));
            let end = entry.value.end;
            match child.map(|(_, child)| (child.action, child)) {
                Some((Some(Action::Remove), _)) => {
                    let next = level.entries.get(index + 1).map_or(end, |next| next.span().start);
                    // One comma goes with it: the one before, or, for the first that stays, the one after.
                    let gone = match behind {
                        Some(behind) => behind..end,
                        None => entry.span().start..next,
                    };
                    edits.push(Edit { range: at + gone.start..at + gone.end, with: "" });
                    behind = behind.map(|_| end);
                    continue;
                }
                Some((Some(Action::Mask), _)) => {
                    edits.push(Edit { range: at + entry.value.start..at + end, with: &self.mask });
                }
                Some((None, child)) => {
                    let value = text.get(entry.value.clone()).unwrap_or_default();
                    self.collect(child, value, at + entry.value.start, edits)?;
                }
                None => {}
            }
            behind = Some(end);
        }
        Ok(())
    }
}

impl Node {
    fn add(&mut self, tokens: &[String], action: Action) {
        let Some((token, rest)) = tokens.split_first() else {
            self.action = Some(action);
            return;
        };
        match self.children.iter_mut().find(|(name, _)| name == token) {
            Some((_, child)) => child.add(rest, action),
            None => {
                let mut child = Self::default();
                child.add(rest, action);
                self.children.push((token.clone(), child));
            }
        }
    }
}
