//! A Millstream processor, written as a user would: how late the flights of each carrier left in each hour. Whenever that
//! changes it is told anew under the key of carrier and hour, so in a compacted topic the latest is left.

use std::time::Duration;

use millstream_sdk::Stats;
use millstream_sdk::prelude::*;
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Flights come carrier by carrier, and one carrier may be a month ahead of another.
const HOURS: Windows =
    Windows::tumbling("hours", Duration::from_secs(3_600)).lateness(Duration::from_secs(31 * 24 * 3_600));

/// The fields of a flight that are read; the others are skipped.
#[derive(Deserialize)]
struct Flight {
    carrier: String,
    /// The hour that it was to leave in, RFC 3339.
    time_hour: String,
    /// Minutes; a flight that was cancelled has none.
    dep_delay: Option<i64>,
}

/// Counts the flight in its hour, and tells the hour as it is now. A payload that is no flight rejects its record.
#[processor]
pub fn carrier_hours(record: &Record, state: &mut State) -> Result<Vec<Output>, Box<dyn std::error::Error>> {
    let Flight { carrier, time_hour, dep_delay } = record.json()?;
    let Some(delay) = dep_delay else { return Ok(Vec::new()) };
    let time_ms = OffsetDateTime::parse(&time_hour, &Rfc3339)?.unix_timestamp() * 1_000;
    let updated = HOURS.update::<Stats>(state, &carrier, time_ms, |stats| stats.add(delay as f64))?;
    HOURS.close::<Stats>(state)?;
    let told = updated.into_iter().map(|hour| {
        let Stats { count, sum, max, .. } = hour.value;
        let summary = json!({
            "carrier": carrier, "hour": time_hour, "flights": count, "minutes": sum, "worst": max,
        });
        Output::json(&summary).with_key(format!("{carrier} {time_hour}")).without_headers()
    });
    Ok(told.collect())
}

#[cfg(test)]
mod tests;
