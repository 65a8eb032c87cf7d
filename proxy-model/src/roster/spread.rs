//! Each backend as often as its weight says, with its occurrences as far apart as they can be. One after the other,
//! the slots are a weighted round robin; at random, they give each backend its share.

use std::cmp::Ordering;
use std::sync::Arc;

use proxy_common::{Address, Backend, Weight, limits::WEIGHTED_SLOTS};

/// The n-th of `times` occurrences of a backend: in the middle of the n-th of so many equal parts.
#[derive(Clone, Copy)]
struct Occurrence {
    backend: usize,
    number: u32,
    times: u32,
}

impl Occurrence {
    /// By place; at one place the backend with more occurrences first, then in the order of the list.
    fn order(&self, other: &Self) -> Ordering {
        let place = |a: &Self, b: &Self| u64::from(2 * a.number + 1) * u64::from(b.times);
        let by_place = place(self, other).cmp(&place(other, self));
        by_place.then(other.times.cmp(&self.times)).then(self.backend.cmp(&other.backend))
    }
}

/// No more than [`WEIGHTED_SLOTS`] slots, unless there are more backends: then each has one.
pub(super) fn by_weight<A: Address>(backends: Arc<[Backend<A>]>) -> Arc<[Backend<A>]> {
    let weights: Vec<u32> = backends.iter().map(|backend| u32::from(backend.weight.0)).collect();
    let times = times(&weights);
    if times.iter().all(|times| *times == 1) {
        // Weights of one, so that equal sets share one segment.
        return super::even(backends);
    }
    let occurrences = times.iter().enumerate().flat_map(|(backend, times)| {
        (0..*times).map(move |number| Occurrence { backend, number, times: *times })
    });
    let mut order: Vec<_> = occurrences.collect();
    order.sort_unstable_by(Occurrence::order);
    let slot = |occurrence: &Occurrence| {
        let weight = Weight(u8::try_from(weights[occurrence.backend]).unwrap_or(u8::MAX));
        Backend { weight, ..backends[occurrence.backend] }
    };
    order.iter().map(slot).collect()
}

/// How often each stands in the slots: the weights without their common divisor, and scaled down if they are too
/// many, none below one.
fn times(weights: &[u32]) -> Vec<u32> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let total: u64 = weights.iter().map(|weight| u64::from(weight / divisor)).sum();
    let most = u64::from(WEIGHTED_SLOTS);
    let scaled = |weight: u64| (weight * most + total / 2) / total.max(1);
    let times = |weight: &u32| {
        let weight = u64::from(weight / divisor);
        let times = if total > most { scaled(weight) } else { weight };
        u32::try_from(times.max(1)).unwrap_or(u32::MAX)
    };
    weights.iter().map(times).collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_common::{Addr4, BackendFlags, Port};
    use std::net::Ipv4Addr;

    fn order(weights: &[u8]) -> Vec<usize> {
        let backend = |(last, weight): (u8, &u8)| Backend::<Addr4> {
            weight: Weight(*weight),
            ..Backend::new(Ipv4Addr::new(10, 0, 0, last).into(), Port::new(80), BackendFlags::REMOTE)
        };
        let slots = by_weight((0..).zip(weights).map(backend).collect());
        slots.iter().map(|slot| (slot.addr.to_words()[0].to_ne_bytes()[3]).into()).collect()
    }

    #[test]
    fn weights_without_their_common_divisor_are_the_numbers_of_slots() {
        assert_eq!(order(&[4, 2, 2]), [0, 1, 2, 0]);
        assert_eq!(order(&[7, 7]), [0, 1]);
        assert_eq!(order(&[1, 3]), [1, 1, 0, 1]);
    }

    #[test]
    fn any_run_of_slots_holds_each_backend_in_proportion() {
        for weights in [&[5_u8, 1, 1][..], &[10, 7, 3], &[255, 1], &[1, 2, 3, 4, 5], &[3, 3, 2]] {
            let order = order(weights);
            let total: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
            assert_eq!(order.len(), total);
            for (backend, weight) in weights.iter().enumerate() {
                let mut seen = 0.0;
                for (slots, one) in order.iter().enumerate() {
                    seen += f64::from(u8::from(*one == backend));
                    let share = (slots + 1) as f64 * f64::from(*weight) / total as f64;
                    let bound = weights.len() as f64 / 2.0 + 0.5;
                    assert!(
                        (seen - share).abs() <= bound,
                        "{weights:?} {backend} after {slots}: {seen} {share}"
                    );
                }
            }
        }
    }

    #[test]
    fn too_many_slots_are_scaled_down_and_nobody_is_left_out() {
        let weights: Vec<u32> = (0..100).map(|n| if n == 0 { 1 } else { 200 + n % 50 }).collect();
        let times = times(&weights);
        assert!(times.iter().all(|times| *times > 0));
        let total: u32 = times.iter().sum();
        assert!(total.abs_diff(WEIGHTED_SLOTS) <= 100, "{total}");
        assert_eq!(times[0], 1);
        let many = vec![3; 20_000];
        assert_eq!(super::times(&many), vec![1; 20_000]);
    }
}
