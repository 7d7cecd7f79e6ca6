//! What is told while the demo runs, and what came of it.

use std::io::{self, Write as _};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Error, tally::Counts};

/// What is told, where, and every check.
pub(crate) struct Report {
    json: bool,
    checks: Vec<Check>,
    services: Vec<ServiceRow>,
    facts: Vec<(&'static str, Value)>,
}

/// Two values that must be equal.
#[derive(Serialize)]
struct Check {
    what: String,
    expected: String,
    found: String,
    holds: bool,
}

#[derive(Serialize)]
struct ServiceRow {
    service: &'static str,
    workers: usize,
    #[serde(flatten)]
    counts: Counts,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, checks: Vec::new(), services: Vec::new(), facts: Vec::new() }
    }

    /// A heading.
    pub(crate) fn heading(&self, text: &str) {
        self.say(&format!("\n{text}"));
    }

    /// A line for people; beside JSON it goes to standard error.
    pub(crate) fn say(&self, line: &str) {
        // Nobody reads it any more: the exit code still tells.
        let _ = match self.json {
            true => writeln!(io::stderr(), "{line}"),
            false => writeln!(io::stdout(), "{line}"),
        };
    }

    /// A figure for the table and the JSON object.
    pub(crate) fn fact(&mut self, name: &'static str, value: impl Serialize) {
        self.facts.push((name, serde_json::to_value(value).unwrap_or_default()));
    }

    /// What the workers of a service did.
    pub(crate) fn service(&mut self, service: &'static str, workers: usize, counts: Counts) {
        self.services.push(ServiceRow { service, workers, counts });
    }

    /// Compares; what differs is told at the end.
    pub(crate) fn check(&mut self, what: impl Into<String>, expected: impl ToString, found: impl ToString) {
        let (expected, found) = (expected.to_string(), found.to_string());
        let holds = expected == found;
        self.checks.push(Check { what: what.into(), expected, found, holds });
    }

    /// The tables of the services and of the figures.
    pub(crate) fn tables(&self) {
        let mut services = Table::new();
        services.load_style(presets::UTF8_FULL_CONDENSED);
        services.set_header([
            "service",
            "workers",
            "died",
            "messages",
            "redelivered",
            "changed nothing",
            "retries",
        ]);
        for row in &self.services {
            let counts = row.counts;
            let figures =
                [counts.killed, counts.delivered, counts.redelivered, counts.without_change, counts.retries];
            let head = [row.service.to_owned(), row.workers.to_string()];
            services.add_row(head.into_iter().chain(figures.map(|figure| figure.to_string())));
        }
        self.show(services, 1);
        let mut facts = Table::new();
        facts.load_style(presets::UTF8_FULL_CONDENSED);
        for (name, value) in &self.facts {
            facts.add_row([name.replace('_', " "), value.to_string()]);
        }
        self.show(facts, 1);
    }

    fn show(&self, mut table: Table, from: usize) {
        for column in table.column_iter_mut().skip(from) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self.say(&table.to_string());
    }

    /// The end: every check. Whether all hold.
    pub(crate) fn finish(self) -> Result<bool, Error> {
        self.heading("The books");
        for check in &self.checks {
            let Check { what, expected, found, holds } = check;
            self.say(&match holds {
                true => format!("  holds    {what}: {found}"),
                false => format!("  DIFFERS  {what}: expected {expected}, found {found}"),
            });
        }
        let (all, failed) = (self.checks.len(), self.checks.iter().filter(|check| !check.holds).count());
        self.say(&match failed {
            0 => format!("\nAll {all} checks hold."),
            _ => format!("\n{failed} of {all} checks do not hold."),
        });
        if self.json {
            let mut object: serde_json::Map<_, _> =
                self.facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            object.insert("services".into(), json!(self.services));
            object.insert("checks".into(), json!(self.checks));
            object.insert("holds".into(), (failed == 0).into());
            writeln!(io::stdout(), "{}", Value::Object(object)).map_err(Error::io("write the result"))?;
        }
        Ok(failed == 0)
    }
}
