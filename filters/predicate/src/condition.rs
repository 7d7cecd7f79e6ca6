//! A compiled condition and its evaluation.

use memchr::memmem::Finder;
use millstream_sdk::same_bytes;

use crate::{Fields, Found, Number, PointerTree, Slot};

/// A condition over headers and JSON fields, compiled.
#[derive(Debug, Clone)]
pub struct Predicate {
    pub(crate) root: Condition,
    pub(crate) pointers: PointerTree,
}

#[derive(Debug, Clone)]
pub(crate) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Header(String, Vec<Test>),
    Field(Slot, Vec<Test>),
}

/// One operator with its operand.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    Equals(Operand),
    NotEquals(Operand),
    In(OneOf),
    Prefix(String),
    Suffix(String),
    Contains(Box<Finder<'static>>),
    Exists(bool),
    Gt(Number),
    Gte(Number),
    Lt(Number),
    Lte(Number),
}

#[derive(Debug, Clone)]
pub(crate) enum Operand {
    Text(String),
    Number(Number),
    Bool(bool),
}

/// The operands of `in`: texts sorted, since lists of names may be long.
#[derive(Debug, Clone, Default)]
pub(crate) struct OneOf {
    pub(crate) texts: Vec<String>,
    pub(crate) others: Vec<Operand>,
}

impl Predicate {
    /// The condition that everything meets.
    pub fn always() -> Self {
        Self { root: Condition::All(Vec::new()), pointers: PointerTree::default() }
    }

    /// The JSON fields it asks for.
    pub fn pointers(&self) -> &PointerTree {
        &self.pointers
    }

    /// Whether a record meets it: `header` answers the first header of a name, `fields` is what
    /// [`pointers`](Self::pointers) picked from the payload.
    #[inline]
    pub fn matches<'r>(&self, header: impl Fn(&str) -> Option<&'r [u8]>, fields: &Fields<'_>) -> bool {
        match &self.root {
            // What most conditions are: without a call.
            Condition::Header(name, tests) => header_holds(header(name), tests),
            other => other.holds(&header, fields),
        }
    }
}

impl Condition {
    fn holds<'r>(&self, header: &impl Fn(&str) -> Option<&'r [u8]>, fields: &Fields<'_>) -> bool {
        match self {
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(header, fields)),
            Self::Any(conditions) => conditions.iter().any(|condition| condition.holds(header, fields)),
            Self::Not(condition) => !condition.holds(header, fields),
            Self::Header(name, tests) => header_holds(header(name), tests),
            Self::Field(slot, tests) => tests.iter().all(|test| test.holds(fields.at(*slot))),
        }
    }
}

#[inline]
fn header_holds(found: Option<&[u8]>, tests: &[Test]) -> bool {
    match (tests, found) {
        ([Test::Equals(Operand::Text(operand))], Some(found)) => same_bytes(found, operand.as_bytes()),
        (tests, found) => {
            let found = found.map_or(Found::Missing, Found::Header);
            tests.iter().all(|test| test.holds(&found))
        }
    }
}

impl Test {
    fn holds(&self, found: &Found<'_>) -> bool {
        let text = |test: &dyn Fn(&[u8]) -> bool| found.text().is_some_and(test);
        let number = |test: &dyn Fn(Number) -> bool| found.number().is_some_and(test);
        match self {
            Self::Equals(operand) => operand.equals(found),
            Self::NotEquals(operand) => !operand.equals(found),
            Self::In(operands) => operands.contain(found),
            Self::Prefix(operand) => text(&|text| text.starts_with(operand.as_bytes())),
            Self::Suffix(operand) => text(&|text| text.ends_with(operand.as_bytes())),
            Self::Contains(operand) => text(&|text| operand.find(text).is_some()),
            Self::Exists(wanted) => *wanted != matches!(found, Found::Missing),
            Self::Gt(operand) => number(&|number| number > *operand),
            Self::Gte(operand) => number(&|number| number >= *operand),
            Self::Lt(operand) => number(&|number| number < *operand),
            Self::Lte(operand) => number(&|number| number <= *operand),
        }
    }
}

impl Operand {
    #[inline]
    fn equals(&self, found: &Found<'_>) -> bool {
        match self {
            Self::Text(operand) => found.text().is_some_and(|text| same_bytes(text, operand.as_bytes())),
            Self::Number(operand) => found.number() == Some(*operand),
            Self::Bool(operand) => found.bool() == Some(*operand),
        }
    }
}

impl OneOf {
    fn contain(&self, found: &Found<'_>) -> bool {
        let among = |text: &[u8]| self.texts.binary_search_by(|operand| operand.as_bytes().cmp(text)).is_ok();
        found.text().is_some_and(among) || self.others.iter().any(|operand| operand.equals(found))
    }
}
