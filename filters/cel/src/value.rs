//! Between records, JSON and CEL: only what an expression reads is built.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional, CelString,
    CelUInt,
};
use cel::common::value::Val;
use millstream_sdk::Record;
use millstream_sdk::serde_json;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::needs::Needs;

type Boxed<'v> = Box<dyn Val + 'v>;

/// A text, or bytes where they are none.
pub(crate) fn of_bytes<'a>(bytes: &'a [u8]) -> Boxed<'a> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Box::new(CelString::from(text)),
        Err(_) => Box::new(CelBytes::from(bytes)),
    }
}

/// The headers that are read; of those with one name the first, as everywhere.
pub(crate) fn headers<'a>(record: &Record<'a>, needs: &Needs) -> Boxed<'a> {
    let mut headers: HashMap<CelMapKey<'a>, Boxed<'a>> = HashMap::new();
    if needs.is_whole() {
        for (name, value) in record.headers() {
            headers.entry(CelMapKey::String(name.into())).or_insert_with(|| of_bytes(value));
        }
    } else {
        let found = needs.names().filter_map(|name| Some((name, record.header_bytes(name)?)));
        headers
            .extend(found.map(|(name, value)| (CelMapKey::String(name.to_owned().into()), of_bytes(value))));
    }
    Box::new(CelMap::from(headers))
}

/// The payload, of whose objects only the fields that are read are built.
pub(crate) fn parse<'a>(payload: &'a [u8], needs: &Needs) -> Result<Boxed<'a>, String> {
    let parse = || {
        let text = std::str::from_utf8(payload).map_err(serde_json::Error::custom)?;
        let mut parser = serde_json::Deserializer::from_str(text);
        let value = Builder(needs).deserialize(&mut parser)?;
        parser.end()?;
        Ok::<Boxed<'a>, serde_json::Error>(value)
    };
    parse().map_err(|error| format!("the payload is not JSON: {error}"))
}

struct Builder<'n>(&'n Needs);

impl<'de> DeserializeSeed<'de> for Builder<'_> {
    type Value = Boxed<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Boxed<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Builder<'_> {
    type Value = Boxed<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Boxed<'de>, E> {
        Ok(Box::new(CelNull))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Boxed<'de>, E> {
        Ok(Box::new(CelBool::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Boxed<'de>, E> {
        Ok(Box::new(CelInt::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Boxed<'de>, E> {
        Ok(match i64::try_from(value) {
            Ok(value) => Box::new(CelInt::from(value)),
            Err(_) => Box::new(CelUInt::from(value)),
        })
    }

    fn visit_f64<E>(self, value: f64) -> Result<Boxed<'de>, E> {
        Ok(Box::new(CelDouble::from(value)))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Boxed<'de>, E> {
        Ok(Box::new(CelString::from(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Boxed<'de>, E> {
        Ok(Box::new(CelString::from(value.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Boxed<'de>, A::Error> {
        let mut fields: HashMap<CelMapKey<'de>, Boxed<'de>> = HashMap::new();
        while let Some(field) = map.next_key_seed(Name(self.0))? {
            match field {
                // Of a name that comes again, the last counts.
                Some((needs, name)) => {
                    let value = map.next_value_seed(Builder(needs))?;
                    fields.insert(CelMapKey::String(name.into()), value);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Box::new(CelMap::from(fields)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Boxed<'de>, A::Error> {
        let mut elements: Vec<Boxed<'de>> = Vec::new();
        if self.0.is_whole() {
            while let Some(element) = seq.next_element_seed(Builder(self.0))? {
                elements.push(element);
            }
        } else {
            // A name leads nowhere in an array, so its elements do not matter.
            while seq.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(Box::new(CelList::from(elements)))
    }
}

/// Reads a name, and answers it if its field is read.
struct Name<'n>(&'n Needs);

impl<'de, 'n> DeserializeSeed<'de> for Name<'n> {
    type Value = Option<(&'n Needs, Cow<'de, str>)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, 'n> Visitor<'de> for Name<'n> {
    type Value = Option<(&'n Needs, Cow<'de, str>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(self.0.child(name).map(|needs| (needs, Cow::Borrowed(name))))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.child(name).map(|needs| (needs, Cow::Owned(name.to_owned()))))
    }
}

/// A result as JSON, keys in order; or why it has no JSON.
pub(crate) fn to_json(value: &dyn Val) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &dyn Val, out: &mut Vec<u8>) -> Result<(), String> {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        write_text(text.inner(), out)?;
    } else if let Some(int) = value.downcast_ref::<CelInt>() {
        out.extend(int.inner().to_string().as_bytes());
    } else if let Some(double) = value.downcast_ref::<CelDouble>() {
        if !double.inner().is_finite() {
            return Err(format!("has the number {}, which JSON has not", double.inner()));
        }
        serde_json::to_writer(out, double.inner()).map_err(|error| error.to_string())?;
    } else if let Some(bool) = value.downcast_ref::<CelBool>() {
        out.extend(bool.inner().to_string().as_bytes());
    } else if let Some(uint) = value.downcast_ref::<CelUInt>() {
        out.extend(uint.inner().to_string().as_bytes());
    } else if value.downcast_ref::<CelNull>().is_some() {
        out.extend(b"null");
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        out.push(b'[');
        for (index, element) in list.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write(element.as_ref(), out)?;
        }
        out.push(b']');
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        write_map(map, out)?;
    } else {
        return Err(no_json(value));
    }
    Ok(())
}

fn write_map(map: &CelMap<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    out.push(b'{');
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match key {
            CelMapKey::String(key) => write_text(key.inner(), out)?,
            CelMapKey::Int(key) => write_text(&key.inner().to_string(), out)?,
            CelMapKey::UInt(key) => write_text(&key.inner().to_string(), out)?,
            CelMapKey::Bool(key) => write_text(&key.inner().to_string(), out)?,
        }
        out.push(b':');
        write(value.as_ref(), out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(out, text).map_err(|error| error.to_string())
}

fn no_json(value: &dyn Val) -> String {
    let remedy = if value.downcast_ref::<CelBytes<'_>>().is_some() {
        ": write string(...) or base64.encode(...) around them"
    } else if value.downcast_ref::<CelOptional<'_>>().is_some() {
        ": add .orValue(...)"
    } else {
        ""
    };
    format!("has {}, which JSON has not{remedy}", kind(value))
}

/// What a value is, for a message.
pub(crate) fn kind(value: &dyn Val) -> String {
    match value.get_type().name() {
        "string" => "a text".to_owned(),
        "int" | "uint" | "double" => "a number".to_owned(),
        "null_type" => "null".to_owned(),
        "bytes" => "bytes".to_owned(),
        name => format!("a value of type {name}"),
    }
}
