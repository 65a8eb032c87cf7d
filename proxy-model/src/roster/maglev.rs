//! The lookup table of Maglev, section 3.4 of the paper: each backend prefers the slots in an order of its own, and
//! they take turns in picking the next slot that is free. Backends keep most of their slots when another one comes or
//! goes, and all have nearly the same number.
//! <https://research.google/pubs/maglev-a-fast-and-reliable-software-network-load-balancer/>
//!
//! Names are addresses and ports, the seeds are fixed: whoever knows the set of backends makes the same table.

use std::net::IpAddr;
use std::sync::Arc;

use proxy_common::{Address, Backend, algorithm::mix};

/// Seeds of the two hashes of a backend's name.
const OFFSET: u32 = 0x6d61_676c;
const SKIP: u32 = 0x6576_0001;

/// The order in which a backend prefers the slots: `offset`, then always `skip` further, round the table.
struct Preference {
    at: u32,
    skip: u32,
}

impl Preference {
    fn new<A: Address>(backend: &Backend<A>, slots: u32) -> Self {
        // The skip is no multiple of the number of slots, which is a prime: every slot is met.
        Self { at: name_hash(backend, OFFSET) % slots, skip: name_hash(backend, SKIP) % (slots - 1) + 1 }
    }

    fn next(&mut self, slots: u32) -> usize {
        let at = self.at;
        // Neither is above a few hundred thousand.
        self.at = (at + self.skip) % slots;
        at as usize
    }
}

/// The table of these backends; a heavier one picks more often. `slots` is a prime, and there is at least one backend.
pub(super) fn table<A: Address>(backends: &[Backend<A>], slots: u32) -> Arc<[Backend<A>]> {
    let mut preferences: Vec<_> = backends.iter().map(|backend| Preference::new(backend, slots)).collect();
    let heaviest = backends.iter().map(|backend| u32::from(backend.weight.0)).max().unwrap_or(1).max(1);
    // How much of a turn each has saved up.
    let mut credit = vec![0; backends.len()];
    let mut table: Vec<Option<Backend<A>>> = vec![None; slots as usize];
    let mut free = slots;
    while free > 0 {
        for (index, backend) in backends.iter().enumerate() {
            credit[index] += u32::from(backend.weight.0);
            if credit[index] < heaviest {
                continue;
            }
            credit[index] -= heaviest;
            let preference = &mut preferences[index];
            let slot = std::iter::repeat_with(|| preference.next(slots)).find(|slot| table[*slot].is_none());
            if let Some(slot) = slot {
                table[slot] = Some(*backend);
            }
            free -= 1;
            if free == 0 {
                break;
            }
        }
    }
    table.into_iter().flatten().collect()
}

/// The hash of address and port, the same on machines of either byte order.
fn name_hash<A: Address>(backend: &Backend<A>, seed: u32) -> u32 {
    let hash = match backend.addr.to_ip() {
        IpAddr::V4(ip) => mix(seed, ip.to_bits()),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            [96, 64, 32, 0].iter().fold(seed, |hash, shift| mix(hash, (bits >> shift) as u32))
        }
    };
    mix(hash, u32::from(backend.port.number()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_common::{Addr4, Addr6, BackendFlags, Port, Weight, limits::MAGLEV_TABLES};
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn v4(host: u32) -> Backend<Addr4> {
        let ip = Ipv4Addr::from_bits(0x0a00_0000 + host);
        Backend::new(ip.into(), Port::new(8080), BackendFlags::REMOTE)
    }

    fn v6(host: u32) -> Backend<Addr6> {
        let ip = Ipv6Addr::from_bits((0xfd00_u128 << 112) + u128::from(host));
        Backend::new(ip.into(), Port::new(8080), BackendFlags::REMOTE)
    }

    fn sizes() -> [(u32, u32); 2] {
        MAGLEV_TABLES.map(|(most, slots)| (most.min(1_000), slots))
    }

    /// Slots that neither `gone` had nor `came` has, and that changed hands all the same, in 10,000 of those.
    fn moved<A: Address>(before: &[Backend<A>], after: &[Backend<A>], changed: Backend<A>) -> usize {
        let others = before.iter().zip(after).filter(|(b, a)| **b != changed && **a != changed);
        let (all, moved) = others.fold((0, 0), |(all, moved), (b, a)| (all + 1, moved + usize::from(b != a)));
        moved * 10_000 / all
    }

    fn worst_move<A: Address>(backend: impl Fn(u32) -> Backend<A>, count: u32, slots: u32) -> usize {
        let all: Vec<_> = (1..=count).map(|n| backend(n * 7)).collect();
        let full = table(&all, slots);
        // The first, one in the middle, the last.
        [0, all.len() / 2, all.len() - 1]
            .into_iter()
            .map(|gone| {
                let mut rest = all.clone();
                rest.remove(gone);
                // Read backwards it is the backend that comes.
                moved(&full, &table(&rest, slots), all[gone])
            })
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn a_backend_that_comes_or_goes_moves_two_percent_of_the_other_connections_at_most() {
        for (most, slots) in sizes() {
            for count in [2, 3, 5, 10, 40, 100, 160, 500, 1_000].into_iter().filter(|count| *count <= most) {
                for worst in [worst_move(v4, count, slots), worst_move(v6, count, slots)] {
                    assert!(worst <= 200, "{count} backends in {slots} slots: {worst} in 10,000");
                }
            }
        }
    }

    #[test]
    fn every_slot_is_filled_and_shares_differ_by_one_slot() {
        for (most, slots) in sizes() {
            for count in [1, 2, 7, 160, 1_000].into_iter().filter(|count| *count <= most) {
                let all: Vec<_> = (1..=count).map(v4).collect();
                let table = table(&all, slots);
                assert_eq!(table.len(), slots as usize);
                let mut shares = BTreeMap::new();
                table.iter().for_each(|backend| *shares.entry(*backend).or_insert(0) += 1);
                assert_eq!(shares.len(), count as usize);
                let (least, most) = (shares.values().min().unwrap(), shares.values().max().unwrap());
                assert!(most - least <= 1, "{count} in {slots}: {least} to {most}");
            }
        }
    }

    #[test]
    fn a_heavier_backend_has_as_many_more_slots() {
        let weights = [1, 2, 4, 100];
        let all: Vec<_> =
            (1..).zip(weights).map(|(n, weight)| Backend { weight: Weight(weight), ..v4(n) }).collect();
        let table = table(&all, 16_381);
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        for (backend, weight) in all.iter().zip(weights) {
            let share = table.iter().filter(|slot| *slot == backend).count() as f64;
            let due = 16_381.0 * f64::from(weight) / total;
            assert!((share - due).abs() <= 4.0, "{weight}: {share} of {due}");
        }
    }

    /// Worked out by hand for a table of seven slots, as in the paper's figure: the names' hashes are given.
    #[test]
    fn slots_are_taken_in_turns_along_each_ones_permutation() {
        let mut preferences = [Preference { at: 3, skip: 4 }, Preference { at: 0, skip: 2 }];
        let permutation = |preference: &mut Preference| [(); 7].map(|()| preference.next(7));
        assert_eq!(permutation(&mut preferences[0]), [3, 0, 4, 1, 5, 2, 6]);
        assert_eq!(permutation(&mut preferences[1]), [0, 2, 4, 6, 1, 3, 5]);
    }

    /// Agents of different versions agree only as long as these stay.
    #[test]
    fn the_hash_of_a_name_never_changes() {
        assert_eq!(name_hash(&v4(1), OFFSET), golden::V4);
        assert_eq!(name_hash(&v6(1), SKIP), golden::V6);
    }

    mod golden {
        //! Computed by MurmurHash3's published finalizer, word by word, outside of this program.
        pub(super) const V4: u32 = 0x2977_842c;
        pub(super) const V6: u32 = 0x0ce6_95de;
    }
}
