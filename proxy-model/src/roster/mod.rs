//! In which slots the backends of a Service port stand, so that its algorithm needs nothing but a number below the
//! length of the segment. A function of the set of backends and their weights alone: nodes agree.
//!
//! ```text
//! rr, lc                  every backend once, in order
//! random, wrr, wlc        as often as its weight says, evenly spread
//! maglev, sh              a Maglev table
//! ```
//! A backend with the weight of zero stands in no slot, unless all have that weight: then it counts for nothing.

mod maglev;
mod spread;

use std::sync::Arc;

use proxy_common::{Address, Algorithm, Backend, Weight, limits};

/// How long a Maglev table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TableSize {
    /// By the number of backends: [`limits::MAGLEV_TABLES`].
    #[default]
    Fitting,
    /// So many slots, a prime. Sets that grow never move connections for the table's sake.
    Fixed(u32),
}

impl TableSize {
    fn slots(self, backends: usize) -> u32 {
        match self {
            Self::Fixed(slots) => slots,
            Self::Fitting => {
                let fits = |(most, _): &&(u32, u32)| backends <= *most as usize;
                let (_, slots) = limits::MAGLEV_TABLES.iter().find(fits).unwrap_or(&limits::MAGLEV_TABLES[0]);
                *slots
            }
        }
    }
}

/// The slots of a list of backends, which is sorted by address and port.
pub fn slots<A: Address>(
    backends: &Arc<[Backend<A>]>,
    algorithm: Algorithm,
    size: TableSize,
) -> Arc<[Backend<A>]> {
    let active: Arc<[Backend<A>]> = if backends.iter().all(|backend| backend.weight == Weight::DRAINED) {
        weighing(backends.iter(), |_| Weight::ONE)
    } else if backends.iter().any(|backend| backend.weight == Weight::DRAINED) {
        weighing(backends.iter().filter(|backend| backend.weight != Weight::DRAINED), |weight| weight)
    } else {
        backends.clone()
    };
    if active.is_empty() {
        return active;
    }
    match algorithm {
        Algorithm::MAGLEV | Algorithm::SOURCE_HASH => maglev::table(&active, size.slots(active.len())),
        Algorithm::ROUND_ROBIN | Algorithm::LEAST_CONNECTIONS => even(active),
        // What another version calls an algorithm is served at random.
        _ => spread::by_weight(active),
    }
}

/// Weights that do not count are left out, so that equal sets share one segment.
fn even<A: Address>(backends: Arc<[Backend<A>]>) -> Arc<[Backend<A>]> {
    if backends.iter().all(|backend| backend.weight == Weight::ONE) {
        return backends;
    }
    weighing(backends.iter(), |_| Weight::ONE)
}

fn weighing<'a, A: Address>(
    backends: impl Iterator<Item = &'a Backend<A>>,
    weight: impl Fn(Weight) -> Weight,
) -> Arc<[Backend<A>]> {
    backends.map(|backend| Backend { weight: weight(backend.weight), ..*backend }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_common::{Addr4, BackendFlags, Port};
    use std::net::Ipv4Addr;

    fn list(weights: &[u8]) -> Arc<[Backend<Addr4>]> {
        let backend = |(last, weight): (u8, &u8)| Backend {
            weight: Weight(*weight),
            ..Backend::new(Ipv4Addr::new(10, 0, 0, last).into(), Port::new(80), BackendFlags::REMOTE)
        };
        (1..).zip(weights).map(backend).collect()
    }

    fn hosts(algorithm: Algorithm, weights: &[u8]) -> Vec<u8> {
        let slots = slots(&list(weights), algorithm, TableSize::Fixed(7));
        slots.iter().map(|backend| backend.addr.to_words()[0].to_ne_bytes()[3]).collect()
    }

    #[test]
    fn an_algorithm_without_weights_has_each_backend_once_and_a_weighted_one_as_often_as_its_weight() {
        for algorithm in [Algorithm::ROUND_ROBIN, Algorithm::LEAST_CONNECTIONS] {
            assert_eq!(hosts(algorithm, &[3, 1, 2]), [1, 2, 3]);
        }
        for algorithm in
            [Algorithm::RANDOM, Algorithm::WEIGHTED_ROUND_ROBIN, Algorithm::WEIGHTED_LEAST_CONNECTIONS]
        {
            assert_eq!(hosts(algorithm, &[3, 1, 2]), [1, 3, 1, 2, 3, 1]);
            assert_eq!(hosts(algorithm, &[1, 1, 1]), [1, 2, 3]);
        }
        for algorithm in [Algorithm::MAGLEV, Algorithm::SOURCE_HASH] {
            assert_eq!(hosts(algorithm, &[1, 1]).len(), 7);
        }
    }

    #[test]
    fn a_backend_without_weight_stands_nowhere_unless_all_are_without() {
        for (algorithm, _) in Algorithm::ALL {
            let some = hosts(algorithm, &[0, 1, 1]);
            assert!(!some.contains(&1) && some.contains(&2) && some.contains(&3), "{algorithm}");
            assert_eq!(hosts(algorithm, &[0, 0, 0]), hosts(algorithm, &[1, 1, 1]), "{algorithm}");
            assert_eq!(hosts(algorithm, &[]), [0_u8; 0], "{algorithm}");
        }
    }

    #[test]
    fn equal_sets_share_their_slots_whatever_weights_do_not_count() {
        let of = |algorithm, weights: &[u8]| slots(&list(weights), algorithm, TableSize::Fitting);
        let plain = of(Algorithm::RANDOM, &[1, 1]);
        assert_eq!(of(Algorithm::ROUND_ROBIN, &[4, 9]), plain);
        assert_eq!(of(Algorithm::LEAST_CONNECTIONS, &[1, 2]), plain);
        assert_eq!(of(Algorithm::MAGLEV, &[1, 2]), of(Algorithm::SOURCE_HASH, &[1, 2]));
    }

    #[test]
    fn a_table_fits_the_number_of_backends() {
        let sizes = [1, 160, 161, 5_000].map(|backends| TableSize::Fitting.slots(backends));
        assert_eq!(sizes, [16_381, 16_381, 131_101, 131_101]);
        assert_eq!(TableSize::Fixed(1_021).slots(5_000), 1_021);
    }
}
