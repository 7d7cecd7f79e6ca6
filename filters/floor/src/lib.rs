//! Keeps every record: the floor beside which `millstream module bench` measures a module.

use millstream_sdk::prelude::*;

/// What is copied in.
#[derive(ModuleConfig)]
pub struct Config {
    /// Whether payloads are.
    #[config(default = false)]
    payload: bool,
    /// How often a loop goes round for each record, to use up CPU time: for `millstream bench fairness`.
    #[config(default = 0)]
    spin: u32,
}

/// Keeps every record.
#[filter(name = "bench/floor", reads_from = Config::reads_payload)]
pub fn floor(_record: &Record, config: &Config) -> bool {
    for round in 0..config.spin {
        std::hint::black_box(round);
    }
    true
}

impl Config {
    fn reads_payload(&self) -> bool {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_everything_and_reads_what_it_is_told() {
        let records = [test::record().payload("x"), test::record().tombstone()];
        assert_eq!(test::run::<floor>(json!({}), records), [test::Verdict::Keep, test::Verdict::Keep]);
        let reads = |config| test::configure::<floor>(config).expect("config").reads_payload;
        assert!(!reads(json!({})) && reads(json!({"payload": true})));
    }
}
