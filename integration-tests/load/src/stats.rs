//! Least, middle and greatest of a few repetitions, and percentiles of many samples.

use serde::{Deserialize, Serialize};

/// The results of several repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// # Panics
    /// If there are no values: a scenario measures at least once.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { panic!("nothing was measured") };
        Self { min, median: percentile(&values, 50.0), max }
    }
}

/// The value below which this many percent of the sorted values lie.
pub(crate) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let index = (percent / 100.0 * ratio(sorted.len() - 1, 1)).round() as usize;
    sorted[index]
}

/// One count over another.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn ratio(of: usize, to: usize) -> f64 {
    of as f64 / to as f64
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_three_is_the_median() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(Spread::of([4.0]), Spread { min: 4.0, median: 4.0, max: 4.0 });
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!((percentile(&sorted, 50.0), percentile(&sorted, 99.0)), (50.0, 99.0));
        assert_eq!(Spread::of([percentile(&[7.0], 99.0)]), Spread::of([7.0]));
    }
}
