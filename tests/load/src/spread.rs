//! How durations are spread: values with how often each came, as an HDR histogram keeps them.

use serde::{Deserialize, Serialize};

/// Values in ascending order, each with its count. Adding two is exact, so slices can be put together afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spread {
    values: Vec<(u64, u64)>,
}

impl Spread {
    /// From values in ascending order.
    #[must_use]
    pub fn new(values: Vec<(u64, u64)>) -> Self {
        Self { values }
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.values.iter().map(|(_, count)| count).sum()
    }

    /// The smallest value that is not exceeded by this part of all; 0 where there is none.
    #[must_use]
    pub fn quantile(&self, part: f64) -> u64 {
        let wanted = (self.count() as f64 * part).ceil().max(1.0);
        let mut seen = 0_u64;
        for (value, count) in &self.values {
            seen += count;
            if seen as f64 >= wanted {
                return *value;
            }
        }
        0
    }

    /// Both together.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut values: Vec<(u64, u64)> = Vec::with_capacity(self.values.len() + other.values.len());
        let mut all: Vec<&(u64, u64)> = self.values.iter().chain(&other.values).collect();
        all.sort_unstable();
        for (value, count) in all {
            match values.last_mut() {
                Some((last, sum)) if last == value => *sum += count,
                Some(_) | None => values.push((*value, *count)),
            }
        }
        Self { values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_value_at_or_below_which_that_part_lies() {
        let spread = Spread::new(vec![(10, 50), (20, 49), (30, 1)]);
        let of = |part| spread.quantile(part);
        assert_eq!([of(0.0), of(0.5), of(0.501), of(0.99), of(1.0)], [10, 10, 20, 20, 30]);
        assert_eq!(Spread::default().quantile(0.5), 0);
    }

    #[test]
    fn two_spreads_together_are_as_one_of_all_values() {
        let one = Spread::new(vec![(10, 1), (20, 2)]);
        let other = Spread::new(vec![(5, 7), (20, 3)]);
        assert_eq!(one.with(&other), Spread::new(vec![(5, 7), (10, 1), (20, 5)]));
    }
}
