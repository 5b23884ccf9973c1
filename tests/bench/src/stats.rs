//! From many figures to a few: percentiles of latencies, medians and spreads of rounds.

use serde::{Deserialize, Serialize};

/// A figure that was measured in several rounds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// In the order of the rounds.
    pub rounds: Vec<f64>,
}

impl Figure {
    /// Of no rounds, all is zero.
    pub(crate) fn of(rounds: impl IntoIterator<Item = f64>) -> Self {
        let rounds: Vec<f64> = rounds.into_iter().collect();
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        Self {
            median: median(&sorted),
            min: sorted.first().copied().unwrap_or_default(),
            max: sorted.last().copied().unwrap_or_default(),
            rounds,
        }
    }

    /// This figure by another one, round by round: what disturbs the machine for longer disturbs both.
    pub(crate) fn ratio_to(&self, base: &Self) -> Self {
        let pairs = self.rounds.iter().zip(&base.rounds);
        Self::of(
            pairs
                .filter(|(_, base)| **base > 0.0)
                .map(|(own, base)| own / base),
        )
    }

    /// What this figure has more than another one, round by round.
    pub(crate) fn above(&self, base: &Self) -> Self {
        Self::of(self.rounds.iter().zip(&base.rounds).map(|(own, base)| own - base))
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.len().is_multiple_of(2), sorted.get(middle)) {
        (_, None) => 0.0,
        (false, Some(value)) => *value,
        (true, Some(value)) => f64::midpoint(sorted[middle - 1], *value),
    }
}

/// The value that a share of all values does not exceed; zero of none.
pub(crate) fn percentile(sorted: &[u32], share: f64) -> u32 {
    // Counts are far below what a float holds exactly.
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(Figure::of([4.0, 1.0, 3.0, 2.0]).median, 2.5);
        assert_eq!(Figure::of([9.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(Figure::of([]), Figure::default());
    }

    #[test]
    fn spread_and_order_of_the_rounds_are_kept() {
        let figure = Figure::of([3.0, 1.0, 2.0]);
        assert_eq!((figure.min, figure.max), (1.0, 3.0));
        assert_eq!(figure.rounds, [3.0, 1.0, 2.0]);
    }

    #[test]
    fn ratios_compare_rounds_not_medians() {
        let (own, base) = (Figure::of([10.0, 40.0, 20.0]), Figure::of([20.0, 40.0, 10.0]));
        assert_eq!(own.ratio_to(&base).rounds, [0.5, 1.0, 2.0]);
        assert_eq!(own.above(&base).rounds, [-10.0, 0.0, 10.0]);
    }

    #[test]
    fn a_round_without_a_base_has_no_ratio() {
        assert_eq!(
            Figure::of([1.0, 2.0]).ratio_to(&Figure::of([0.0, 4.0])).rounds,
            [0.5]
        );
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u32> = (1..=100).collect();
        for (share, expected) in [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)] {
            assert_eq!(percentile(&values, share), expected, "{share}");
        }
        assert_eq!(percentile(&[7], 0.99), 7);
        assert_eq!(percentile(&[], 0.5), 0);
    }
}
