//! The order desk in Rust without an SDK: see the README one folder up for what it does.

wit_bindgen::generate!({ path: "../../../sdk/wit", world: "typed-module" });

use std::cell::OnceCell;

use millstream::module::log::{self, Level};
use millstream::module::types::{Fields, Header, Output, Part, Verdicts};
use serde_json::{Map, Value};

const NOTICES: &str = "orders.notices";

struct Config {
    region: String,
    review_over: f64,
    review_topic: String,
}

thread_local! {
    // An instance is configured once and has one thread.
    static CONFIG: OnceCell<Config> = const { OnceCell::new() };
}

struct OrderDesk;
export!(OrderDesk);

impl Guest for OrderDesk {
    fn configure(setup: Setup) -> Result<Spec, String> {
        // A trap says only "unreachable"; what is written at this level goes with it.
        std::panic::set_hook(Box::new(|info| log::write(Level::Panic, &info.to_string())));
        let config = Config::read(&setup.config)?;
        log::write(Level::Info, &format!("orders of {}", config.region));
        let topics = vec![config.review_topic.clone(), NOTICES.to_owned()];
        CONFIG.with(|cell| cell.set(config)).map_err(|_| "configured twice".to_owned())?;
        Ok(Spec { fields: Fields::PAYLOAD, verdicts: Verdicts::all(), topics })
    }

    fn process_records(_now: u64, records: Vec<Record>) -> Result<Vec<Verdict>, Failure> {
        CONFIG.with(|cell| {
            let config = cell.get().ok_or_else(|| Failure::Reject("not configured".to_owned()))?;
            Ok(records.iter().map(|record| judge(record, config)).collect())
        })
    }
}

impl Config {
    fn read(text: &str) -> Result<Self, String> {
        let mut fields: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("config: {error}"))?;
        let mut text = |name: &str, default: Option<&str>| match fields.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text),
            None if default.is_some() => Ok(default.unwrap_or_default().to_owned()),
            Some(other) => Err(format!("config field `{name}`: {other} is not a text with something in it")),
            None => Err(format!("config field `{name}` is missing")),
        };
        let region = text("region", None)?;
        let review_topic = text("review_topic", Some("orders.review"))?;
        let review_over = fields.remove("review_over").unwrap_or(Value::from(1000));
        let review_over = review_over
            .as_f64()
            .ok_or_else(|| format!("config field `review_over`: {review_over} is not a number"))?;
        match fields.keys().next() {
            Some(unknown) => Err(format!("config field `{unknown}` is unknown")),
            None => Ok(Self { region, review_over, review_topic }),
        }
    }
}

fn judge(record: &Record, config: &Config) -> Verdict {
    let header = |name: &str| record.headers.iter().find(|header| header.name == name).map(|it| &*it.value);
    assert!(header("crash").is_none(), "a record with the header `crash`");
    let Some(payload) = &record.payload else { return Verdict::Keep };
    if header("region").is_some_and(|region| region != config.region.as_bytes()) {
        return Verdict::Drop;
    }
    let Ok(Value::Object(order)) = serde_json::from_slice(payload) else {
        return Verdict::Reject("the payload is not a JSON object".to_owned());
    };
    let Some(total) = order.get("total").and_then(Value::as_f64) else {
        return Verdict::Reject("`total` is missing or not a number".to_owned());
    };
    if total > config.review_over {
        return Verdict::Route(vec![config.review_topic.clone()]);
    }
    if order.get("cancelled") == Some(&Value::Bool(true)) {
        return Verdict::Emit(vec![Output { payload: Part::Remove, ..same() }]);
    }
    if header("priority") == Some(b"express") {
        let mut headers = record.headers.clone();
        headers.push(Header { name: "handled".to_owned(), value: b"express".to_vec() });
        let notice = format!("express order {} of {}", record.offset, record.timestamp);
        return Verdict::Emit(vec![
            Output { headers: Some(headers), ..same() },
            Output {
                topic: Some(NOTICES.to_owned()),
                key: Part::Remove,
                headers: Some(Vec::new()),
                payload: Part::Set(notice.into_bytes()),
            },
        ]);
    }
    Verdict::Keep
}

/// An output that inherits everything.
fn same() -> Output {
    Output { topic: None, key: Part::Inherit, headers: None, payload: Part::Inherit }
}
