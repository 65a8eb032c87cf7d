//! What the maps hold or should hold, by plain addresses; and the writes that lead from one to the other. The only file of
//! this room that tells the families apart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proxy_common::group::Tier;
use proxy_common::policy::{PeerClass, Policed, PolicyFlags};
use proxy_common::{Address, Family, PrefixKey, V4, V6};

use super::write::{AddressWrite, PolicyTable, PolicyWrite};
use crate::fact::Prefix;

/// Both families of the maps that are asked by an address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Maps {
    pub(super) policed: BTreeMap<IpAddr, Policed>,
    pub(super) peers: BTreeMap<IpAddr, PeerClass>,
    pub(super) blocks: BTreeMap<Prefix, PeerClass>,
}

/// An entry of one of the maps, by its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Entry {
    Policed(IpAddr),
    Peer(IpAddr),
    Block(Prefix),
}

/// A family's writes as writes of a plan.
trait Planned: Family {
    fn write(write: AddressWrite<Self>) -> PolicyWrite;
}

impl Planned for V4 {
    fn write(write: AddressWrite<Self>) -> PolicyWrite {
        PolicyWrite::V4(write)
    }
}

impl Planned for V6 {
    fn write(write: AddressWrite<Self>) -> PolicyWrite {
        PolicyWrite::V6(write)
    }
}

fn prefix_of<A: Address>(key: &PrefixKey<A>) -> Prefix {
    let len = u8::try_from(key.bits.saturating_sub(u32::BITS)).unwrap_or(u8::MAX);
    Prefix { addr: key.addr.to_ip(), len }
}

impl Entry {
    /// The entry that a write changes, if it is one of these maps'.
    pub(super) fn of(write: &PolicyWrite) -> Option<Self> {
        fn of<F: Family>(write: &AddressWrite<F>) -> Entry {
            match write {
                AddressWrite::PutBlock { key, .. } | AddressWrite::DeleteBlock { key } => {
                    Entry::Block(prefix_of(key))
                }
                AddressWrite::PutPeer { addr, .. } | AddressWrite::DeletePeer { addr } => {
                    Entry::Peer(addr.to_ip())
                }
                AddressWrite::PutPoliced { addr, .. } | AddressWrite::DeletePoliced { addr } => {
                    Entry::Policed(addr.to_ip())
                }
            }
        }
        match write {
            PolicyWrite::PutVerdict { .. } | PolicyWrite::DeleteVerdict { .. } | PolicyWrite::State(_) => {
                None
            }
            PolicyWrite::V4(write) => Some(of(write)),
            PolicyWrite::V6(write) => Some(of(write)),
        }
    }
}

impl Maps {
    /// Adds what a family's maps hold.
    pub(super) fn add<F: Family>(&mut self, table: PolicyTable<F>) {
        let PolicyTable { policed, peers, blocks } = table;
        self.policed.extend(policed.into_iter().map(|(addr, value)| (addr.to_ip(), value)));
        self.peers.extend(peers.into_iter().map(|(addr, class)| (addr.to_ip(), class)));
        self.blocks.extend(blocks.into_iter().map(|(key, class)| (prefix_of(&key), class)));
    }

    /// Whether there are blocks in each family.
    pub(super) fn flags(&self) -> PolicyFlags {
        let mut flags = PolicyFlags::default();
        for prefix in self.blocks.keys() {
            flags =
                flags.with(if prefix.addr.is_ipv4() { PolicyFlags::BLOCKS4 } else { PolicyFlags::BLOCKS6 });
        }
        flags
    }

    /// The class that the kernel finds for a prefix: its own, or that of the next one around it.
    fn around(&self, prefix: Prefix) -> PeerClass {
        let lengths = (0..=prefix.len).rev();
        let mut found =
            lengths.filter_map(|len| self.blocks.get(&Prefix { addr: prefix.addr, len }.canonical()));
        found.next().copied().unwrap_or(PeerClass::WORLD)
    }

    /// The class of what an entry is about.
    pub(super) fn class(&self, entry: Entry) -> PeerClass {
        match entry {
            Entry::Policed(addr) | Entry::Peer(addr) => match self.peers.get(&addr) {
                Some(class) => *class,
                None => self.around(Prefix { addr, len: u8::MAX }.canonical()),
            },
            Entry::Block(prefix) => self.around(prefix),
        }
    }

    /// The write that makes an entry what it is here.
    pub(super) fn write(&self, entry: Entry) -> Option<PolicyWrite> {
        fn of<F: Planned>(maps: &Maps, entry: Entry) -> Option<PolicyWrite> {
            let write = match entry {
                Entry::Policed(ip) => {
                    let addr = F::Addr::from_ip(ip)?;
                    match maps.policed.get(&ip) {
                        Some(value) => AddressWrite::PutPoliced { addr, value: *value },
                        None => AddressWrite::DeletePoliced { addr },
                    }
                }
                Entry::Peer(ip) => {
                    let addr = F::Addr::from_ip(ip)?;
                    match maps.peers.get(&ip) {
                        Some(class) => AddressWrite::PutPeer { addr, class: *class },
                        None => AddressWrite::DeletePeer { addr },
                    }
                }
                Entry::Block(prefix) => {
                    let key = Tier::key(F::Addr::from_ip(prefix.addr)?, prefix.len);
                    match maps.blocks.get(&prefix) {
                        Some(class) => AddressWrite::PutBlock { key, class: *class },
                        None => AddressWrite::DeleteBlock { key },
                    }
                }
            };
            Some(F::write(write))
        }
        of::<V4>(self, entry).or_else(|| of::<V6>(self, entry))
    }

    /// Takes over an entry as it is there.
    pub(super) fn take(&mut self, entry: Entry, from: &Self) {
        fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
            match value {
                Some(value) => {
                    map.insert(key, value);
                }
                None => {
                    map.remove(&key);
                }
            }
        }
        match entry {
            Entry::Policed(addr) => set(&mut self.policed, addr, from.policed.get(&addr).copied()),
            Entry::Peer(addr) => set(&mut self.peers, addr, from.peers.get(&addr).copied()),
            Entry::Block(prefix) => set(&mut self.blocks, prefix, from.blocks.get(&prefix).copied()),
        }
    }

    /// The blocks that are others here and there; first those that are to go.
    pub(super) fn changed_blocks(&self, wanted: &Self) -> Vec<Entry> {
        changed(&self.blocks, &wanted.blocks, self.blocks.keys().chain(wanted.blocks.keys()), Entry::Block)
    }

    /// The same for policed addresses.
    pub(super) fn changed_policed(&self, wanted: &Self) -> Vec<Entry> {
        let keys = self.policed.keys().chain(wanted.policed.keys());
        changed(&self.policed, &wanted.policed, keys, Entry::Policed)
    }

    /// The same for those of these addresses that are peers.
    pub(super) fn changed_peers(&self, wanted: &Self, among: &BTreeSet<IpAddr>) -> Vec<Entry> {
        changed(&self.peers, &wanted.peers, among.iter(), Entry::Peer)
    }

    /// Entries of the fuller family of each map: policed, peers, blocks.
    pub(super) fn sizes(&self) -> [usize; 3] {
        fn fuller<'a>(addrs: impl Iterator<Item = &'a IpAddr>) -> usize {
            let mut counts = [0, 0];
            for addr in addrs {
                let [four, six] = &mut counts;
                *(if addr.is_ipv4() { four } else { six }) += 1;
            }
            counts.into_iter().max().unwrap_or_default()
        }
        let blocks = fuller(self.blocks.keys().map(|prefix| &prefix.addr));
        [fuller(self.policed.keys()), fuller(self.peers.keys()), blocks]
    }
}

fn changed<'a, K: Ord + Copy + 'a, V: PartialEq>(
    here: &BTreeMap<K, V>,
    there: &BTreeMap<K, V>,
    among: impl Iterator<Item = &'a K>,
    entry: impl Fn(K) -> Entry,
) -> Vec<Entry> {
    let keys: BTreeSet<_> = among.filter(|key| here.get(key) != there.get(key)).copied().collect();
    let (puts, deletions): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| there.contains_key(key));
    deletions.into_iter().chain(puts).map(entry).collect()
}
