//! The module on the host, without a broker.

use super::*;
use test::Verdict::{Drop, Reject};

fn flight(origin: &str, dep_delay: Option<i64>) -> test::TestRecord {
    test::record().key("N14228").json(json!({
        "year": 2013, "month": 1, "day": 1, "dep_time": 517, "dep_delay": dep_delay, "carrier": "UA", "flight": 1545,
        "tailnum": "N14228", "origin": origin, "dest": "IAH", "time_hour": "2013-01-01T10:00:00Z",
    }))
}

#[test]
fn keeps_late_departures_from_the_airport_as_a_summary() {
    let verdicts = test::run::<late_departures>(
        json!({"origin": "JFK"}),
        [flight("JFK", Some(61)), flight("JFK", Some(60)), flight("LGA", Some(61)), flight("JFK", None)],
    );
    let summary = verdicts[0].emitted();
    let wanted = json!({"flight": "UA1545", "origin": "JFK", "dest": "IAH", "minutes_late": 61});
    assert_eq!(summary.json(), wanted);
    assert_eq!(summary.key.as_deref(), Some(b"N14228".as_slice()));
    assert_eq!(verdicts[1..], [Drop, Drop, Drop]);
}

#[test]
fn the_bound_is_configurable() {
    let config = json!({"origin": "JFK", "over_minutes": 0});
    let verdicts = test::run::<late_departures>(config, [flight("JFK", Some(1)), flight("JFK", Some(0))]);
    assert_eq!(verdicts[0].emitted().json()["minutes_late"], 1);
    assert_eq!(verdicts[1], Drop);
}

#[test]
fn rejects_what_is_no_flight() {
    let records = [test::record().payload("late"), test::record().json(json!({"origin": "JFK"}))];
    let verdicts = test::run::<late_departures>(json!({"origin": "JFK"}), records);
    assert!(verdicts[0].reason().starts_with("the payload is not JSON: "), "{verdicts:?}");
    assert!(verdicts[1].reason().contains("missing field `dest`"), "{verdicts:?}");
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Reject(_))));
}

#[test]
fn refuses_bad_configurations_by_field() {
    let check = |config: Value, wanted: &str| {
        let error = test::configure::<late_departures>(config).expect_err(wanted);
        assert!(error.starts_with(wanted), "{error}");
    };
    check(json!({}), "config: missing field `origin`");
    check(
        json!({"origin": "JFK", "minutes": 5}),
        "config field `minutes`: unknown field `minutes`, expected",
    );
    check(
        json!({"origin": "JFK", "over_minutes": "60"}),
        "config field `over_minutes`: invalid type: string",
    );
    check(json!({"origin": "Kennedy"}), "config: `origin` is \"Kennedy\": give an airport's three letters");
}
