//! What is told while the demo runs, and what came of it.

use std::io::{self, Write as _};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Error, reading::Brought, subscriptions::Plan};

/// What is told, where, and every comparison.
pub(crate) struct Report {
    json: bool,
    comparisons: Vec<Comparison>,
    rows: Vec<Row>,
    facts: serde_json::Map<String, Value>,
}

/// Two values that must be equal.
#[derive(Serialize)]
struct Comparison {
    what: String,
    expected: String,
    found: String,
    equal: bool,
}

/// One subscription.
#[derive(Serialize)]
struct Row {
    subscription: String,
    module: String,
    records_in: u64,
    records_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    bytes_saved: u64,
    module_ms: f64,
    module_ns_per_record: u64,
    expected: u64,
    equal: bool,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, comparisons: Vec::new(), rows: Vec::new(), facts: serde_json::Map::new() }
    }

    /// A heading.
    pub(crate) fn heading(&self, text: &str) {
        self.say(&format!("\n{text}"));
    }

    /// A command that is about to run.
    pub(crate) fn command(&self, line: &str) {
        self.say(&format!("$ {line}"));
    }

    /// A line for people; beside JSON it goes to standard error.
    pub(crate) fn say(&self, line: &str) {
        // Nobody reads it any more: the exit code still tells.
        let _ = match self.json {
            true => writeln!(io::stderr(), "{line}"),
            false => writeln!(io::stdout(), "{line}"),
        };
    }

    /// Something else worth knowing, for the JSON object.
    pub(crate) fn fact(&mut self, name: &str, value: impl Serialize) {
        self.facts.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
    }

    /// Compares; what differs is told at the end.
    pub(crate) fn check(
        &mut self,
        what: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> bool {
        let (expected, found) = (expected.to_string(), found.to_string());
        let equal = expected == found;
        self.comparisons.push(Comparison { what: what.into(), expected, found, equal });
        equal
    }

    /// Comparisons so far.
    pub(crate) fn checks(&self) -> usize {
        self.comparisons.len()
    }

    /// Tells how the comparisons since `from` went, in one line.
    pub(crate) fn say_since(&self, from: usize, what: &str) {
        let since = self.comparisons.get(from..).unwrap_or_default();
        let equal = since.iter().filter(|one| one.equal).count();
        self.say(&format!("  {what}: {equal} of {} comparisons equal", since.len()));
    }

    /// Adds a subscription, whose count is compared.
    pub(crate) fn subscription(&mut self, plan: &Plan, brought: &Brought, flights: u64) {
        let counters = brought.info.counters;
        let out = if plan.routes { counters.routed } else { counters.records_out };
        let name = plan.name;
        let equal = [
            self.check(format!("{name}: records in"), flights, counters.records_in),
            self.check(format!("{name}: records out"), plan.expected, out),
            self.check(
                format!("{name}: records read"),
                if plan.routes { 0 } else { plan.expected },
                brought.records,
            ),
            self.check(format!("{name}: rejected and faulted"), 0, counters.rejected + counters.faulted),
        ];
        self.rows.push(Row {
            subscription: name.to_owned(),
            module: plan.module.to_owned(),
            records_in: counters.records_in,
            records_out: out,
            bytes_in: counters.bytes_in,
            bytes_out: counters.bytes_out,
            bytes_saved: counters.bytes_in.saturating_sub(counters.bytes_out),
            module_ms: counters.module_ns as f64 / 1e6,
            module_ns_per_record: counters.module_ns.checked_div(counters.records_in).unwrap_or_default(),
            expected: plan.expected,
            equal: !equal.contains(&false),
        });
    }

    /// The table of the subscriptions.
    pub(crate) fn table(&self) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        let head = [
            "subscription",
            "module",
            "records in",
            "records out",
            "bytes saved",
            "time in module",
            "ns/record",
            "expected",
            "equal",
        ];
        table.set_header(head);
        for row in &self.rows {
            let share = 100.0 * row.bytes_saved as f64 / row.bytes_in.max(1) as f64;
            table.add_row([
                row.subscription.clone(),
                row.module.clone(),
                row.records_in.to_string(),
                row.records_out.to_string(),
                format!("{} ({share:.1}%)", indicatif::BinaryBytes(row.bytes_saved)),
                format!("{:.1} ms", row.module_ms),
                row.module_ns_per_record.to_string(),
                row.expected.to_string(),
                if row.equal { "yes" } else { "NO" }.to_owned(),
            ]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self.say(&table.to_string());
    }

    /// The end: all that differs, or that nothing does. Whether everything holds.
    pub(crate) fn finish(self) -> Result<bool, Error> {
        let differing: Vec<_> = self.comparisons.iter().filter(|one| !one.equal).collect();
        let (all, holds) = (self.comparisons.len(), differing.is_empty());
        for one in &differing {
            self.say(&format!("DIFFERS  {}: expected {}, found {}", one.what, one.expected, one.found));
        }
        self.say(&match holds {
            true => format!("\nAll {all} comparisons hold."),
            false => format!("\n{} of {all} comparisons do not hold.", differing.len()),
        });
        if self.json {
            let mut object = self.facts;
            object.insert("subscriptions".into(), json!(self.rows));
            object.insert("comparisons".into(), json!(self.comparisons));
            object.insert("holds".into(), holds.into());
            writeln!(io::stdout(), "{}", Value::Object(object)).map_err(Error::io("write the result"))?;
        }
        Ok(holds)
    }
}
