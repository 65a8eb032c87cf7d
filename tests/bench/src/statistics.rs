//! From samples to a figure: median, quantiles, minimum, an interval by bootstrap, ratios of pairs.
//!
//! Pure: the draws of the bootstrap come from a seed, so the same samples give the same interval.

use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap: the ends of a 95 % interval are then the 50th value from either side.
const RESAMPLES: usize = 2_000;

/// A value and the interval that holds it in 95 of 100 repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The statistic of the samples as they are.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How many samples it was made of.
    pub samples: usize,
}

impl Estimate {
    /// A number that has no noise, such as a count.
    #[must_use]
    pub fn exact(value: f64) -> Self {
        Self { value, low: value, high: value, samples: 1 }
    }

    /// The same in another unit, or on another scale.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        let (low, high) = (self.low * factor, self.high * factor);
        Self { value: self.value * factor, low: low.min(high), high: low.max(high), ..self }
    }
}

/// The smallest sample that at least the fraction `part` of all do not exceed; `None` without samples. What is not a
/// number is left out.
#[must_use]
pub fn quantile(samples: &[f64], part: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = samples.iter().copied().filter(|sample| sample.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (part.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// The middle sample, or the mean of the two in the middle.
#[must_use]
pub fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = samples.iter().copied().filter(|sample| sample.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = if sorted.len().is_multiple_of(2) { sorted[sorted.len() / 2 - 1] } else { upper };
    Some(lower + (upper - lower) / 2.0)
}

/// The smallest sample: what the path takes when nothing was in its way.
#[must_use]
pub fn minimum(samples: &[f64]) -> Option<f64> {
    samples.iter().copied().filter(|sample| sample.is_finite()).min_by(f64::total_cmp)
}

/// `statistic` of the samples with its interval; `None` where it has no value.
pub fn estimate(samples: &[f64], statistic: impl Fn(&[f64]) -> Option<f64>) -> Option<Estimate> {
    let value = statistic(samples)?;
    let mut draws = Draws(0x5351_5543_4943_4500 ^ samples.len() as u64);
    let mut resample = vec![0.0; samples.len()];
    let values: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            for slot in &mut resample {
                *slot = samples[draws.below(samples.len())];
            }
            statistic(&resample)
        })
        .collect();
    let low = quantile(&values, 0.025)?.min(value);
    let high = quantile(&values, 0.975)?.max(value);
    Some(Estimate { value, low, high, samples: samples.len() })
}

/// The median of the quotients of what was measured in the same rounds: `ours[n] ÷ theirs[n]`.
///
/// # Panics
/// If the rounds are not as many on both sides.
#[must_use]
pub fn paired_ratio(ours: &[f64], theirs: &[f64]) -> Option<Estimate> {
    assert_eq!(ours.len(), theirs.len(), "a ratio is made of pairs");
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    estimate(&ratios, median)
}

/// The median of the differences of what was measured in the same rounds: `ours[n] − theirs[n]`.
///
/// # Panics
/// If the rounds are not as many on both sides.
#[must_use]
pub fn paired_difference(ours: &[f64], theirs: &[f64]) -> Option<Estimate> {
    assert_eq!(ours.len(), theirs.len(), "a difference is made of pairs");
    let differences: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours - theirs).collect();
    estimate(&differences, median)
}

/// In which order round `round` visits `count` configurations: ABBA, so that a drift of the machine favours none.
#[must_use]
pub fn abba(round: usize, count: usize) -> Vec<usize> {
    if round.is_multiple_of(2) { (0..count).collect() } else { (0..count).rev().collect() }
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        ((u128::from(word) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn medians_quantiles_and_minima_of_small_sets() {
        let cases: [(&[f64], [Option<f64>; 3]); 5] = [
            (&[], [None; 3]),
            (&[3.0], [3.0; 3].map(Some)),
            (&[4.0, 1.0], [2.5, 1.0, 4.0].map(Some)),
            (&[9.0, 1.0, 5.0], [5.0, 1.0, 9.0].map(Some)),
            (&[2.0, f64::NAN, 4.0], [3.0, 2.0, 4.0].map(Some)),
        ];
        for (samples, expected) in cases {
            let found = [median(samples), minimum(samples), quantile(samples, 0.99)];
            assert_eq!(found, expected, "{samples:?}");
        }
    }

    #[test]
    fn a_quantile_is_the_first_sample_that_covers_its_part() {
        let samples: Vec<f64> = (1..=100).map(f64::from).collect();
        let found = [0.0, 0.01, 0.5, 0.505, 0.99, 1.0].map(|part| quantile(&samples, part));
        assert_eq!(found, [1.0, 1.0, 50.0, 51.0, 99.0, 100.0].map(Some));
    }

    #[test]
    fn samples_that_do_not_vary_have_an_interval_without_width() {
        let found = paired_ratio(&[6.0; 9], &[2.0; 9]);
        assert_eq!(found, Some(Estimate { value: 3.0, low: 3.0, high: 3.0, samples: 9 }));
        assert_eq!(paired_difference(&[6.0; 9], &[2.0; 9]).map(|found| found.value), Some(4.0));
        assert_eq!(paired_ratio(&[], &[]), None);
    }

    #[test]
    fn rounds_go_forth_and_back() {
        assert_eq!([0, 1, 2].map(|round| abba(round, 3)), [vec![0, 1, 2], vec![2, 1, 0], vec![0, 1, 2]]);
    }

    #[test]
    fn the_interval_of_a_median_is_as_wide_as_theory_says() {
        // For 101 samples of a uniform distribution the median's standard error is about 1/(2√101) of the range.
        let samples: Vec<f64> = (0..=100).map(f64::from).collect();
        let found = estimate(&samples, median).expect("samples");
        assert_eq!(found.value, 50.0);
        assert!((30.0..46.0).contains(&found.low) && (54.0..70.0).contains(&found.high), "{found:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_quantile_is_one_of_the_samples_and_grows_with_its_part(
            samples in prop::collection::vec(-1e6_f64..1e6, 1..50),
            mut parts in prop::array::uniform2(0.0_f64..=1.0),
        ) {
            parts.sort_by(f64::total_cmp);
            let [low, high] = parts.map(|part| quantile(&samples, part).expect("samples"));
            prop_assert!(samples.contains(&low) && samples.contains(&high) && low <= high);
        }

        #[test]
        fn an_interval_holds_its_value_lies_within_the_samples_and_is_always_the_same(
            samples in prop::collection::vec(-1e6_f64..1e6, 1..40),
        ) {
            let found = estimate(&samples, median).expect("samples");
            prop_assert!(found.low <= found.value && found.value <= found.high);
            prop_assert!(minimum(&samples).expect("samples") <= found.low);
            prop_assert!(found.high <= quantile(&samples, 1.0).expect("samples"));
            prop_assert_eq!(estimate(&samples, median), Some(found));
        }

        #[test]
        fn a_ratio_does_not_see_a_drift_that_both_sides_share(
            pairs in prop::collection::vec((1.0_f64..100.0, 0.5_f64..2.0), 1..40),
        ) {
            let theirs: Vec<f64> = pairs.iter().map(|(base, drift)| base * drift).collect();
            let ours: Vec<f64> = theirs.iter().map(|value| value * 1.25).collect();
            let found = paired_ratio(&ours, &theirs).expect("pairs");
            prop_assert!((found.value - 1.25).abs() < 1e-9 && (found.high - found.low).abs() < 1e-9);
        }
    }
}
