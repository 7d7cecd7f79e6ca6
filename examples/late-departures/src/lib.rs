//! A Millstream module, written as a user would: of flights, keep the departures from one airport that left late, and
//! send on a summary of a few fields instead of the whole record.

use millstream_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// What a departure is late by, and where from.
#[derive(ModuleConfig)]
pub struct Config {
    /// IATA code of the airport, as in `JFK`.
    origin: String,
    /// A departure later than this many minutes is late.
    #[serde(default = "an_hour")]
    over_minutes: i64,
}

fn an_hour() -> i64 {
    60
}

impl Config {
    fn validate(&self) -> Result<(), String> {
        match self.origin.len() == 3 && self.origin.bytes().all(|byte| byte.is_ascii_uppercase()) {
            true => Ok(()),
            false => {
                Err(format!("`origin` is {:?}: give an airport's three letters, as in \"JFK\"", self.origin))
            }
        }
    }
}

/// The fields of a flight that are read; the others are skipped.
#[derive(Deserialize)]
struct Flight<'a> {
    origin: &'a str,
    dest: &'a str,
    carrier: &'a str,
    flight: u32,
    /// Minutes; a flight that was cancelled has none.
    dep_delay: Option<i64>,
}

/// What subscribers get.
#[derive(Serialize)]
struct LateDeparture<'a> {
    flight: String,
    origin: &'a str,
    dest: &'a str,
    minutes_late: i64,
}

/// Keeps late departures, as a summary.
#[map]
pub fn late_departures(
    record: &Record,
    config: &Config,
) -> Result<Option<Output>, impl std::fmt::Display + use<>> {
    record.json().map(|flight: Flight| {
        let minutes_late = flight.dep_delay.filter(|delay| *delay > config.over_minutes)?;
        if flight.origin != config.origin {
            return None;
        }
        let summary = LateDeparture {
            flight: format!("{}{}", flight.carrier, flight.flight),
            origin: flight.origin,
            dest: flight.dest,
            minutes_late,
        };
        Some(Output::json(&summary))
    })
}
