//! What was measured: samples by name, their medians, and ratios of samples of the same round.

use std::{collections::BTreeMap, fmt};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::{
    Settings,
    stats::{self, Latencies},
};

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Tables for a person.
    Table,
    /// One JSON object: `settings`, `figures`, `ratios`, `samples`.
    Json,
}

/// The figures of a bench, with units in their names.
#[derive(Debug, Clone)]
pub struct Report {
    settings: BTreeMap<String, Value>,
    /// One value a round.
    samples: BTreeMap<String, Vec<f64>>,
    goals: BTreeMap<String, Goal>,
    ratios: BTreeMap<String, Ratio>,
}

#[derive(Debug, Clone, Copy)]
struct Ratio {
    value: f64,
    goal: Goal,
}

/// What a ratio should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    None,
}

impl Report {
    pub(crate) fn new(bench: &str, settings: &Settings) -> Self {
        let mut all = match serde_json::to_value(settings) {
            Ok(Value::Object(fields)) => fields.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        all.insert("bench".to_owned(), json!(bench));
        all.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        all.insert("cpus".to_owned(), json!(cpus));
        Self { settings: all, samples: BTreeMap::new(), goals: BTreeMap::new(), ratios: BTreeMap::new() }
    }

    pub(crate) fn setting(&mut self, name: &str, value: impl Into<Value>) {
        self.settings.insert(name.to_owned(), value.into());
    }

    /// Adds the value of one round.
    pub(crate) fn sample(&mut self, name: impl Into<String>, value: f64) {
        self.samples.entry(name.into()).or_default().push(value);
    }

    /// Adds the median and the 99th percentile of one round, in microseconds.
    pub(crate) fn latencies(&mut self, name: &str, latencies: &Latencies) {
        for (percent, suffix) in [(50.0, "p50_us"), (99.0, "p99_us")] {
            if let Some(micros) = latencies.percentile_us(percent) {
                self.sample(format!("{name}_{suffix}"), micros);
            }
        }
    }

    /// What a figure should be.
    pub(crate) fn goal(&mut self, figure: &str, goal: Goal) {
        self.goals.insert(figure.to_owned(), goal);
    }

    /// The median of a figure.
    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        self.samples.get(name).and_then(|samples| stats::median(samples))
    }

    /// Derives a ratio from two figures: the median of the rounds' ratios, since what disturbs a machine disturbs both
    /// measurements of a round.
    pub(crate) fn ratio(&mut self, name: &str, subject: &str, limit: &str, goal: Goal) {
        let samples = |name| self.samples.get(name).map(Vec::as_slice).unwrap_or_default();
        let ratios: Vec<f64> =
            samples(subject).iter().zip(samples(limit)).map(|(subject, limit)| subject / limit).collect();
        if let Some(value) = stats::median(&ratios) {
            self.ratios.insert(name.to_owned(), Ratio { value, goal });
        }
    }

    /// Derives a ratio that is the lowest of others.
    pub(crate) fn lowest(&mut self, name: &str, of: &[&str]) {
        let lowest = of
            .iter()
            .filter_map(|name| self.ratios.get(*name))
            .copied()
            .min_by(|a, b| a.value.total_cmp(&b.value));
        if let Some(lowest) = lowest {
            self.ratios.insert(name.to_owned(), lowest);
        }
    }

    /// One object: `settings`; `figures` and `ratios`, medians over the rounds; `samples`, each round's figures.
    pub fn to_json(&self) -> Value {
        let figures: BTreeMap<_, _> =
            self.samples.keys().map(|name| (name, self.figure(name).map(rounded))).collect();
        let ratios: BTreeMap<_, _> =
            self.ratios.iter().map(|(name, ratio)| (name, rounded(ratio.value))).collect();
        let samples: BTreeMap<_, Vec<_>> = self
            .samples
            .iter()
            .map(|(name, samples)| (name, samples.iter().copied().map(rounded).collect()))
            .collect();
        json!({ "settings": self.settings, "figures": figures, "ratios": ratios, "samples": samples })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut figures = table(&["figure", "median", "lowest", "highest", "goal", ""]);
        for (name, samples) in &self.samples {
            let lowest = samples.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let median = self.figure(name).unwrap_or(f64::NAN);
            let goal = self.goals.get(name).copied().unwrap_or(Goal::None);
            let row = [
                name,
                &shown(median),
                &shown(lowest),
                &shown(highest),
                &goal.to_string(),
                goal.verdict(median),
            ];
            figures.add_row(row);
        }
        write!(f, "{figures}")?;
        if !self.ratios.is_empty() {
            let mut ratios = table(&["ratio", "median", "goal", ""]);
            for (name, Ratio { value, goal }) in &self.ratios {
                ratios.add_row([name, &shown(*value), &goal.to_string(), goal.verdict(*value)]);
            }
            write!(f, "\n\n{ratios}")?;
        }
        Ok(())
    }
}

impl Goal {
    fn verdict(self, value: f64) -> &'static str {
        let met = match self {
            Self::AtLeast(goal) => value >= goal,
            Self::AtMost(goal) => value <= goal,
            Self::None => return "",
        };
        if met { "met" } else { "missed" }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(goal) => write!(f, ">= {goal}"),
            Self::AtMost(goal) => write!(f, "<= {goal}"),
            Self::None => Ok(()),
        }
    }
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.iter().copied());
    for index in 1..head.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn shown(value: f64) -> String {
    match value.abs() {
        1_000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// To four significant digits: more is noise.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            settings: Settings,
        }
        let Cli { settings } = clap::Parser::parse_from(["bench", "--rounds=3", "--dir=/data"]);
        Report::new("publish", &settings)
    }

    #[test]
    fn json_has_settings_figures_ratios_and_samples() {
        let mut report = report();
        for (subject, limit) in [(50.0, 100.0), (90.0, 100.0), (120.004, 200.0)] {
            report.sample("publish_mb_per_s", subject);
            report.sample("skeleton_mb_per_s", limit);
        }
        report.ratio("publish_to_skeleton", "publish_mb_per_s", "skeleton_mb_per_s", Goal::AtLeast(0.8));
        let json = report.to_json();
        assert_eq!(json["settings"]["bench"], "publish");
        assert_eq!(json["settings"]["rounds"], 3);
        assert_eq!(json["settings"]["dir"], "/data");
        assert_eq!(json["figures"], json!({ "publish_mb_per_s": 90.0, "skeleton_mb_per_s": 100.0 }));
        // The median of the rounds' ratios 0.5, 0.9 and 0.6, not the ratio of the medians.
        assert_eq!(json["ratios"], json!({ "publish_to_skeleton": 0.6 }));
        assert_eq!(json["samples"]["publish_mb_per_s"], json!([50.0, 90.0, 120.0]));
    }

    #[test]
    fn lowest_ratio_stands_for_several_and_absent_ones_are_left_out() {
        let mut report = report();
        report.sample("a", 3.0);
        report.sample("b", 2.0);
        report.sample("one", 1.0);
        report.ratio("a_to_one", "a", "one", Goal::None);
        report.ratio("b_to_one", "b", "one", Goal::None);
        report.ratio("c_to_one", "c", "one", Goal::None);
        report.lowest("all_to_one", &["a_to_one", "b_to_one", "c_to_one"]);
        assert_eq!(
            report.to_json()["ratios"],
            json!({ "a_to_one": 3.0, "b_to_one": 2.0, "all_to_one": 2.0 })
        );
    }

    #[test]
    fn table_says_whether_goals_are_met() {
        let mut report = report();
        report.sample("subject", 1_500.0);
        report.sample("limit", 1_000.0);
        report.ratio("met", "subject", "limit", Goal::AtLeast(1.5));
        report.ratio("not_met", "subject", "limit", Goal::AtMost(1.4));
        let text = report.to_string();
        let line =
            |start: &str| text.lines().find(|line| line.trim_start().starts_with(start)).unwrap().to_owned();
        assert!(line("met").ends_with("met "), "{text:?}");
        assert!(line("not_met").contains("missed"), "{text}");
        assert!(line("subject").contains("1500"), "{text}");
    }
}
