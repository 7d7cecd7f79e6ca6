//! The module on the host, without a broker; what it answers in all cases is the conformance suite's.

use super::*;
use test::Verdict::{Drop, Keep};

#[test]
fn judges_orders() {
    let order = |total: f64| test::record().header("region", "eu").json(json!({"total": total}));
    let verdicts = test::run::<order_desk>(json!({"region": "us"}), [order(10.0)]);
    assert_eq!(verdicts, [Drop]);
    let verdicts = test::run::<order_desk>(json!({"region": "eu"}), [order(10.0), order(2000.0)]);
    assert_eq!(verdicts[0], Keep);
    assert_eq!(verdicts[1].emitted().topic.as_deref(), Some("orders.review"));
}
