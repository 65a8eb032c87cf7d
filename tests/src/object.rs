//! The kernel programs as they were built, and typed access to their maps for tests that load them by hand.

use aya::{
    Ebpf, EbpfLoader, Pod, VerifierLogLevel,
    maps::{
        Array, HashMap, MapData,
        lpm_trie::{Key, LpmTrie},
    },
    programs::ProgramError,
};
use proxy_common::{
    Address, DatapathConfig, NodeConfig, PrefixKey, RangeKey, Reason, ServiceId, Tally, ferry::Places,
    maps::MapType,
};
use std::{borrow::Cow, collections::BTreeMap};
use zerocopy::IntoBytes as _;

use crate::content;

/// The object file.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice.o"));

/// A map type as aya wants to have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Cell<T>(pub T);

// SAFETY: a `MapType` is plain old data without padding, checked where `proxy_common` is compiled, and `Cell` has
// its layout.
unsafe impl<T: MapType> Pod for Cell<T> {}

/// A hash of the object; LRU too.
pub type Hash<'a, K, V> = HashMap<&'a mut MapData, Cell<K>, Cell<V>>;

/// Creates the maps and relocates the programs; nothing is given to the verifier yet.
///
/// Maps of services are small (`entries`), so that many tests can run side by side.
///
/// # Panics
/// If the kernel refuses: without privileges, or because the object is broken.
#[must_use]
pub fn load(config: DatapathConfig, entries: u32) -> Ebpf {
    load_but_for(config, entries, &[])
}

/// The same for whoever runs packet programs only: sockets' places, more than all other cells together, are looked at by
/// none of them, and there are few.
///
/// # Panics
/// As [`load`].
#[must_use]
pub(crate) fn load_for_packets(config: DatapathConfig, entries: u32) -> Ebpf {
    load_but_for(config, entries, &["streams"])
}

fn load_but_for(config: DatapathConfig, entries: u32, small: &[&str]) -> Ebpf {
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::DEBUG | VerifierLogLevel::STATS);
    loader.override_global("CONFIG", config.as_bytes(), true);
    let places = same_places();
    loader.override_global("FERRY", places.as_bytes(), true);
    for spec in proxy_common::maps::SPECS {
        let is_larger = spec.entries > entries
            && (small.contains(&spec.name)
                || !["counters", "early", "hooked", "mentioned", "parties", "spans", "streams"]
                    .contains(&spec.name));
        // Connections may be more than usual.
        if is_larger || ["flows4", "flows6"].contains(&spec.name) || spec.name.starts_with("spare") {
            loader.map_max_entries(spec.name, entries);
        }
    }
    loader.load(&bytes()).expect("the object loads; needs root")
}

/// The other layout is as ours.
fn same_places() -> Places {
    fn same<const N: usize>() -> [u8; N] {
        std::array::from_fn(|place| u8::try_from(place).expect("an entry is short"))
    }
    Places { key4: same(), flow4: same(), key6: same(), flow6: same() }
}

/// How often a signal may cut the verifier short before that is a failure: on a busy machine it happens several times
/// in a row.
const ATTEMPTS: u32 = 50;

/// Loads a program; again, if a signal cut the verifier short.
///
/// # Panics
/// If the verifier refuses it; the message is its log.
pub fn load_program(name: &str, mut load: impl FnMut() -> Result<(), ProgramError>) {
    for _ in 0..ATTEMPTS {
        match load() {
            Ok(()) => return,
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{name}: {error:?}"),
        }
    }
    panic!("{name}: signals kept the verifier from finishing");
}

/// The object, or the one that `SLUICE_BPF_OBJECT` names: a built test binary can try another one.
pub fn bytes() -> Cow<'static, [u8]> {
    match std::env::var_os("SLUICE_BPF_OBJECT") {
        Some(path) => std::fs::read(&path).expect("SLUICE_BPF_OBJECT names a file").into(),
        None => OBJECT.into(),
    }
}

/// A hash of the object by name.
///
/// # Panics
/// If there is none, or its sizes are others.
pub fn hash<'a, K: MapType, V: MapType>(object: &'a mut Ebpf, name: &str) -> Hash<'a, K, V> {
    let map = object.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
    HashMap::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// An array of the object by name.
///
/// # Panics
/// If there is none, or its sizes are others.
pub fn array<'a, V: MapType>(object: &'a mut Ebpf, name: &str) -> Array<&'a mut MapData, Cell<V>> {
    let map = object.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
    Array::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The counters that are not zero, summed over all processors.
///
/// # Panics
/// If the map cannot be read.
#[must_use]
pub fn counters(object: &Ebpf) -> BTreeMap<Reason, u64> {
    sums(object, "counters")
}

/// Those of what the XDP hook ended.
///
/// # Panics
/// If the map cannot be read.
#[must_use]
pub fn early(object: &Ebpf) -> BTreeMap<Reason, u64> {
    sums(object, "early")
}

/// Read as a whole: a call for each counter takes longer than the program that counted.
fn sums(object: &Ebpf, name: &str) -> BTreeMap<Reason, u64> {
    let map = object.map(name).expect("the object has counters");
    let entries = content::entries(name, map).expect("an array has cells");
    let sum = |copies: &Vec<u8>| -> u64 {
        let copies = copies.chunks_exact(size_of::<u64>());
        copies.map(|copy| u64::from_ne_bytes(copy.try_into().expect("eight bytes"))).sum()
    };
    let count = |reason: &Reason| Some((*reason, sum(entries.get(&reason.index().to_ne_bytes()[..])?)));
    Reason::ALL.iter().filter_map(count).filter(|(_, count)| *count != 0).collect()
}

/// A key of `ranges` behind its number of bits, as aya wants to have it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Range<A> {
    service: ServiceId,
    addr: A,
}

// SAFETY: both fields are plain numbers of four bytes or arrays of them, so there is no padding.
unsafe impl<A: MapType> Pod for Range<A> {}

/// A key of `nets` and `sources` behind its number of bits.
#[derive(Clone, Copy)]
#[repr(C)]
struct Prefix<A> {
    scope: u32,
    addr: A,
}

// SAFETY: as for `Range`.
unsafe impl<A: MapType> Pod for Prefix<A> {}

/// Adds a prefix to `nets` or `sources`.
///
/// # Panics
/// If the map is another, or full.
pub fn add_prefix<A: MapType, V: MapType>(object: &mut Ebpf, name: &str, key: PrefixKey<A>, value: V) {
    let PrefixKey { bits, scope, addr } = key;
    let map = object.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
    let mut trie =
        LpmTrie::<_, Prefix<A>, Cell<V>>::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"));
    trie.insert(&Key::new(bits, Prefix { scope, addr }), Cell(value), 0).expect("a prefix fits");
}

/// Removes every key of a map of prefixes.
fn forget<K: Pod>(object: &mut Ebpf, name: &str) {
    let map = object.map_mut(name).unwrap_or_else(|| panic!("no map {name}"));
    let mut trie = LpmTrie::<_, K, u32>::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"));
    let keys: Vec<_> = trie.keys().map(|key| key.expect("prefixes can be listed")).collect();
    for key in keys {
        trie.remove(&key).expect("a key that is there can be removed");
    }
}

/// Removes every prefix of `nets`.
///
/// # Panics
/// If the map is another, or cannot be listed.
pub fn forget_prefixes<A: MapType>(object: &mut Ebpf, name: &str) {
    forget::<Prefix<A>>(object, name);
}

/// Changes what the programs know of the node.
///
/// # Panics
/// If the map is another.
pub fn change_node<A: Address>(object: &mut Ebpf, name: &str, change: impl FnOnce(&mut NodeConfig<A>))
where
    NodeConfig<A>: MapType,
{
    let mut node = array::<NodeConfig<A>>(object, name);
    let Cell(mut config) = node.get(&0, 0).expect("the node has an entry");
    change(&mut config);
    node.set(0, Cell(config), 0).expect("the entry exists");
}

/// Lets a Service's clients of `key` in, and tells the programs that there are source ranges, as the agent does.
///
/// # Panics
/// If the maps are others.
pub fn admit<A: Address + MapType>(object: &mut Ebpf, ranges: &str, node: &str, key: RangeKey<A>)
where
    NodeConfig<A>: MapType,
{
    let RangeKey { bits, service, addr } = key;
    let map = object.map_mut(ranges).unwrap_or_else(|| panic!("no map {ranges}"));
    let mut trie =
        LpmTrie::<_, Range<A>, u32>::try_from(map).unwrap_or_else(|error| panic!("{ranges}: {error}"));
    trie.insert(&Key::new(bits, Range { service, addr }), 1, 0).expect("a range fits");
    let mut node = array::<NodeConfig<A>>(object, node);
    let Cell(config) = node.get(&0, 0).expect("the node has an entry");
    node.set(0, Cell(NodeConfig { ranges: 1, ..config }), 0).expect("the entry exists");
}

/// Removes every key of a family's `ranges`.
///
/// # Panics
/// If the map is another.
pub fn forget_ranges<A: Address + MapType>(object: &mut Ebpf, ranges: &str) {
    forget::<Range<A>>(object, ranges);
}

/// Removes every key of a hash; of an LRU the kernel may have been quicker.
///
/// # Panics
/// If the map cannot be listed.
pub fn empty<K: MapType, V: MapType>(mut map: Hash<'_, K, V>) {
    let keys: Vec<_> = map.keys().map(|key| key.expect("keys can be listed")).collect();
    for key in keys {
        let _ = map.remove(&key);
    }
}

/// What became of the new connections to a Service port, if any was counted.
///
/// # Panics
/// If the map cannot be read.
pub fn tally(object: &mut Ebpf, service: ServiceId) -> Option<Tally> {
    let map = object.map_mut("tallies").expect("the map of the table");
    let map: HashMap<_, Cell<ServiceId>, Cell<Tally>> = map.try_into().expect("a hash");
    map.get(&Cell(service), 0).ok().map(|Cell(tally)| tally)
}
