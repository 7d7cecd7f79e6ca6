//! The four subscriptions: what each binds, and what it must bring.

use crate::flights::Flights;

/// One subscription.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) module: &'static str,
    pub(crate) config: &'static str,
    /// Whether its records go to topics instead of to its reader.
    pub(crate) routes: bool,
    /// Records out, by plain CSV reading.
    pub(crate) expected: u64,
}

/// `NAME@VERSION` of the module that the demo builds and pushes.
pub(crate) const OWN_MODULE: &str = "late-departures@0.1.0";
/// Topics of the router begin so.
pub(crate) const CARRIER_TOPICS: &str = "flights.";

/// All four.
pub(crate) fn plans(flights: &Flights) -> [Plan; 4] {
    [
        Plan {
            name: "united",
            module: "std/headers",
            config: r#"{"header": "carrier", "equals": "UA"}"#,
            routes: false,
            expected: flights.of_carrier("UA"),
        },
        Plan {
            name: "late-from-jfk",
            module: "std/json",
            config: concat!(
                r#"{"all": [{"pointer": "/origin", "equals": "JFK"}, {"pointer": "/dep_delay", "gt": 60}], "#,
                r#""select": ["carrier", "flight", "dest", "dep_delay"]}"#,
            ),
            routes: false,
            expected: flights.late_from("JFK", 60),
        },
        Plan {
            name: "by-carrier",
            module: "std/route",
            config: r#"{"template": "flights.{carrier}"}"#,
            routes: true,
            expected: flights.rows.len() as u64,
        },
        Plan {
            name: "late-from-lga",
            module: OWN_MODULE,
            config: r#"{"origin": "LGA", "over_minutes": 60}"#,
            routes: false,
            expected: flights.late_from("LGA", 60),
        },
    ]
}
