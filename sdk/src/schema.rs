//! What a configuration looks like, as a JSON Schema (draft 2020-12), put together by the compiler: nothing of it is left
//! in the guest's code or data, only in the manifest's section.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::marker::PhantomData;
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};

use millstream_types::TopicName;
use serde_json::{Map, Value};

/// A text put together by the compiler.
#[derive(Debug, Clone, Copy)]
pub enum SchemaText {
    /// As it is.
    Text(&'static str),
    /// A number in digits.
    Number(usize),
    /// One after the other.
    Parts(&'static [SchemaText]),
    /// Those that are not empty, with commas between them.
    Joined(&'static [SchemaText]),
}

impl SchemaText {
    /// The schema that everything fits.
    pub const ANY: Self = Self::Text("{}");
    /// Nothing.
    pub const EMPTY: Self = Self::Text("");

    /// `self`, or nothing.
    #[must_use]
    pub const fn only_if(self, wanted: bool) -> Self {
        if wanted { self } else { Self::EMPTY }
    }

    /// Bytes of the text.
    #[expect(clippy::len_without_is_empty, reason = "`is_blank` has the const twin that is needed")]
    pub const fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Number(number) => digits(*number),
            Self::Parts(parts) => {
                let (mut len, mut rest) = (0, *parts);
                while let [first, after @ ..] = rest {
                    len += first.len();
                    rest = after;
                }
                len
            }
            Self::Joined(parts) => {
                let (mut len, mut rest) = (0, *parts);
                while let [first, after @ ..] = rest {
                    if first.len() > 0 {
                        len += first.len() + (len > 0) as usize;
                    }
                    rest = after;
                }
                len
            }
        }
    }

    /// The bytes of the text, which has `N` of them.
    pub const fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        let written = self.write(&mut out, 0);
        assert!(written == N, "a text has as many bytes as it says");
        out
    }

    const fn write<const N: usize>(&self, out: &mut [u8; N], at: usize) -> usize {
        match self {
            Self::Text(text) => put(out, at, text.as_bytes()),
            Self::Number(number) => {
                let end = at + digits(*number);
                let (mut rest, mut place) = (*number, end);
                while place > at {
                    place -= 1;
                    put(out, place, &[b'0' + (rest % 10) as u8]);
                    rest /= 10;
                }
                end
            }
            Self::Parts(parts) => {
                let (mut at, mut rest) = (at, *parts);
                while let [first, after @ ..] = rest {
                    at = first.write(out, at);
                    rest = after;
                }
                at
            }
            Self::Joined(parts) => {
                let (start, mut at, mut rest) = (at, at, *parts);
                while let [first, after @ ..] = rest {
                    if first.len() > 0 {
                        if at > start {
                            at = put(out, at, b",");
                        }
                        at = first.write(out, at);
                    }
                    rest = after;
                }
                at
            }
        }
    }
}

impl std::fmt::Display for SchemaText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Parts(parts) => parts.iter().try_for_each(|part| part.fmt(f)),
            Self::Joined(parts) => {
                let parts = parts.iter().filter(|part| part.len() > 0).enumerate();
                parts.into_iter().try_for_each(|(index, part)| {
                    if index > 0 {
                        f.write_str(",")?;
                    }
                    part.fmt(f)
                })
            }
        }
    }
}

/// Puts `bytes` at `at`; where they end.
const fn put(out: &mut [u8], at: usize, bytes: &[u8]) -> usize {
    let (_, rest) = out.split_at_mut(at);
    let (place, _) = rest.split_at_mut(bytes.len());
    place.copy_from_slice(bytes);
    at + bytes.len()
}

const fn digits(number: usize) -> usize {
    match number.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

/// A type of which it is known what its values look like in JSON. `#[derive(ModuleConfig)]` implements it; a field of a
/// type that does not have it may be anything.
pub trait ConfigSchema {
    /// The members of the schema, without braces.
    const MEMBERS: SchemaText;
    /// Whether a field of this type may be left out, as serde has it.
    const OPTIONAL: bool = false;
    /// The default value as JSON; empty where that is not known.
    const DEFAULT: &'static str = "";
    /// What it has, if it is an object of named fields: for `#[serde(flatten)]`.
    const FIELDS: Option<SchemaFields> = None;
}

/// The named fields of an object.
#[derive(Debug, Clone, Copy)]
pub struct SchemaFields {
    /// The members of `properties`.
    pub properties: SchemaText,
    /// The entries of `required`.
    pub required: SchemaText,
}

/// Asks whether `T` is a [`ConfigSchema`]: where it is, these constants hide those of [`Unknown`].
#[derive(Debug)]
pub struct Probe<T>(PhantomData<T>);

impl<T: ConfigSchema> Probe<T> {
    /// Those of `T`.
    pub const MEMBERS: SchemaText = T::MEMBERS;
    /// Those of `T`.
    pub const OPTIONAL: bool = T::OPTIONAL;
    /// Those of `T`.
    pub const DEFAULT: &'static str = T::DEFAULT;
    /// Those of `T`.
    pub const FIELDS: Option<SchemaFields> = T::FIELDS;
}

/// What is said of a type that is not a [`ConfigSchema`].
pub trait Unknown {
    /// Anything.
    const MEMBERS: SchemaText = SchemaText::EMPTY;
    /// It may, for all that is known.
    const OPTIONAL: bool = true;
    /// Not known.
    const DEFAULT: &'static str = "";
    /// Not known.
    const FIELDS: Option<SchemaFields> = None;
}

impl<T> Unknown for Probe<T> {}

macro_rules! plain {
    ($($ty:ty: $members:literal, $default:literal;)*) => {
        $(impl ConfigSchema for $ty {
            const MEMBERS: SchemaText = SchemaText::Text($members);
            const DEFAULT: &'static str = $default;
        })*
    };
}

plain! {
    bool: r#""type":"boolean""#, "false";
    char: r#""type":"string","minLength":1,"maxLength":1"#, "";
    String: r#""type":"string""#, r#""""#;
    Box<str>: r#""type":"string""#, r#""""#;
    TopicName: r#""type":"string","minLength":1,"maxLength":255"#, "";
    Value: "", "null";
    Map<String, Value>: r#""type":"object""#, "{}";
    f32: r#""type":"number""#, "0";
    f64: r#""type":"number""#, "0";
    u8: r#""type":"integer","minimum":0,"maximum":255"#, "0";
    u16: r#""type":"integer","minimum":0,"maximum":65535"#, "0";
    u32: r#""type":"integer","minimum":0,"maximum":4294967295"#, "0";
    u64: r#""type":"integer","minimum":0"#, "0";
    usize: r#""type":"integer","minimum":0"#, "0";
    i8: r#""type":"integer","minimum":-128,"maximum":127"#, "0";
    i16: r#""type":"integer","minimum":-32768,"maximum":32767"#, "0";
    i32: r#""type":"integer","minimum":-2147483648,"maximum":2147483647"#, "0";
    i64: r#""type":"integer""#, "0";
    isize: r#""type":"integer""#, "0";
    NonZeroU8: r#""type":"integer","minimum":1,"maximum":255"#, "";
    NonZeroU16: r#""type":"integer","minimum":1,"maximum":65535"#, "";
    NonZeroU32: r#""type":"integer","minimum":1,"maximum":4294967295"#, "";
    NonZeroU64: r#""type":"integer","minimum":1"#, "";
    NonZeroUsize: r#""type":"integer","minimum":1"#, "";
    (): r#""type":"null""#, "null";
}

/// `"items":{...}` of a list.
const fn list(items: &'static [SchemaText; 3]) -> SchemaText {
    SchemaText::Parts(items)
}

macro_rules! lists {
    ($($ty:ident),*) => {
        $(impl<T: ConfigSchema> ConfigSchema for $ty<T> {
            const MEMBERS: SchemaText = list(&[SchemaText::Text(r#""type":"array","items":{"#), T::MEMBERS, SchemaText::Text("}")]);
            const DEFAULT: &'static str = "[]";
        })*
    };
}

lists!(Vec, VecDeque, BTreeSet);

impl<T: ConfigSchema, S> ConfigSchema for HashSet<T, S> {
    const MEMBERS: SchemaText = Vec::<T>::MEMBERS;
    const DEFAULT: &'static str = "[]";
}

impl<T: ConfigSchema, const N: usize> ConfigSchema for [T; N] {
    const MEMBERS: SchemaText = SchemaText::Parts(&[
        Vec::<T>::MEMBERS,
        SchemaText::Text(r#","minItems":"#),
        SchemaText::Number(N),
        SchemaText::Text(r#","maxItems":"#),
        SchemaText::Number(N),
    ]);
}

impl<V: ConfigSchema> ConfigSchema for BTreeMap<String, V> {
    const MEMBERS: SchemaText = SchemaText::Parts(&[
        SchemaText::Text(r#""type":"object","additionalProperties":{"#),
        V::MEMBERS,
        SchemaText::Text("}"),
    ]);
    const DEFAULT: &'static str = "{}";
}

impl<V: ConfigSchema, S> ConfigSchema for HashMap<String, V, S> {
    const MEMBERS: SchemaText = BTreeMap::<String, V>::MEMBERS;
    const DEFAULT: &'static str = "{}";
}

impl<T: ConfigSchema> ConfigSchema for Option<T> {
    const MEMBERS: SchemaText = match T::MEMBERS.len() {
        0 => SchemaText::EMPTY,
        _ => SchemaText::Parts(&[
            SchemaText::Text(r#""anyOf":[{"#),
            T::MEMBERS,
            SchemaText::Text(r#"},{"type":"null"}]"#),
        ]),
    };
    const OPTIONAL: bool = true;
    const DEFAULT: &'static str = "null";
    const FIELDS: Option<SchemaFields> = match T::FIELDS {
        Some(SchemaFields { properties, .. }) => {
            Some(SchemaFields { properties, required: SchemaText::EMPTY })
        }
        None => None,
    };
}

impl<T: ConfigSchema> ConfigSchema for Box<T> {
    const MEMBERS: SchemaText = T::MEMBERS;
    const OPTIONAL: bool = T::OPTIONAL;
    const DEFAULT: &'static str = T::DEFAULT;
    const FIELDS: Option<SchemaFields> = T::FIELDS;
}

impl ConfigSchema for Cow<'static, str> {
    const MEMBERS: SchemaText = String::MEMBERS;
    const DEFAULT: &'static str = r#""""#;
}

macro_rules! tuples {
    ($($count:literal: $first:ident $($name:ident)*;)*) => {
        $(impl<$first: ConfigSchema, $($name: ConfigSchema),*> ConfigSchema for ($first, $($name,)*) {
            const MEMBERS: SchemaText = SchemaText::Parts(&[
                SchemaText::Text(r#""type":"array","prefixItems":[{"#),
                $first::MEMBERS,
                $(SchemaText::Text("},{"), $name::MEMBERS,)*
                SchemaText::Text(r#"}],"minItems":"#),
                SchemaText::Number($count),
                SchemaText::Text(r#","maxItems":"#),
                SchemaText::Number($count),
            ]);
        })*
    };
}

tuples! {
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
}
