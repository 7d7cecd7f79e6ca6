//! The flights, read as plain CSV: what everything is compared with. Nothing here knows of Millstream.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::Error;

const COMPRESSED: &[u8] = include_bytes!("../flights-2013-01.csv.zst");

/// All of them, in the order of the file.
pub(crate) struct Flights {
    /// The file, decompressed.
    pub(crate) csv: Vec<u8>,
    pub(crate) rows: Vec<Flight>,
}

/// One row.
pub(crate) struct Flight {
    pub(crate) carrier: String,
    origin: String,
    /// Minutes; none of a flight that was cancelled.
    dep_delay: Option<i64>,
    /// The hour that it was to leave in.
    time_hour: String,
    /// The row as the JSON object that is published.
    pub(crate) json: String,
}

#[derive(Deserialize)]
struct Row<'a> {
    carrier: &'a str,
    origin: &'a str,
    dep_delay: &'a str,
    time_hour: &'a str,
}

/// The flights of a carrier that left in an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Hour {
    pub(crate) flights: u64,
    /// By which they were late, together.
    pub(crate) minutes: i64,
    pub(crate) worst: i64,
}

impl Flights {
    /// Decompresses and reads them.
    pub(crate) fn read() -> Result<Self, Error> {
        let csv = zstd::decode_all(COMPRESSED).map_err(|error| Error::Flights(error.to_string()))?;
        let rows = rows(&csv).map_err(|error| Error::Flights(error.to_string()))?;
        Ok(Self { csv, rows })
    }

    /// Flights of one carrier.
    pub(crate) fn of_carrier(&self, carrier: &str) -> u64 {
        self.rows.iter().filter(|flight| flight.carrier == carrier).count() as u64
    }

    /// Departures from `origin` more than `minutes` late.
    pub(crate) fn late_from(&self, origin: &str, minutes: i64) -> u64 {
        let late = |flight: &&Flight| flight.dep_delay.is_some_and(|delay| delay > minutes);
        self.rows.iter().filter(|flight| flight.origin == origin).filter(late).count() as u64
    }

    /// Flights of each carrier.
    pub(crate) fn carriers(&self) -> BTreeMap<String, u64> {
        let mut carriers = BTreeMap::new();
        for flight in &self.rows {
            *carriers.entry(flight.carrier.clone()).or_default() += 1;
        }
        carriers
    }

    /// By carrier and hour.
    pub(crate) fn hours(&self) -> BTreeMap<(String, String), Hour> {
        let mut hours = BTreeMap::<_, Hour>::new();
        for flight in &self.rows {
            let Some(delay) = flight.dep_delay else { continue };
            let hour = hours.entry((flight.carrier.clone(), flight.time_hour.clone())).or_default();
            hour.worst = if hour.flights == 0 { delay } else { hour.worst.max(delay) };
            hour.flights += 1;
            hour.minutes += delay;
        }
        hours
    }

    /// Checksum of the flights of these carriers, in order.
    pub(crate) fn checksum(&self, is_one: impl Fn(&str) -> bool) -> String {
        let mut checksum = Checksum::default();
        for flight in self.rows.iter().filter(|flight| is_one(&flight.carrier)) {
            checksum.add(flight.json.as_bytes());
        }
        checksum.finish()
    }
}

/// SHA-256 over payloads in order, each behind its length.
#[derive(Default)]
pub(crate) struct Checksum(Sha256);

impl Checksum {
    pub(crate) fn add(&mut self, payload: &[u8]) {
        self.0.update((payload.len() as u64).to_le_bytes());
        self.0.update(payload);
    }

    pub(crate) fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }
}

fn rows(csv: &[u8]) -> Result<Vec<Flight>, csv::Error> {
    let mut reader = csv::Reader::from_reader(csv);
    let names = reader.headers()?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let row: Row<'_> = record.deserialize(Some(&names))?;
        rows.push(Flight {
            carrier: row.carrier.to_owned(),
            origin: row.origin.to_owned(),
            dep_delay: row.dep_delay.parse().ok(),
            time_hour: row.time_hour.to_owned(),
            json: json(names.iter().zip(&record)),
        });
    }
    Ok(rows)
}

/// A row as `millstream publish --format csv` documents it: whole numbers as numbers, NA and nothing as null.
fn json<'a>(cells: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let cells = cells.map(|(name, cell)| {
        let value = match cell {
            "" | "NA" => serde_json::Value::Null,
            cell => match cell.parse::<i64>() {
                Ok(number) => number.into(),
                Err(_) => cell.into(),
            },
        };
        format!("{}:{value}", serde_json::Value::from(name))
    });
    format!("{{{}}}", cells.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_month_is_whole() {
        let flights = Flights::read().unwrap();
        assert_eq!(flights.rows.len(), 27_004);
        assert_eq!(flights.late_from("JFK", 60), 523);
        assert_eq!(flights.carriers().values().sum::<u64>(), 27_004);
        assert!(flights.rows[0].json.starts_with(r#"{"year":2013,"month":1,"day":1,"dep_time":517,"#));
        assert!(flights.rows.iter().any(|flight| flight.json.contains(r#""dep_time":null"#)));
    }
}
