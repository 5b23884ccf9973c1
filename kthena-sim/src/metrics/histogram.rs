//! A histogram that many sequences write at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// Sums are kept in billionths.
const SCALE: f64 = 1e9;

/// Observations, kept finely enough to be shown under any of the families' bucket bounds.
///
/// Bounds are given when it is read, so one observation serves the families of several engines; what is kept is
/// a count for each of a fixed set of bounds that contains theirs.
#[derive(Debug)]
pub(super) struct Histogram {
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

/// The union of all families' bounds.
static BOUNDS: [f64; 78] = [
    0.001,
    0.005,
    0.01,
    0.02,
    0.025,
    0.04,
    0.05,
    0.06,
    0.075,
    0.08,
    0.1,
    0.15,
    0.2,
    0.25,
    0.3,
    0.4,
    0.5,
    0.6,
    0.75,
    0.8,
    1.0,
    1.5,
    2.0,
    2.5,
    3.0,
    4.0,
    5.0,
    7.5,
    8.0,
    10.0,
    15.0,
    16.0,
    20.0,
    30.0,
    32.0,
    40.0,
    50.0,
    60.0,
    64.0,
    75.0,
    80.0,
    100.0,
    120.0,
    128.0,
    160.0,
    200.0,
    240.0,
    256.0,
    400.0,
    480.0,
    500.0,
    512.0,
    640.0,
    960.0,
    1000.0,
    1024.0,
    1920.0,
    2000.0,
    2048.0,
    2560.0,
    4000.0,
    4096.0,
    7680.0,
    8192.0,
    10_000.0,
    16_384.0,
    20_000.0,
    32_768.0,
    50_000.0,
    131_072.0,
    524_288.0,
    2_097_152.0,
    8_388_608.0,
    33_554_432.0,
    134_217_728.0,
    536_870_912.0,
    2_147_483_648.0,
    8_589_934_592.0,
];

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: (0..=BOUNDS.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    pub(super) fn observe(&self, value: f64) {
        self.observe_many(value, 1);
    }

    pub(super) fn observe_many(&self, value: f64, times: u64) {
        let place = BOUNDS.partition_point(|bound| *bound < value);
        self.counts[place].fetch_add(times, Ordering::Relaxed);
        self.sum
            .fetch_add((value * times as f64 * SCALE) as u64, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    pub(super) fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / SCALE
    }

    /// How many observations are not above a bound.
    pub(super) fn below(&self, bound: f64) -> u64 {
        debug_assert!(BOUNDS.contains(&bound), "{bound} is missing among the bounds");
        let until = BOUNDS.partition_point(|b| *b <= bound);
        self.counts[..until]
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_include_their_bound() {
        let histogram = Histogram::default();
        histogram.observe(0.01);
        histogram.observe_many(0.02, 3);
        histogram.observe(1e9);
        assert_eq!(
            (
                histogram.below(0.005),
                histogram.below(0.01),
                histogram.below(0.025)
            ),
            (0, 1, 4)
        );
        assert_eq!((histogram.below(7680.0), histogram.count()), (4, 5));
        assert!((histogram.sum() - 1e9 - 0.07).abs() < 1e-3);
    }
}
