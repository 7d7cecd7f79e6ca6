//! The module on the host, without a broker.

use super::*;
use test::Verdict::{Drop, Reject};

fn flight(carrier: &str, time_hour: &str, dep_delay: Option<i64>) -> test::TestRecord {
    test::record().key(carrier.to_owned()).json(json!({
        "carrier": carrier, "flight": 1545, "dep_delay": dep_delay, "origin": "EWR", "time_hour": time_hour,
    }))
}

#[test]
fn each_flight_tells_its_hour_anew() {
    let ten = "2013-01-01T10:00:00Z";
    let verdicts = test::run::<carrier_hours>(
        json!({}),
        [
            flight("UA", ten, Some(2)),
            flight("AA", ten, Some(5)),
            flight("UA", ten, Some(-4)),
            flight("UA", ten, None),
            flight("UA", "2013-01-01T11:00:00Z", Some(1)),
        ],
    );
    let told = |index: usize| (verdicts[index].emitted().key.clone(), verdicts[index].emitted().json());
    let hour = json!({ "carrier": "UA", "hour": ten, "flights": 2, "minutes": -2.0, "worst": 2.0 });
    assert_eq!(told(2), (Some(b"UA 2013-01-01T10:00:00Z".to_vec()), hour));
    assert_eq!((told(1).1["flights"].as_u64(), told(4).1["flights"].as_u64()), (Some(1), Some(1)));
    assert_eq!(verdicts[3], Drop);
}

#[test]
fn what_is_no_flight_is_rejected() {
    let records = [test::record().payload("?"), flight("UA", "noon", Some(1))];
    for verdict in test::run::<carrier_hours>(json!({}), records) {
        assert!(matches!(verdict, Reject(_)), "{verdict:?}");
    }
    assert!(test::state().is_empty());
}
