//! Which address of which device masqueraded packets come from (item 59), as entries of the `sources` maps. Pure.
//!
//! IPv4 is looked up by the next hop, as `inet_select_addr` does it in the kernel: the address whose network holds it,
//! else the device's first. IPv6 is looked up by the destination, after RFC 6724: the address whose network holds it,
//! else one of the same kind (unique local or global), else the device's first. A device without a fit address has no
//! entries; the node's primary address stands in.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{IpAddr, Ipv6Addr},
};

use proxy_common::{Address, PrefixKey};

use super::topology::{Assigned, IfIndex, Role, Standing, Topology, is_global};

/// Unique local addresses (RFC 4193).
const UNIQUE_LOCAL: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7);

/// The entries of one family, for the devices that have a role: answers must come back where a program meets them.
#[must_use]
pub fn of<A: Address>(topology: &Topology, roles: &BTreeMap<IfIndex, Role>) -> BTreeMap<PrefixKey<A>, A> {
    let mut candidates: Vec<(IfIndex, A, Assigned)> = topology
        .addresses
        .iter()
        .filter(|((ip, at), assigned)| {
            roles.contains_key(at) && is_global(*ip) && assigned.standing != Standing::Unfit
        })
        .filter_map(|((ip, at), assigned)| Some((*at, A::from_ip(*ip)?, *assigned)))
        .collect();
    // The first to claim a prefix has it.
    candidates.sort_unstable_by_key(|(at, addr, assigned)| (*at, assigned.standing, assigned.order, *addr));
    let mut sources = BTreeMap::new();
    for (IfIndex(device), addr, assigned) in candidates {
        let network = PrefixKey::new(device, addr.and(A::prefix_mask(assigned.prefix)), assigned.prefix);
        let everywhere = PrefixKey::new(device, A::default(), 0);
        for key in [Some(network), of_kind(device, addr), Some(everywhere)].into_iter().flatten() {
            claim(&mut sources, key, addr);
        }
    }
    sources
}

/// The prefix of all addresses of the same kind; `None` where that is everything. A global address is nobody's kind
/// but takes the rest from a unique local one.
fn of_kind<A: Address>(device: u32, addr: A) -> Option<PrefixKey<A>> {
    match addr.to_ip() {
        IpAddr::V6(ip) if ip.is_unique_local() => {
            Some(PrefixKey::new(device, A::from_ip(UNIQUE_LOCAL.0.into())?, UNIQUE_LOCAL.1))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn claim<A: Address>(sources: &mut BTreeMap<PrefixKey<A>, A>, key: PrefixKey<A>, addr: A) {
    let is_local = |addr: A| matches!(addr.to_ip(), IpAddr::V6(ip) if ip.is_unique_local());
    match sources.entry(key) {
        Entry::Vacant(free) => {
            free.insert(addr);
        }
        // RFC 6724, rule 6: to the world, a global address goes before a unique local one.
        Entry::Occupied(mut taken) if key.bits == u32::BITS && is_local(*taken.get()) && !is_local(addr) => {
            taken.insert(addr);
        }
        Entry::Occupied(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::{Addr4, Addr6};

    use super::*;

    const POD: IfIndex = IfIndex(3);
    const UPLINK: IfIndex = IfIndex(7);

    fn topology(addresses: &[(&str, IfIndex, Standing)]) -> Topology {
        let assigned = |(order, (text, at, standing)): (usize, &(&str, IfIndex, Standing))| {
            let (ip, prefix) = text.split_once('/').unwrap();
            let order = u32::try_from(order).unwrap();
            let assigned = Assigned { prefix: prefix.parse().unwrap(), order, standing: *standing };
            ((ip.parse().unwrap(), *at), assigned)
        };
        Topology { addresses: addresses.iter().enumerate().map(assigned).collect(), ..Topology::default() }
    }

    fn sources<A: Address + std::fmt::Display>(addresses: &[(&str, IfIndex, Standing)]) -> Vec<String> {
        let roles = BTreeMap::from([(POD, Role::Pod), (UPLINK, Role::Uplink)]);
        let line = |(key, addr): (&PrefixKey<A>, &A)| {
            format!("{} {}/{} {addr}", key.scope, key.addr, key.bits - u32::BITS)
        };
        of::<A>(&topology(addresses), &roles).iter().map(line).collect()
    }

    use Standing::{Primary, Spare, Unfit};

    #[test]
    fn item_59_the_network_of_the_next_hop_decides_and_the_first_address_stands_for_the_rest() {
        assert_eq!(
            sources::<Addr4>(&[
                ("192.168.1.2/24", UPLINK, Primary),
                ("192.168.1.9/24", UPLINK, Spare),
                ("10.0.0.2/16", UPLINK, Primary),
                ("10.244.1.1/32", POD, Primary),
                ("169.254.0.1/16", POD, Unfit),
                ("172.17.0.1/16", IfIndex(9), Primary),
            ]),
            [
                "3 0.0.0.0/0 10.244.1.1",
                "7 0.0.0.0/0 192.168.1.2",
                "7 10.0.0.0/16 10.0.0.2",
                "7 192.168.1.0/24 192.168.1.2",
                "3 10.244.1.1/32 10.244.1.1",
            ]
        );
    }

    #[test]
    fn a_spare_address_serves_where_there_is_no_other() {
        assert_eq!(
            sources::<Addr4>(&[("192.168.1.9/24", UPLINK, Spare)]),
            ["7 0.0.0.0/0 192.168.1.9", "7 192.168.1.0/24 192.168.1.9"]
        );
        assert_eq!(
            sources::<Addr6>(&[("2001:db8::bad/64", UPLINK, Spare), ("2001:db8::1/64", UPLINK, Primary)]),
            ["7 ::/0 2001:db8::1", "7 2001:db8::/64 2001:db8::1"]
        );
        assert_eq!(sources::<Addr6>(&[("2001:db8::1/64", UPLINK, Unfit)]), [""; 0]);
    }

    #[test]
    fn an_ipv6_destination_gets_a_source_of_its_kind_and_never_a_link_local_one() {
        let addresses = [
            ("fe80::1/64", UPLINK, Primary),
            ("fd00:18::2/64", UPLINK, Primary),
            ("2001:db8::2/64", UPLINK, Primary),
        ];
        assert_eq!(
            sources::<Addr6>(&addresses),
            [
                "7 ::/0 2001:db8::2",
                "7 fc00::/7 fd00:18::2",
                "7 2001:db8::/64 2001:db8::2",
                "7 fd00:18::/64 fd00:18::2",
            ]
        );
        assert_eq!(
            sources::<Addr6>(&addresses[..2]),
            ["7 ::/0 fd00:18::2", "7 fc00::/7 fd00:18::2", "7 fd00:18::/64 fd00:18::2"]
        );
    }
}
