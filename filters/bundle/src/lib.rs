//! The stock modules as WASM components, compiled by this crate's build script and embedded.

/// One stock module.
#[derive(Debug, Clone, Copy)]
pub struct Stock {
    /// As in `std/headers`.
    pub name: &'static str,
    /// Its version, that of this crate.
    pub version: &'static str,
    /// The component.
    pub wasm: &'static [u8],
}

/// Every stock module.
pub fn stock() -> &'static [Stock] {
    &STOCK
}

/// A module that keeps every record, the least that one can cost; `{"payload": true}` has payloads copied in,
/// `{"spin": N}` uses CPU time up.
pub fn floor() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/floor.wasm"))
}

macro_rules! stock {
    ($($name:literal),*) => {
        [$(Stock {
            name: concat!("std/", $name),
            version: env!("CARGO_PKG_VERSION"),
            wasm: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm")),
        }),*]
    };
}

static STOCK: [Stock; 12] = stock!(
    "headers", "json", "route", "redact", "cel", "sample", "schema", "enrich", "flatten", "rename", "dedup",
    "throttle"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_a_component_that_says_the_same_of_itself() {
        assert_eq!(
            stock().iter().map(|module| module.name).collect::<Vec<_>>(),
            [
                "std/headers",
                "std/json",
                "std/route",
                "std/redact",
                "std/cel",
                "std/sample",
                "std/schema",
                "std/enrich",
                "std/flatten",
                "std/rename",
                "std/dedup",
                "std/throttle"
            ]
        );
        for module in stock() {
            let manifest = millstream_guest_build::manifest(module.wasm).expect(module.name);
            for (field, value) in [("name", module.name), ("version", module.version)] {
                assert!(manifest.contains(&format!("\"{field}\":\"{value}\"")), "{manifest}");
            }
            let state = if ["std/dedup", "std/throttle"].contains(&module.name) {
                r#","source","state""#
            } else {
                ""
            };
            assert!(manifest.starts_with(&format!(r#"{{"capabilities":["log"{state}]"#)), "{manifest}");
            let bytes_max = match module.name {
                // A parser, an interpreter and regular expressions.
                "std/cel" => 3 << 20,
                // A validator with the formats of texts, and regular expressions.
                "std/schema" => 5 << 19,
                _ => 1 << 20,
            };
            assert!(module.wasm.len() < bytes_max, "{} has {} bytes", module.name, module.wasm.len());
        }
    }
}
