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
struct Flight {
    origin: String,
    dest: String,
    carrier: String,
    flight: u32,
    /// Minutes; a flight that was cancelled has none.
    dep_delay: Option<i64>,
}

/// What subscribers get.
#[derive(Serialize)]
struct LateDeparture {
    flight: String,
    origin: String,
    dest: String,
    minutes_late: i64,
}

/// Keeps late departures, as a summary. A payload that is no flight rejects its record, with the reason.
#[map]
pub fn late_departures(record: &Record, config: &Config) -> Result<Option<Output>, PayloadError> {
    let Flight { origin, dest, carrier, flight, dep_delay } = record.json()?;
    let late = dep_delay.filter(|delay| *delay > config.over_minutes);
    let (Some(minutes_late), true) = (late, origin == config.origin) else {
        return Ok(None);
    };
    let summary = LateDeparture { flight: format!("{carrier}{flight}"), origin, dest, minutes_late };
    Ok(Some(Output::json(&summary)))
}

#[cfg(test)]
mod tests;
