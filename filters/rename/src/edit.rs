//! Taking the steps on one record.

use millstream_filter_predicate::{Node, Pointer, unquoted};
use millstream_sdk::prelude::*;

use crate::config::{Config, OnMissing, Place, Step};

/// The record after all steps.
pub(crate) fn edit(record: &Record<'_>, config: &Config) -> Result<Output, String> {
    let mut edited = Edited::new(record, config.reads_payload())?;
    for step in &config.steps {
        let (from, there) = match step {
            Step::Move { from, to } => (from, edited.moved(from, to)?),
            Step::Copy { from, to } => {
                let value = edited.get(from);
                (from, edited.put(to, value)?)
            }
            Step::Drop(from) => (from, edited.take(from).is_some()),
        };
        if !there && config.on_missing == OnMissing::Reject {
            return Err(format!("{from} is missing"));
        }
    }
    Ok(edited.output())
}

/// A record being changed.
struct Edited<'a> {
    /// `None` without a payload, or where no step asks for it.
    document: Option<Node<'a>>,
    document_changed: bool,
    headers: Vec<(String, Vec<u8>)>,
    headers_changed: bool,
}

/// A value on its way.
enum Moving<'a> {
    Field(Node<'a>),
    Header(Vec<u8>),
}

impl<'a> Edited<'a> {
    fn new(record: &Record<'a>, reads_payload: bool) -> Result<Self, String> {
        let document = match reads_payload && !record.is_tombstone() {
            true => {
                let text = record.text().map_err(|error| error.to_string())?;
                Some(Node::parse(text).map_err(|error| format!("the payload is not JSON: {error}"))?)
            }
            false => None,
        };
        let headers = record.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        Ok(Self { document, document_changed: false, headers, headers_changed: false })
    }

    fn output(self) -> Output {
        let output = match self.document {
            Some(document) if self.document_changed => {
                let mut out = String::new();
                document.write(&mut out);
                Output::payload(out)
            }
            _ => Output::same(),
        };
        match self.headers_changed {
            true => self
                .headers
                .into_iter()
                .fold(output.without_headers(), |output, (name, value)| output.add_header(name, value)),
            false => output,
        }
    }

    fn get(&mut self, place: &Place) -> Option<Moving<'a>> {
        match place {
            Place::Field(pointer) => self.document.as_mut()?.get(pointer).cloned().map(Moving::Field),
            Place::Header(name) => {
                let (_, value) = self.headers.iter().find(|(found, _)| found == name)?;
                Some(Moving::Header(value.clone()))
            }
        }
    }

    /// Takes the value out; of a header, every one of its name goes, and the first is answered.
    fn take(&mut self, place: &Place) -> Option<Moving<'a>> {
        match place {
            Place::Field(pointer) => {
                let taken = self.document.as_mut()?.take(pointer)?;
                self.document_changed = true;
                Some(Moving::Field(taken))
            }
            Place::Header(name) => {
                let taken = self.get(place)?;
                self.headers.retain(|(found, _)| found != name);
                self.headers_changed = true;
                Some(taken)
            }
        }
    }

    /// Answers whether there was something to move. What keeps its parent keeps its place there.
    fn moved(&mut self, from: &Place, to: &Place) -> Result<bool, String> {
        match (from, to, &mut self.document) {
            (Place::Field(from), Place::Field(to), Some(document)) if are_siblings(from, to) => {
                let name = to.tokens().last().map(String::as_str).unwrap_or_default();
                if document.rename(from, name) {
                    self.document_changed = true;
                    return Ok(true);
                }
            }
            (Place::Header(from), Place::Header(to), _) => return Ok(self.rename_header(from, to)),
            _ => {}
        }
        let taken = self.take(from);
        self.put(to, taken)
    }

    fn rename_header(&mut self, from: &str, to: &str) -> bool {
        let there = self.headers.iter().any(|(name, _)| name == from);
        if there {
            self.headers.retain(|(name, _)| name != to);
            self.headers
                .iter_mut()
                .filter(|(name, _)| name == from)
                .for_each(|(name, _)| *name = to.to_owned());
            self.headers_changed = true;
        }
        there
    }

    /// Puts the value, if there is one, in place of what is there; answers whether there was one.
    fn put(&mut self, to: &Place, value: Option<Moving<'a>>) -> Result<bool, String> {
        let Some(value) = value else { return Ok(false) };
        match to {
            Place::Field(pointer) => {
                // A record without a payload stays one.
                let Some(document) = &mut self.document else { return Ok(true) };
                document.set(pointer, field(value)?)?;
                self.document_changed = true;
            }
            Place::Header(name) => {
                self.headers.retain(|(found, _)| found != name);
                self.headers.push((name.clone(), header(value)));
                self.headers_changed = true;
            }
        }
        Ok(true)
    }
}

fn field(value: Moving<'_>) -> Result<Node<'_>, String> {
    match value {
        Moving::Field(node) => Ok(node),
        Moving::Header(bytes) => match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Node::of_text(text)),
            Err(error) => Err(format!("a header cannot become a field: it is no text: {error}")),
        },
    }
}

/// A text as it is, anything else as its JSON.
fn header(value: Moving<'_>) -> Vec<u8> {
    match value {
        Moving::Header(bytes) => bytes,
        Moving::Field(node) => {
            let mut json = String::new();
            node.write(&mut json);
            unquoted(&json).map(|text| text.as_bytes().to_vec()).unwrap_or_else(|| json.into_bytes())
        }
    }
}

fn are_siblings(a: &Pointer, b: &Pointer) -> bool {
    let parent = |pointer: &Pointer| pointer.tokens().split_last().map(|(_, parent)| parent.to_vec());
    parent(a) == parent(b)
}
