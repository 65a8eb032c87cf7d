//! The prefixes of all blocks in use, and which sets of peers the addresses are in that have a prefix as their longest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::peers::{Block, PeersId};
use crate::fact::Prefix;

/// Prefix → the sets of peers that its addresses are in, but for those of longer prefixes. Both families: an IPv4 prefix
/// holds no IPv6 address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Networks {
    prefixes: BTreeMap<Prefix, Vec<PeersId>>,
    /// Lengths that there are, per family: IPv4 first.
    lengths: [BTreeSet<u8>; 2],
}

/// A prefix on the way from the widest one to the one that is looked at.
struct Step<'a> {
    prefix: Prefix,
    /// Blocks that begin here, and blocks that except it.
    begins: &'a [usize],
    excepts: &'a [usize],
    /// Its sets, as far as it is in the result; else those of the one around it.
    peers: Vec<PeersId>,
}

fn family(addr: IpAddr) -> usize {
    usize::from(addr.is_ipv6())
}

impl Networks {
    /// From the blocks of each set.
    pub(super) fn new<'a>(blocks: impl IntoIterator<Item = (PeersId, &'a Block)>) -> Self {
        let blocks: Vec<_> = blocks.into_iter().collect();
        let mut edges: BTreeMap<Prefix, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for (number, (_, block)) in blocks.iter().enumerate() {
            edges.entry(block.net).or_default().0.push(number);
            for except in &block.except {
                edges.entry(*except).or_default().1.push(number);
            }
        }
        let mut networks = Self::default();
        let mut way: Vec<Step<'_>> = Vec::new();
        // In order, a prefix comes after all that are around it.
        for (prefix, (begins, excepts)) in &edges {
            while way.last().is_some_and(|step| !step.prefix.covers(prefix)) {
                way.pop();
            }
            way.push(Step { prefix: *prefix, begins, excepts, peers: Vec::new() });
            let excepted: BTreeSet<_> = way.iter().flat_map(|step| step.excepts).collect();
            let inside = way.iter().flat_map(|step| step.begins).filter(|number| !excepted.contains(number));
            let peers: BTreeSet<_> =
                inside.filter_map(|number| blocks.get(*number)).map(|(peers, _)| *peers).collect();
            let peers: Vec<_> = peers.into_iter().collect();
            let around = way.iter().rev().nth(1).map_or(&[][..], |step| &step.peers);
            if peers != around {
                networks.prefixes.insert(*prefix, peers.clone());
                if let Some(lengths) = networks.lengths.get_mut(family(prefix.addr)) {
                    lengths.insert(prefix.len);
                }
            }
            if let Some(step) = way.last_mut() {
                step.peers = peers;
            }
        }
        networks
    }

    /// The sets that an address is in.
    pub(super) fn at(&self, addr: IpAddr) -> &[PeersId] {
        let lengths = self.lengths.get(family(addr)).into_iter().flatten().rev();
        let mut found = lengths.filter_map(|len| self.prefixes.get(&Prefix { addr, len: *len }.canonical()));
        found.next().map_or(&[], Vec::as_slice)
    }

    /// Every prefix with its sets.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Prefix, &[PeersId])> {
        self.prefixes.iter().map(|(prefix, peers)| (*prefix, peers.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (addr, len) = text.split_once('/').unwrap();
        Prefix { addr: addr.parse().unwrap(), len: len.parse().unwrap() }
    }

    fn block(net: &str, except: &[&str]) -> Block {
        Block::new(prefix(net), except.iter().map(|text| prefix(text))).unwrap()
    }

    /// What the contract says, one by one.
    fn naive(blocks: &[(PeersId, Block)], addr: IpAddr) -> Vec<PeersId> {
        let holds = |block: &Block| {
            block.net.contains(addr) && !block.except.iter().any(|except| except.contains(addr))
        };
        let found: BTreeSet<_> = blocks.iter().filter(|(_, block)| holds(block)).map(|(id, _)| *id).collect();
        found.into_iter().collect()
    }

    #[test]
    fn items_20_to_23_nested_blocks_and_exceptions_come_down_to_the_longest_prefix() {
        let [a, b, c, d] = [1, 2, 3, 4].map(PeersId);
        let blocks = vec![
            (a, block("10.0.0.0/8", &["10.1.0.0/16", "10.2.3.4/32"])),
            (b, block("10.1.0.0/16", &["10.1.2.0/24"])),
            (b, block("10.1.2.128/25", &[])),
            (c, block("0.0.0.0/0", &["10.0.0.0/8"])),
            (d, block("fd00::/16", &["fd00:1::/32"])),
            (a, block("::/0", &[])),
        ];
        let networks = Networks::new(blocks.iter().map(|(id, block)| (*id, block)));
        let addresses = [
            "10.0.0.1",
            "10.1.0.1",
            "10.1.2.1",
            "10.1.2.129",
            "10.2.3.4",
            "10.2.3.5",
            "9.9.9.9",
            "11.0.0.0",
            "fd00::1",
            "fd00:1::1",
            "2001:db8::1",
        ];
        for addr in addresses.map(|text| text.parse().unwrap()) {
            assert_eq!(networks.at(addr), naive(&blocks, addr), "{addr}");
        }
        assert_eq!(Networks::default().at([1, 2, 3, 4].into()), []);
    }

    #[test]
    fn a_prefix_that_changes_nothing_is_left_out() {
        let blocks = [(PeersId(1), block("10.0.0.0/8", &[])), (PeersId(1), block("10.1.0.0/16", &[]))];
        let networks = Networks::new(blocks.iter().map(|(id, block)| (*id, block)));
        assert_eq!(networks.iter().collect::<Vec<_>>(), [(prefix("10.0.0.0/8"), &[PeersId(1)][..])]);
    }
}
