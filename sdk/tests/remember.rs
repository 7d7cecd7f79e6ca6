//! What is remembered, and for how long.

use std::collections::HashMap;
use std::time::Duration;

use millstream_sdk::prelude::*;
use millstream_sdk::{Count, Dedup, Latest, Stats, TopK};
use proptest::prelude::*;

const SEEN: Dedup = Dedup::new("seen", Duration::from_millis(100));
const CUSTOMERS: Latest = Latest::new("customers");

#[processor(reads = "headers")]
fn once(record: &Record<'_>, state: &mut State) -> Option<Output> {
    SEEN.is_first(state, record.key()?, record.timestamp()).then(Output::same)
}

#[processor]
fn join(record: &Record<'_>, state: &mut State) -> Result<Option<Output>, PayloadError> {
    if record.topic() == "customers" {
        CUSTOMERS.note(state, record);
        return Ok(None);
    }
    let customer: Option<Value> = CUSTOMERS.json_of(state, record.key().unwrap_or_default())?;
    Ok(customer
        .map(|customer| Output::json(&json!({ "order": record.json::<Value>().ok(), "customer": customer }))))
}

#[processor]
fn fails(record: &Record<'_>, state: &mut State) -> Result<(), String> {
    millstream_sdk::count(state, "records").map_err(|error| error.to_string())?;
    if record.payload() == b"bad" { Err("it is bad".into()) } else { Ok(()) }
}

#[processor(reads = "headers")]
fn puts(record: &Record<'_>, state: &mut State) {
    state.put(record.key().unwrap_or_default(), "old");
}

fn at(key: &str, time: i64) -> test::TestRecord {
    test::record().key(key.to_owned()).timestamp(time)
}

#[test]
fn a_key_is_seen_once_within_the_time() {
    let (keep, drop) = (test::Verdict::Keep, test::Verdict::Drop);
    let verdicts = test::run::<once>(
        json!({}),
        [at("a", 1_000), at("a", 1_050), at("b", 1_050), at("a", 1_100), at("a", 1_101)],
    );
    assert_eq!(verdicts, [keep.clone(), drop.clone(), keep.clone(), keep, drop]);
}

#[test]
fn what_was_seen_long_ago_is_forgotten() {
    test::run::<once>(json!({}), (0..1_000).map(|key| at(&key.to_string(), 1_000 + key)));
    assert!(test::state().len() <= 2 * 101, "{}", test::state().len());
}

proptest! {
    /// Whatever is seen, and however much of it at one time: each is let through as often as it should be, and all of it
    /// is forgotten in the end.
    #[test]
    fn many_of_one_time_are_told_apart_and_forgotten(steps in prop::collection::vec((0..200u8, 0..40i64), 1..400)) {
        let mut time = 1_000;
        let records: Vec<_> = steps.into_iter().map(|(key, step)| {
            // Most come at the same time as those before.
            time += if step < 36 { 0 } else { step };
            (key.to_string(), time)
        }).collect();
        let mut seen = HashMap::new();
        let wanted: Vec<_> = records.iter().map(|(key, time)| {
            let is_first = seen.get(key).is_none_or(|seen| *time >= seen + 100);
            if is_first {
                seen.insert(key.clone(), *time);
                test::Verdict::Keep
            } else {
                test::Verdict::Drop
            }
        }).collect();
        prop_assert_eq!(test::run::<once>(json!({}), records.iter().map(|(key, time)| at(key, *time))), wanted);
        // One entry each of the last hundred, with its time, and how far it was forgotten.
        test::run_on::<once>(json!({}), (0..300).map(|key| at(&format!("late{key}"), 9_999_000 + key)));
        prop_assert!(test::state().len() <= 2 * 100 + 1, "{}", test::state().len());
    }
}

#[test]
fn an_order_is_joined_with_the_latest_customer() {
    let customer = |name: &str| test::record().topic("customers").key("7").json(json!({ "name": name }));
    let order = |id: u32| test::record().topic("orders").key("7").json(id);
    let verdicts = test::run::<join>(
        json!({}),
        [order(0), customer("Ann"), order(1), customer("Bea"), order(2), customer("").tombstone(), order(3)],
    );
    let names: Vec<_> = verdicts
        .iter()
        .map(|verdict| match verdict {
            test::Verdict::Emit(outputs) => outputs[0].json()["customer"]["name"].as_str().map(str::to_owned),
            _ => None,
        })
        .collect();
    assert_eq!(names, [None, None, Some("Ann".into()), None, Some("Bea".into()), None, None]);
}

#[test]
fn what_is_written_for_a_rejected_record_does_not_count() {
    let records = ["good", "bad", "good"].map(|payload| test::record().payload(payload));
    let verdicts = test::run::<fails>(json!({}), records);
    assert_eq!(verdicts[1].reason(), "it is bad");
    assert_eq!(test::state().get(b"records".as_slice()).map(Vec::as_slice), Some(b"2".as_slice()));
}

#[test]
fn a_scan_sees_what_was_written_for_the_record() {
    test::run::<puts>(json!({}), ["a1", "a3", "b1"].map(|key| test::record().key(key)));
    let mut state = State::open();
    state.put("a2", "new");
    state.put("a3", "new");
    state.delete("a1");
    state.put("a9", "new");
    let keys = |limit| {
        state.scan("a", limit).into_iter().map(|(key, value)| [key, value].concat()).collect::<Vec<_>>()
    };
    assert_eq!(keys(9), [b"a2new", b"a3new", b"a9new"]);
    assert_eq!(keys(1), [b"a2new"]);
    assert_eq!((state.get("a1"), state.get("a3")), (None, Some(b"new".to_vec())));
    assert_eq!(state.scan("c", 9), []);
}

#[test]
fn numbers() {
    let mut stats = Stats::default();
    assert_eq!(stats.mean(), None);
    [3.0, -1.0, 4.0].into_iter().for_each(|number| stats.add(number));
    assert_eq!((stats.count, stats.min, stats.max, stats.mean()), (3, -1.0, 4.0, Some(2.0)));
    let mut top = TopK::<2>::default();
    for (name, number) in [("a", 1.0), ("b", 2.0), ("c", 2.0), ("a", 3.0), ("d", 0.0)] {
        top.put(name, number);
    }
    assert_eq!(top.iter().collect::<Vec<_>>(), [("a", 3.0), ("b", 2.0)]);
    let text = serde_json::to_string(&(Count(3), &top)).unwrap();
    assert_eq!(text, r#"[3,[["a",3.0],["b",2.0]]]"#);
    assert_eq!(serde_json::from_str::<(Count, TopK<2>)>(&text).unwrap(), (Count(3), top));
}
