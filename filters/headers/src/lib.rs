//! `std/headers`: keeps the records whose headers meet a condition. Payloads are not copied in.

use millstream_filter_predicate::{Fields, HEADER_CONDITION, OPERATORS, Predicate, Reach};
use millstream_sdk::prelude::*;
use millstream_sdk::{SchemaText, parse_config};

/// The condition.
#[derive(Debug, Clone)]
pub struct Config {
    predicate: Predicate,
}

impl ModuleConfig for Config {
    const SCHEMA: SchemaText = SchemaText::Parts(&[
        SchemaText::Text(
            r##"{"description": "The condition on headers that records must meet", "$ref": "#/$defs/condition",
            "$defs": {"condition": {"type": "object", "additionalProperties": false,
            "description": "A condition on headers; for fields of the payload use std/json", "properties": {"##,
        ),
        SchemaText::Joined(&[SchemaText::Text(HEADER_CONDITION), SchemaText::Text(OPERATORS)]),
        SchemaText::Text("}}}}"),
    ]);

    fn from_json(json: &str) -> Result<Self, String> {
        let config: Value = parse_config(json)?;
        let predicate = Predicate::parse(&config, "config", Reach::Headers)?;
        Ok(Self { predicate })
    }
}

/// Keeps the records that meet the condition.
#[filter(name = "std/headers", reads = "headers")]
pub fn headers(record: &Record, config: &Config) -> bool {
    config.predicate.matches(|name| record.header_bytes(name), &Fields::default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use test::Verdict::{Drop, Keep};

    #[test]
    fn keeps_what_meets_the_condition() {
        let config = json!({"all": [
            {"header": "carrier", "in": ["UA", "AA"]},
            {"any": [{"header": "delay", "gt": 60}, {"header": "cancelled", "exists": true}]},
        ]});
        let verdicts = test::run::<headers>(
            config,
            [
                test::record().header("carrier", "UA").header("delay", "61"),
                test::record().header("carrier", "UA").header("delay", "60"),
                test::record().header("carrier", "DL").header("delay", "61"),
                test::record().header("cancelled", "").header("carrier", "AA"),
                test::record(),
                test::record().tombstone(),
            ],
        );
        assert_eq!(verdicts, [Keep, Drop, Drop, Keep, Drop, Drop]);
    }

    #[test]
    fn the_first_of_headers_with_one_name_counts() {
        let record = test::record().header("a", "1").header("a", "2");
        assert_eq!(test::run::<headers>(json!({"header": "a", "equals": 2}), [record]), [Drop]);
    }

    #[test]
    fn header_values_need_not_be_text() {
        let record = || test::record().header("id", vec![0xff, 0x00]);
        let verdict = |config| test::run::<headers>(config, [record()]);
        assert_eq!(verdict(json!({"header": "id", "exists": true})), [Keep]);
        assert_eq!(verdict(json!({"header": "id", "equals": "x"})), [Drop]);
        assert_eq!(verdict(json!({"header": "id", "not_equals": "x"})), [Keep]);
    }

    #[test]
    fn announces_what_it_does() {
        let spec = test::configure::<headers>(json!({"header": "a", "exists": true})).expect("config");
        assert!(!spec.reads_payload && !spec.verdicts.emit && !spec.verdicts.reject);
        assert!(spec.topics.is_empty());
    }

    #[test]
    fn refuses_bad_conditions() {
        let error = |config: Value| test::configure::<headers>(config).expect_err("refused");
        assert!(error(json!({})).starts_with("config: is no condition"));
        assert!(error(json!({"pointer": "/a", "gt": 1})).contains("use std/json"));
        assert!(error(json!({"header": "a", "equals": 1, "slect": []})).contains("no such operator"));
        assert!(error(json!([])).starts_with("config: [] is not a condition"));
    }

    proptest! {
        #[test]
        fn a_condition_and_its_negation_split_the_records(values in prop::collection::vec("[a-c]{0,3}", 1..20), operand in "[a-c]{0,2}") {
            for operator in ["equals", "not_equals", "prefix", "suffix", "contains"] {
                let condition = json!({"header": "v", operator: operand});
                let records = || values.iter().map(|value| test::record().header("v", value.clone()));
                let kept = test::run::<headers>(&condition, records());
                let dropped = test::run::<headers>(json!({"not": condition}), records());
                for (value, (kept, dropped)) in values.iter().zip(kept.iter().zip(dropped)) {
                    let holds = match operator {
                        "equals" => *value == operand,
                        "not_equals" => *value != operand,
                        "prefix" => value.starts_with(&operand),
                        "suffix" => value.ends_with(&operand),
                        _ => value.contains(&operand),
                    };
                    prop_assert_eq!(kept, if holds { &Keep } else { &Drop });
                    prop_assert_eq!(dropped, if holds { Drop } else { Keep });
                }
            }
        }
    }
}
