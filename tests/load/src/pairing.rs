//! The order of a round, there and back (ABBA): whoever is early in one half is late in the other, so that a machine that gets
//! slower or faster steadily favours nobody.

/// The positions of `count` configurations in one round: 0, 1, … and back. `turn` shifts who begins, so that no two always
/// follow each other at the seams.
#[must_use]
pub fn round(count: usize, turn: usize) -> Vec<usize> {
    let there: Vec<usize> = (0..count).map(|index| (index + turn) % count).collect();
    there.iter().chain(there.iter().rev()).copied().collect()
}

/// Figures of one configuration, two per round in the order in which they were measured, become one per round.
///
/// The mean of the two: each is as far from the round's middle as the other, on different sides.
#[must_use]
pub fn folded(figures: &[f64]) -> Vec<f64> {
    figures.chunks_exact(2).map(|pair| pair.iter().sum::<f64>() / 2.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_goes_there_and_back_and_begins_with_another_each_time() {
        assert_eq!(round(3, 0), [0, 1, 2, 2, 1, 0]);
        assert_eq!(round(3, 1), [1, 2, 0, 0, 2, 1]);
        assert_eq!(round(2, 2), [0, 1, 1, 0]);
        assert_eq!(round(0, 5), [0; 0]);
    }

    #[test]
    fn a_steady_drift_does_not_show_in_the_ratios() {
        // Each slice is a tenth dearer than the one before it: ABBA gives both the same mean.
        let cost = |position: usize| 100.0 + 10.0 * position as f64;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for turn in 0..4 {
            for (position, who) in round(2, turn).into_iter().enumerate() {
                let list = if who == 0 { &mut ours } else { &mut theirs };
                list.push(cost(position));
            }
        }
        assert_eq!(folded(&ours), folded(&theirs));
    }

    #[test]
    fn a_half_round_is_left_out() {
        assert_eq!(folded(&[2.0, 4.0, 9.0]), [3.0]);
    }
}
