//! A table as it is written: each name once. Of two that are the same JSON readers take the last, and nobody is told.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use millstream_sdk::serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use millstream_sdk::{ConfigSchema, SchemaText};

/// What stands under each name.
#[derive(Debug, Clone)]
pub(crate) struct Table<V>(pub(crate) BTreeMap<String, V>);

impl<V: ConfigSchema> ConfigSchema for Table<V> {
    const MEMBERS: SchemaText = BTreeMap::<String, V>::MEMBERS;
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Table<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

struct Entries<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
    type Value = Table<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table<V>, A::Error> {
        let mut table = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, V>()? {
            if table.contains_key(&name) {
                let shown: String = name.chars().take(60).collect();
                return Err(A::Error::custom(format!("{shown:?} is in it twice: leave one of them out")));
            }
            table.insert(name, value);
        }
        Ok(Table(table))
    }
}
