//! Values as conditions see them: what was found, and how it compares.

use std::borrow::Cow;
use std::cmp::Ordering;

/// What stands at a pointer or in a header.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Found<'a> {
    /// Nothing, or null.
    #[default]
    Missing,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A JSON string.
    Text(Cow<'a, str>),
    /// A header's bytes: text, number or bool, as the operand asks.
    Header(&'a [u8]),
    /// An array or an object.
    Composite,
}

/// A number as JSON has them. Integers of 64 bits compare exactly, others as `f64`.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// An integer.
    Integer(i128),
    /// Any other number; never NaN.
    Float(f64),
}

impl Number {
    /// The number that a header's text is: JSON's form, and also `+1`, `1.` and `.5`; not `inf` or `nan`.
    pub fn of_text(text: &[u8]) -> Option<Self> {
        if !matches!(text.first()?, b'0'..=b'9' | b'-' | b'+' | b'.') {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        if let Ok(integer) = text.parse::<i64>() {
            return Some(Self::Integer(i128::from(integer)));
        }
        let float = text.parse::<f64>().ok()?;
        float.is_finite().then_some(Self::Float(float))
    }

    /// The number that a JSON number is.
    pub fn of_json(number: &serde_json::Number) -> Option<Self> {
        number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .map(Self::Integer)
            .or_else(|| number.as_f64().map(Self::Float))
    }

    #[expect(clippy::cast_precision_loss, reason = "a float is compared with a float")]
    fn as_f64(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Float(float) => float,
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(b)),
            (a, b) => a.as_f64().partial_cmp(&b.as_f64()),
        }
    }
}

impl Found<'_> {
    /// The bytes to search in: a string's or a header's.
    pub(crate) fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text.as_bytes()),
            Self::Header(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The number, also the one that a header's text is.
    pub(crate) fn number(&self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Header(bytes) => Number::of_text(bytes),
            _ => None,
        }
    }

    /// The bool, also the one that a header's text is.
    pub(crate) fn bool(&self) -> Option<bool> {
        match self {
            Self::Bool(found) => Some(*found),
            Self::Header(b"true") => Some(true),
            Self::Header(b"false") => Some(false),
            _ => None,
        }
    }

    /// The value written out, for a name made of it; `None` when missing or composite, or for bytes that are no text.
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Missing | Self::Composite => None,
            Self::Bool(found) => Some(Cow::Borrowed(if *found { "true" } else { "false" })),
            Self::Number(Number::Integer(integer)) => Some(Cow::Owned(integer.to_string())),
            Self::Number(Number::Float(float)) => Some(Cow::Owned(float.to_string())),
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Header(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_numbers() {
        let number = |text: &str| Number::of_text(text.as_bytes());
        assert_eq!(number("60"), Some(Number::Float(60.0)));
        assert_eq!(number("-0.5e1"), Some(Number::Integer(-5)));
        assert_eq!(number("18446744073709551615"), Some(Number::Float(18446744073709551615.0)));
        for none in ["", "inf", "nan", "-inf", "6o", " 6", "1e999", "--1"] {
            assert_eq!(number(none), None, "{none}");
        }
    }

    #[test]
    fn large_integers_compare_exactly() {
        let (a, b) = (Number::Integer(9_007_199_254_740_993), Number::Integer(9_007_199_254_740_992));
        assert!(a > b);
        assert_ne!(a, b);
    }
}
