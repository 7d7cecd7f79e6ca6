//! Windows against sums that are made another way.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_sdk::prelude::*;
use millstream_sdk::{Stats, Window};

const TENS: Windows = Windows::tumbling("tens", Duration::from_millis(10)).lateness(Duration::from_millis(5));
const SLIDING: Windows = Windows::sliding("sliding", Duration::from_millis(30), Duration::from_millis(10));

fn told(windows: Vec<Window<Stats>>) -> Vec<Output> {
    let told = windows
        .into_iter()
        .map(|it| Output::json(&json!([it.start_ms, it.end_ms, it.value.sum])).with_key(it.key));
    told.collect()
}

fn of(record: &Record<'_>) -> (i64, f64) {
    record.json::<(i64, f64)>().expect("a time and a number")
}

#[processor]
fn tens(record: &Record<'_>, state: &mut State) -> Result<Vec<Output>, WindowError> {
    let (time, number) = of(record);
    TENS.update::<Stats>(state, record.key().unwrap_or_default(), time, |stats| stats.add(number))?;
    Ok(told(TENS.close(state)?))
}

#[processor]
fn sliding(record: &Record<'_>, state: &mut State) -> Result<Vec<Output>, WindowError> {
    let (time, number) = of(record);
    let updated = SLIDING.update::<Stats>(state, "all", time, |stats| stats.add(number))?;
    SLIDING.close::<Stats>(state)?;
    Ok(told(updated))
}

fn at(time: i64, number: i64) -> test::TestRecord {
    test::record().key("k").json((time, number))
}

fn emitted(verdicts: &[test::Verdict]) -> Vec<Value> {
    let outputs = verdicts.iter().flat_map(|verdict| match verdict {
        test::Verdict::Emit(outputs) => outputs.iter().map(test::Emitted::json).collect(),
        _ => Vec::new(),
    });
    outputs.collect()
}

#[test]
fn a_window_is_closed_once_its_lateness_is_over() {
    let verdicts =
        test::run::<tens>(json!({}), [at(1, 1), at(12, 2), at(14, 3), at(9, 4), at(15, 5), at(9, 6)]);
    assert_eq!(emitted(&verdicts), [json!([0, 10, 5.0])]);
    assert!(matches!(verdicts[4], test::Verdict::Emit(_)), "{verdicts:?}");
    let late = "it is 6 ms behind the latest record, and the windows that it lies in are closed";
    assert_eq!(verdicts[5].reason(), late);
    // Two at once, the older one first, and times before 1970.
    assert_eq!(
        emitted(&test::run_on::<tens>(json!({}), [at(26, 1), at(99, 7)])),
        [json!([10, 20, 10.0]), json!([20, 30, 1.0])]
    );
    assert_eq!(emitted(&test::run::<tens>(json!({}), [at(-1, 2), at(6, 0)])), [json!([-10, 0, 2.0])]);
}

#[test]
fn a_time_lies_in_each_sliding_window_over_it() {
    let verdicts = test::run::<sliding>(json!({}), [at(25, 1), at(31, 2)]);
    let first = [json!([0, 30, 1.0]), json!([10, 40, 1.0]), json!([20, 50, 1.0])];
    // The first one is closed by then.
    let second = [json!([10, 40, 3.0]), json!([20, 50, 3.0]), json!([30, 60, 2.0])];
    assert_eq!(emitted(&verdicts), [first, second].concat());
}

#[test]
fn what_is_closed_is_forgotten_and_all_sums_are_told() {
    // Any order that is late by 5 at most.
    let times: Vec<i64> = (0..2_000).map(|index| index + (index * 7) % 5).collect();
    let records = times.iter().map(|time| test::record().key(format!("k{}", time % 3)).json((time, 1)));
    let verdicts = test::run::<tens>(json!({}), records.chain([at(9_999, 0)]));
    let mut wanted = BTreeMap::<(i64, String), f64>::new();
    for time in &times {
        *wanted.entry((time - time % 10, format!("k{}", time % 3))).or_default() += 1.0;
    }
    let mut found = BTreeMap::new();
    for verdict in &verdicts {
        let test::Verdict::Emit(outputs) = verdict else { continue };
        for output in outputs {
            let (start, _, sum) = serde_json::from_value::<(i64, i64, f64)>(output.json()).unwrap();
            let key = String::from_utf8(output.key.clone().unwrap()).unwrap();
            assert_eq!(found.insert((start, key), sum), None, "told twice");
        }
    }
    assert_eq!(found, wanted);
    assert_eq!(test::state().len(), 2, "the time, and the last window");
}

#[test]
fn windows_of_many_keys_are_closed_bit_by_bit() {
    const KEYS: usize = 2_500;
    let keys = |end: usize| (0..end).map(|key| format!("{key:05}"));
    test::run::<tens>(json!({}), keys(KEYS).map(|key| test::record().key(key).json((0, 1))));
    // Three records close them; one between them begins a window that ends before others that are open.
    let records = [at(30, 0), at(26, 0), at(31, 0), at(60, 0)];
    let verdicts = test::run_on::<tens>(json!({}), records);
    let told: Vec<_> = verdicts
        .iter()
        .map(|verdict| match verdict {
            test::Verdict::Emit(outputs) => {
                outputs.iter().map(|output| output.key.clone().unwrap()).collect()
            }
            _ => Vec::new(),
        })
        .collect();
    assert_eq!(told.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 1_000, 500, 2]);
    let told: Vec<_> = told.concat().into_iter().map(|key| String::from_utf8(key).unwrap()).collect();
    assert!(told.iter().take(KEYS).cloned().eq(keys(KEYS)), "each once, in order");
    assert_eq!(test::state().len(), 2, "the time, and the last window");
}
