//! The counters and gauges that a module keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::{METRIC_NAME_BYTES_MAX, METRICS_MAX};

/// The counters and gauges that a module keeps, by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModuleMetrics {
    /// What was added up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, u64>,
    /// What was set last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gauges: BTreeMap<String, f64>,
    /// At least so many changes do not count: of metrics beyond the limit, with names that cannot be, to what is no finite number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl ModuleMetrics {
    /// Whether a counter or gauge may be called so: a letter or `_`, then those and digits, 64 bytes at most.
    pub fn is_name(name: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        name.len() <= METRIC_NAME_BYTES_MAX
            && name.bytes().all(plain)
            && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
    }

    /// Whether nothing was counted, set or left out.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.gauges.is_empty() && self.left_out == 0
    }

    /// Adds to a counter.
    pub fn add(&mut self, name: &str, by: u64) {
        let full = self.is_full();
        change(&mut self.counters, name, full, &mut self.left_out, |value| *value = value.saturating_add(by));
    }

    /// Sets a gauge. What is no finite number is left out.
    pub fn set(&mut self, name: &str, to: f64) {
        let full = self.is_full();
        if !to.is_finite() {
            self.left_out += 1;
            return;
        }
        change(&mut self.gauges, name, full, &mut self.left_out, |value| *value = to);
    }

    /// Takes over what was counted elsewhere, or later.
    pub fn merge(&mut self, more: &Self) {
        more.counters.iter().for_each(|(name, by)| self.add(name, *by));
        more.gauges.iter().for_each(|(name, to)| self.set(name, *to));
        self.left_out += more.left_out;
    }

    fn is_full(&self) -> bool {
        self.counters.len() + self.gauges.len() >= METRICS_MAX
    }
}

fn change<T: Default>(
    values: &mut BTreeMap<String, T>,
    name: &str,
    full: bool,
    left_out: &mut u64,
    change: impl FnOnce(&mut T),
) {
    if let Some(value) = values.get_mut(name) {
        change(value);
    } else if full || !ModuleMetrics::is_name(name) {
        *left_out += 1;
    } else {
        change(values.entry(name.to_owned()).or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_and_gauges_are_what_was_set_last() {
        let mut metrics = ModuleMetrics::default();
        metrics.add("late", 2);
        metrics.set("limit", 1.5);
        let mut later = ModuleMetrics::default();
        later.add("late", 3);
        later.add("early", 1);
        later.set("limit", 0.5);
        metrics.merge(&later);
        assert_eq!(metrics.counters, [("early".into(), 1), ("late".into(), 5)].into());
        assert_eq!((metrics.gauges, metrics.left_out), ([("limit".into(), 0.5)].into(), 0));
    }

    #[test]
    fn what_has_no_name_or_no_room_is_counted_as_left_out() {
        let mut metrics = ModuleMetrics::default();
        let long = "x".repeat(METRIC_NAME_BYTES_MAX + 1);
        for name in ["", "1st", "a-b", "a b", "\u{e9}", &long] {
            metrics.add(name, 1);
            metrics.set(name, 1.0);
        }
        assert_eq!((metrics.counters.len(), metrics.gauges.len(), metrics.left_out), (0, 0, 12));
        for index in 0..METRICS_MAX {
            metrics.add(&format!("counter_{index}"), 1);
        }
        metrics.set("gauge", 1.0);
        metrics.add("counter_0", 1);
        metrics.set("counter_0", f64::NAN);
        assert_eq!((metrics.counters.len(), metrics.gauges.len(), metrics.left_out), (METRICS_MAX, 0, 14));
        assert_eq!(metrics.counters["counter_0"], 2);
        let mut merged = ModuleMetrics::default();
        merged.set("other", 1.0);
        merged.merge(&metrics);
        assert_eq!((merged.counters.len(), merged.left_out), (METRICS_MAX - 1, 15));
    }
}
