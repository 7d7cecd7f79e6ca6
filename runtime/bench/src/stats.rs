//! Medians and percentiles.

use std::time::Duration;

/// The middle value; between two, their mean. `None` for no values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get((sorted.len() / 2).checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

/// How long single operations took.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    micros: Vec<f64>,
}

impl Latencies {
    pub(crate) fn record(&mut self, took: Duration) {
        self.micros.push(took.as_secs_f64() * 1e6);
    }

    /// The time in microseconds within which `percent` of the operations were done (nearest rank).
    pub(crate) fn percentile_us(&self, percent: f64) -> Option<f64> {
        let mut sorted = self.micros.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank between 0 and the number of samples"
        )]
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    }
}

/// Megabytes (10^6 bytes) a second.
pub(crate) fn mb_per_s(bytes: u64, took: Duration) -> f64 {
    per_s(bytes, took) / 1e6
}

/// Something, for each 10^9 bytes.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
pub(crate) fn per_gb(amount: f64, bytes: u64) -> f64 {
    amount / (bytes as f64 / 1e9)
}

/// Things a second.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
pub(crate) fn per_s(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_takes_the_middle_in_any_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile_us(50.0), None);
        for micros in (1..=100).rev() {
            latencies.record(Duration::from_micros(micros));
        }
        let rounded = |percent| latencies.percentile_us(percent).map(f64::round);
        assert_eq!(rounded(0.0), Some(1.0));
        assert_eq!(rounded(50.0), Some(50.0));
        assert_eq!(rounded(99.0), Some(99.0));
        assert_eq!(rounded(100.0), Some(100.0));
    }

    #[test]
    fn rates() {
        assert_eq!(mb_per_s(3_000_000, Duration::from_millis(1_500)), 2.0);
        assert_eq!(per_gb(3.0, 1_500_000_000), 2.0);
        assert_eq!(per_s(10, Duration::from_secs(4)), 2.5);
    }
}
