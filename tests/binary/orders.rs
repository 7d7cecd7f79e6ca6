//! The shop of examples/orders, with few orders: its own checks must hold. A test target of that package, so that cargo
//! builds its binary.

use std::process::Command;

use millstream_tests::{millstream, run};

#[test]
fn the_books_of_the_orders_demo_balance() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_orders-demo"));
    let said = run(demo.arg(millstream()).args(["--orders", "120", "--json"]), "").ok();
    let said: serde_json::Value = serde_json::from_str(&said).expect("one JSON object");
    assert_eq!((&said["holds"], &said["orders"]), (&true.into(), &120.into()));
    let figure = |name: &str| said[name].as_u64().unwrap_or_else(|| panic!("no {name}: {said}"));
    let ends = figure("posted") + figure("express_shipped") + figure("cancelled");
    assert_eq!(ends, 120, "{said}");
    assert!(figure("redriven") > 0 && figure("express_shipped") > 0 && figure("cancelled") > 0, "{said}");
    let services = said["services"].as_array().expect("a list");
    let died = services.iter().filter(|service| service["killed"] == 1);
    assert_eq!((services.len(), died.count()), (4, 2));
}
