//! The order desk, with the SDK: see the README one folder up for what it does.

use millstream_sdk::prelude::*;

/// What the desk is responsible for.
#[derive(ModuleConfig)]
pub struct Config {
    /// Orders of other regions are dropped.
    region: String,
    /// An order of more than this is sent to be reviewed.
    #[config(default = 1000.0)]
    review_over: f64,
    /// Where it is sent.
    #[serde(default = "review")]
    review_topic: TopicName,
}

fn review() -> TopicName {
    TopicName::new("orders.review").expect("a topic name")
}

impl Config {
    fn validate(&self) -> Result<(), String> {
        log::info!("orders of {}", self.region);
        if self.region.is_empty() { Err("`region` is empty: name one".to_owned()) } else { Ok(()) }
    }

    fn topics(&self) -> Vec<String> {
        vec![self.review_topic.as_str().to_owned(), NOTICES.to_owned()]
    }
}

const NOTICES: &str = "orders.notices";

/// Judges one order.
#[flat_map(topics_from = Config::topics)]
pub fn order_desk(record: &Record, config: &Config) -> Result<Vec<Output>, &'static str> {
    assert!(record.header_bytes("crash").is_none(), "a record with the header `crash`");
    if record.is_tombstone() {
        return Ok(vec![Output::same()]);
    }
    if record.header_bytes("region").is_some_and(|region| region != config.region.as_bytes()) {
        return Ok(vec![]);
    }
    let order: Value = record.json().map_err(|_| "the payload is not a JSON object")?;
    let order = order.as_object().ok_or("the payload is not a JSON object")?;
    let total = order.get("total").and_then(Value::as_f64).ok_or("`total` is missing or not a number")?;
    if total > config.review_over {
        return Ok(vec![Output::same().to_topic(config.review_topic.as_str())]);
    }
    if order.get("cancelled") == Some(&Value::Bool(true)) {
        return Ok(vec![Output::tombstone()]);
    }
    if record.header_bytes("priority") == Some(b"express") {
        let notice = format!("express order {} of {}", record.offset(), record.timestamp());
        return Ok(vec![
            Output::same().add_header("handled", "express"),
            Output::payload(notice).without_key().without_headers().to_topic(NOTICES),
        ]);
    }
    Ok(vec![Output::same()])
}

#[cfg(test)]
mod tests;
