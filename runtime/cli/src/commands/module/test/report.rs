//! What came of running a module over an input.

use std::{collections::BTreeMap, time::Duration};

use millstream_engine::{Counters, Fault, Reject};
use millstream_types::{ModuleMetrics, Offset, TopicName};
use serde_json::{Value, json};

use super::golden::Differs;
use crate::{cli::Common, commands::subscription::metrics, failure::Failure, output};

/// Rejects and faults told one by one; all are counted.
const TOLD_MAX: usize = 20;

/// What came of it.
#[derive(Default)]
pub(super) struct Report {
    pub(super) counters: Counters,
    pub(super) kept_bytes: u64,
    pub(super) input_bytes: u64,
    pub(super) memory_bytes_peak: usize,
    pub(super) metrics: ModuleMetrics,
    pub(super) shown: Vec<Value>,
    pub(super) took: Duration,
    rejects: Vec<Value>,
    faults: Vec<Value>,
    routed_to: BTreeMap<String, u64>,
}

impl Report {
    pub(super) fn routed(&mut self, topic: &TopicName) {
        *self.routed_to.entry(topic.to_string()).or_default() += 1;
    }

    pub(super) fn rejected(&mut self, reject: &Reject) {
        if self.rejects.len() < TOLD_MAX {
            self.rejects.push(json!({ "offset": reject.offset, "reason": reject.reason }));
        }
    }

    pub(super) fn faulted(&mut self, offset: Offset, fault: &Fault) {
        if self.faults.len() < TOLD_MAX {
            self.faults.push(json!({ "offset": offset, "fault": fault.to_string() }));
        }
    }

    pub(super) fn print(&self, common: &Common, differs: Option<&Differs>) -> Result<(), Failure> {
        let counters = self.counters;
        let each = |sum: u64| sum.checked_div(counters.records_in).unwrap_or_default();
        let (ns_each, fuel_each) = (each(counters.guest_ns), each(counters.fuel));
        if common.json {
            return output::json(&json!({
                "records_in": counters.records_in,
                "delivered": counters.delivered,
                "dropped": counters.dropped,
                "routed": counters.routed,
                "rejected": counters.rejected,
                "faulted": counters.faulted,
                "calls": counters.calls,
                "module_ns": counters.guest_ns,
                "module_ns_per_record": ns_each,
                "fuel": counters.fuel,
                "fuel_per_record": fuel_each,
                "memory_bytes_peak": self.memory_bytes_peak,
                "metrics": self.metrics,
                "seconds": self.took.as_secs_f64(),
                "input_bytes": self.input_bytes,
                "delivered_payload_bytes": self.kept_bytes,
                "routed_to": self.routed_to,
                "rejects": self.rejects,
                "faults": self.faults,
                "records": self.shown,
                "differs": differs.map(Differs::to_json),
            }));
        }
        let rows = [
            ("delivered", counters.delivered),
            ("dropped", counters.dropped),
            ("routed", counters.routed),
            ("rejected", counters.rejected),
            ("faulted", counters.faulted),
        ];
        let share =
            |count: u64| format!("{:.1}%", 100.0 * count as f64 / (counters.records_in.max(1)) as f64);
        let rows = rows.map(|(name, count)| [name.to_owned(), output::count(count), share(count)]);
        output::line(output::table(["VERDICT", "RECORDS", "OF INPUT"], rows).to_string())?;
        output::line(format!(
            "\n{} in, {}, {:.3} ms in the module\n\
             a record: {:.3} us with fuel counted, {} fuel; peak memory {}",
            output::counted(counters.records_in, "record"),
            output::counted(counters.calls, "call"),
            counters.guest_ns as f64 / 1e6,
            ns_each as f64 / 1e3,
            output::count(fuel_each),
            output::bytes(self.memory_bytes_peak as u64),
        ))?;
        metrics(&self.metrics).try_for_each(|line| output::line(format!("metric {line}")))?;
        for (topic, count) in &self.routed_to {
            output::line(format!("to {topic}: {}", output::count(*count)))?;
        }
        for (name, told, all) in
            [("rejected", &self.rejects, counters.rejected), ("fault", &self.faults, counters.faulted)]
        {
            for one in told {
                output::line(format!("{name}: {one}"))?;
            }
            if all > told.len() as u64 {
                output::line(format!("{name}: {} more", output::count(all - told.len() as u64)))?;
            }
        }
        if !self.shown.is_empty() {
            output::line("\nfirst records out:")?;
        }
        self.shown.iter().try_for_each(output::json)?;
        differs.map_or(Ok(()), |differs| output::line(format!("\n{differs}")))
    }
}
