//! What picking fields and testing a condition costs natively, beside a parse into a `Value`: ns a document.
//!
//! `cargo run --release -p millstream-filter-predicate --example predicate-cost`

#![expect(clippy::print_stdout, reason = "its figures are what it is for")]

use std::hint::black_box;
use std::time::Instant;

use millstream_filter_predicate::{Predicate, Reach};
use serde_json::{Value, json};

const FLIGHT: &str = r#"{"year":2013,"month":1,"day":1,"dep_time":517,"sched_dep_time":515,"dep_delay":2,"arr_time":830,"sched_arr_time":819,"arr_delay":11,"carrier":"UA","flight":1545,"tailnum":"N14228","origin":"EWR","dest":"IAH","air_time":227,"distance":1400,"hour":5,"minute":15,"time_hour":"2013-01-01T10:00:00Z"}"#;

fn main() {
    let padded = FLIGHT.replace("}", &format!(r#","remarks":"{}"}}"#, "x".repeat(1024 - FLIGHT.len() - 13)));
    let one = json!({"pointer": "/dep_delay", "gt": 60});
    let one = Predicate::parse(&one, "config", Reach::HeadersAndJson).expect("a condition");
    for document in [FLIGHT, &padded] {
        let picked = best(|| {
            let fields = one.pointers().pick(document.as_bytes()).expect("json");
            black_box(one.matches(|_| None, &fields));
        });
        let parsed = best(|| {
            let value: Value = serde_json::from_str(document).expect("json");
            black_box(value.pointer("/dep_delay").and_then(Value::as_f64).is_some_and(|delay| delay > 60.0));
        });
        println!("{} bytes: picked {picked} ns, parsed in full {parsed} ns", document.len());
    }
}

fn best(mut run: impl FnMut()) -> u128 {
    let mut round = || {
        let start = Instant::now();
        (0..10_000).for_each(|_| run());
        start.elapsed().as_nanos() / 10_000
    };
    (0..9).map(|_| round()).min().unwrap_or_default()
}
