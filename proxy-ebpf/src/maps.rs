//! The maps and constants of the kernel programs, exactly those of [`proxy_common::maps::SPECS`] and the array by which one
//! program finds another, and the accessors by address family. Knows layouts, nothing of packets, sockets or decisions.
//! Sizes here are defaults; the loader replaces them.

pub mod ferry;
pub mod onward;
pub mod party;
pub mod policy;
pub mod replacing;

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie},
};
use proxy_common::{
    Addr4, Addr6, AffinityKey, AffinityValue, Backend, DatapathConfig, DeviceKind, Family, Flow, FlowKey,
    FragmentKey, FragmentPorts, Frontend, FrontendKey, HeldFrame, LoadKey, NodeConfig, PrefixKey, RangeKey,
    Reason, Scratch, ServiceId, SocketPeer, SocketPeerKey, Tally, V4, V6, limits,
    socket::{ConnectedPeer, Stream},
};

/// Constants given at load time; a branch on one of them that is not taken is removed by the verifier.
#[unsafe(no_mangle)]
pub static CONFIG: Global<DatapathConfig> = Global::new(DatapathConfig {
    host_netns: 0,
    ipv4: 1,
    ipv6: 1,
    host_sockets_only: 0,
    pod_packets: 1,
    node_packets: 1,
    tallies: 1,
    mptcp: 1,
    two_tables: 0,
    tunnels: 0,
    in_order: 0,
    ahead: 0,
    pad: [0; 5],
});

/// One field of [`CONFIG`], without loading the others: `Global::load` reads all of them byte by byte, for each packet.
macro_rules! constant {
    ($field:ident) => {{
        let config = (&raw const $crate::maps::CONFIG).cast::<proxy_common::DatapathConfig>();
        // SAFETY: `Global` holds nothing but the value, which is initialised and never written by a program.
        // Volatile, because the loader has changed it behind the compiler's back.
        unsafe { core::ptr::read_volatile(&raw const (*config).$field) }
    }};
}
pub(crate) use constant;

#[map(name = "frontends4")]
static FRONTENDS4: HashMap<FrontendKey<Addr4>, Frontend> =
    HashMap::with_max_entries(limits::FRONTENDS, BPF_F_NO_PREALLOC);

#[map(name = "frontends6")]
static FRONTENDS6: HashMap<FrontendKey<Addr6>, Frontend> =
    HashMap::with_max_entries(limits::FRONTENDS, BPF_F_NO_PREALLOC);

#[map(name = "backends4")]
static BACKENDS4: Array<Backend<Addr4>> = Array::with_max_entries(limits::BACKENDS, BPF_F_MMAPABLE);

#[map(name = "backends6")]
static BACKENDS6: Array<Backend<Addr6>> = Array::with_max_entries(limits::BACKENDS, BPF_F_MMAPABLE);

/// A [`RangeKey`] without its number of bits, which aya's key of a trie has in front.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Range<A> {
    /// Whose range it is.
    pub service: ServiceId,
    /// Network address.
    pub addr: A,
}

const _: () = assert!(
    size_of::<lpm_trie::Key<Range<Addr4>>>() == size_of::<RangeKey<Addr4>>()
        && size_of::<lpm_trie::Key<Range<Addr6>>>() == size_of::<RangeKey<Addr6>>()
);

#[map(name = "ranges4")]
static RANGES4: LpmTrie<Range<Addr4>, u32> = LpmTrie::with_max_entries(limits::RANGES, BPF_F_NO_PREALLOC);

#[map(name = "ranges6")]
static RANGES6: LpmTrie<Range<Addr6>, u32> = LpmTrie::with_max_entries(limits::RANGES, BPF_F_NO_PREALLOC);

/// A [`PrefixKey`] without its number of bits.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Prefix<A> {
    /// What the prefix is about.
    pub scope: u32,
    /// Network address.
    pub addr: A,
}

const _: () = assert!(
    size_of::<lpm_trie::Key<Prefix<Addr4>>>() == size_of::<PrefixKey<Addr4>>()
        && size_of::<lpm_trie::Key<Prefix<Addr6>>>() == size_of::<PrefixKey<Addr6>>()
);

/// The same key as the library has it.
#[inline(always)]
pub fn as_key<A>(key: &PrefixKey<A>) -> &lpm_trie::Key<Prefix<A>> {
    // SAFETY: both are two words and an address, one behind the other (as above), any bytes are a value of the library's, and it
    // is aligned to nothing.
    unsafe { &*core::ptr::from_ref(key).cast() }
}

#[map(name = "nets4")]
static NETS4: LpmTrie<Prefix<Addr4>, u32> = LpmTrie::with_max_entries(limits::NETS, BPF_F_NO_PREALLOC);

#[map(name = "nets6")]
static NETS6: LpmTrie<Prefix<Addr6>, u32> = LpmTrie::with_max_entries(limits::NETS, BPF_F_NO_PREALLOC);

#[map(name = "sources4")]
static SOURCES4: LpmTrie<Prefix<Addr4>, Addr4> =
    LpmTrie::with_max_entries(limits::SOURCES, BPF_F_NO_PREALLOC);

#[map(name = "sources6")]
static SOURCES6: LpmTrie<Prefix<Addr6>, Addr6> =
    LpmTrie::with_max_entries(limits::SOURCES, BPF_F_NO_PREALLOC);

#[map(name = "portsfull4")]
static PORTS_FULL4: LruHashMap<FlowKey<Addr4>, u32> = LruHashMap::with_max_entries(limits::PORTS_FULL, 0);

#[map(name = "portsfull6")]
static PORTS_FULL6: LruHashMap<FlowKey<Addr6>, u32> = LruHashMap::with_max_entries(limits::PORTS_FULL, 0);

#[map(name = "flows4")]
static FLOWS4: HashMap<FlowKey<Addr4>, Flow<Addr4>> = HashMap::with_max_entries(limits::FLOWS, 0);

#[map(name = "flows6")]
static FLOWS6: HashMap<FlowKey<Addr6>, Flow<Addr6>> = HashMap::with_max_entries(limits::FLOWS, 0);

#[map(name = "spareflows4")]
static SPARE_FLOWS4: HashMap<FlowKey<Addr4>, Flow<Addr4>> = HashMap::with_max_entries(limits::SPARE_FLOWS, 0);

#[map(name = "spareflows6")]
static SPARE_FLOWS6: HashMap<FlowKey<Addr6>, Flow<Addr6>> = HashMap::with_max_entries(limits::SPARE_FLOWS, 0);

#[map(name = "halfopen4")]
static HALF_OPEN4: LruHashMap<FlowKey<Addr4>, Flow<Addr4>> =
    LruHashMap::with_max_entries(limits::HALF_OPEN, 0);

#[map(name = "halfopen6")]
static HALF_OPEN6: LruHashMap<FlowKey<Addr6>, Flow<Addr6>> =
    LruHashMap::with_max_entries(limits::HALF_OPEN, 0);

#[map(name = "socketpeers4")]
static SOCKET_PEERS4: LruHashMap<SocketPeerKey<Addr4>, SocketPeer<Addr4>> =
    LruHashMap::with_max_entries(limits::SOCKET_PEERS, 0);

#[map(name = "socketpeers6")]
static SOCKET_PEERS6: LruHashMap<SocketPeerKey<Addr6>, SocketPeer<Addr6>> =
    LruHashMap::with_max_entries(limits::SOCKET_PEERS, 0);

/// What a connected socket asked for. Only BTF maps can be socket storage.
#[btf_map(name = "connected")]
pub static CONNECTED: SkStorage<ConnectedPeer> = SkStorage::new();

/// The same of TCP sockets, by the lower bits of their cookies; see [`crate::socket::stream`].
#[map(name = "streams")]
pub static STREAMS: Array<Stream> = Array::with_max_entries(limits::STREAMS, 0);

/// Which backend a client of a Service with session affinity used last.
#[map(name = "affinity")]
pub static AFFINITY: LruHashMap<AffinityKey, AffinityValue> =
    LruHashMap::with_max_entries(limits::AFFINITY, 0);

#[map(name = "localaddrs4")]
static LOCAL_ADDRS4: HashMap<Addr4, u32> = HashMap::with_max_entries(limits::LOCAL_ADDRS, BPF_F_NO_PREALLOC);

#[map(name = "localaddrs6")]
static LOCAL_ADDRS6: HashMap<Addr6, u32> = HashMap::with_max_entries(limits::LOCAL_ADDRS, BPF_F_NO_PREALLOC);

#[map(name = "nodes4")]
static NODES4: HashMap<Addr4, u32> = HashMap::with_max_entries(limits::NODES, BPF_F_NO_PREALLOC);

#[map(name = "nodes6")]
static NODES6: HashMap<Addr6, u32> = HashMap::with_max_entries(limits::NODES, BPF_F_NO_PREALLOC);

#[map(name = "tunnels4")]
static TUNNELS4: LruHashMap<FlowKey<Addr4>, Flow<Addr4>> = LruHashMap::with_max_entries(limits::TUNNELS, 0);

#[map(name = "tunnels6")]
static TUNNELS6: LruHashMap<FlowKey<Addr6>, Flow<Addr6>> = LruHashMap::with_max_entries(limits::TUNNELS, 0);

#[map(name = "node4")]
static NODE4: Array<NodeConfig<Addr4>> = Array::with_max_entries(1, 0);

#[map(name = "node6")]
static NODE6: Array<NodeConfig<Addr6>> = Array::with_max_entries(1, 0);

/// Devices that translated packets may be put into or sent out of directly, by index.
#[map(name = "devices")]
pub static DEVICES: HashMap<u32, DeviceKind> = HashMap::with_max_entries(limits::DEVICES, BPF_F_NO_PREALLOC);

/// Devices whose incoming packets pass one of our programs; see [`crate::lookup::seen`].
#[map(name = "hooked")]
pub static HOOKED: Array<u32> = Array::with_max_entries(limits::HOOKED, BPF_F_MMAPABLE);

/// Packets and calls by [`Reason`]; see [`crate::count`].
#[map(name = "counters")]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT, 0);

/// Whose turn it is, of Services with a round robin.
#[map(name = "turns")]
pub static TURNS: HashMap<ServiceId, u64> = HashMap::with_max_entries(limits::TURNS, BPF_F_NO_PREALLOC);

/// Connections of each backend, of Services that choose the least loaded.
#[map(name = "loads")]
pub static LOADS: HashMap<LoadKey, u64> = HashMap::with_max_entries(limits::LOADS, BPF_F_NO_PREALLOC);

/// New connections of each Service port by what became of them.
#[map(name = "tallies")]
pub static TALLIES: HashMap<ServiceId, Tally> = HashMap::with_max_entries(limits::TALLIES, BPF_F_NO_PREALLOC);
#[map(name = "fragments4")]
static FRAGMENTS4: LruHashMap<FragmentKey<Addr4>, FragmentPorts> =
    LruHashMap::with_max_entries(limits::FRAGMENTS, 0);

#[map(name = "fragments6")]
static FRAGMENTS6: LruHashMap<FragmentKey<Addr6>, FragmentPorts> =
    LruHashMap::with_max_entries(limits::FRAGMENTS, 0);

#[map(name = "held4")]
static HELD4: LruHashMap<FragmentKey<Addr4>, HeldFrame> = LruHashMap::with_max_entries(limits::HELD, 0);

#[map(name = "held6")]
static HELD6: LruHashMap<FragmentKey<Addr6>, HeldFrame> = LruHashMap::with_max_entries(limits::HELD, 0);

/// A frame on its way into a held map; used as [`crate::scratch`] is.
#[map(name = "heldscratch")]
pub static HELD_SCRATCH: PerCpuArray<HeldFrame> = PerCpuArray::with_max_entries(1, 0);

/// Working memory; see [`crate::scratch`].
#[map(name = "scratch")]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(limits::SCRATCH_AREAS, 0);

/// Those of them that the XDP hook ended.
#[map(name = "early")]
pub static EARLY: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT, 0);

/// The maps of one address family, so that everything above is written once.
pub trait Tables: Family {
    /// The family is served; constant after loading.
    fn served() -> bool;
    /// Address, port and protocol that clients use.
    fn frontends() -> &'static HashMap<FrontendKey<Self::Addr>, Frontend>;
    /// Slots of all segments.
    fn backends() -> &'static Array<Backend<Self::Addr>>;
    /// Source ranges of load balancers' addresses.
    fn ranges() -> &'static LpmTrie<Range<Self::Addr>, u32>;
    /// Ranges of pods and Services that the node's entry has no room for.
    fn nets() -> &'static LpmTrie<Prefix<Self::Addr>, u32>;
    /// Addresses of the node's devices.
    fn sources() -> &'static LpmTrie<Prefix<Self::Addr>, Self::Addr>;
    /// When a search of all source ports towards a backend failed.
    fn ports_full() -> &'static LruHashMap<FlowKey<Self::Addr>, u32>;
    /// Answered connections.
    fn flows() -> &'static HashMap<FlowKey<Self::Addr>, Flow<Self::Addr>>;
    /// More of them, while they move to another table.
    fn spare_flows() -> &'static HashMap<FlowKey<Self::Addr>, Flow<Self::Addr>>;
    /// Connections without an answer yet.
    fn half_open() -> &'static LruHashMap<FlowKey<Self::Addr>, Flow<Self::Addr>>;
    /// Datagrams in fragments whose first has come.
    fn fragments() -> &'static LruHashMap<FragmentKey<Self::Addr>, FragmentPorts>;
    /// Fragments whose datagram's first has not.
    fn held() -> &'static LruHashMap<FragmentKey<Self::Addr>, HeldFrame>;
    /// Peers of unconnected UDP sockets.
    fn socket_peers() -> &'static LruHashMap<SocketPeerKey<Self::Addr>, SocketPeer<Self::Addr>>;
    /// Addresses of this node.
    fn local_addrs() -> &'static HashMap<Self::Addr, u32>;
    /// Addresses of the cluster's nodes.
    fn nodes() -> &'static HashMap<Self::Addr, u32>;
    /// Connections whose packets leave in a tunnel.
    fn tunnels() -> &'static LruHashMap<FlowKey<Self::Addr>, Flow<Self::Addr>>;
    /// The node's address and the ranges of pods and Services: one entry.
    fn node() -> &'static Array<NodeConfig<Self::Addr>>;
}

macro_rules! tables {
    ($family:ty, $served:ident, $frontends:ident, $backends:ident, $ranges:ident, $flows:ident, $spare:ident, $half_open:ident,
     $fragments:ident, $held:ident, $peers:ident, $local:ident, $node:ident, $nets:ident, $sources:ident,
     $ports_full:ident, $nodes:ident, $tunnels:ident) => {
        impl Tables for $family {
            #[inline(always)]
            fn served() -> bool {
                constant!($served) != 0
            }
            #[inline(always)]
            fn frontends() -> &'static HashMap<FrontendKey<Self::Addr>, Frontend> {
                &$frontends
            }
            #[inline(always)]
            fn backends() -> &'static Array<Backend<Self::Addr>> {
                &$backends
            }
            #[inline(always)]
            fn ranges() -> &'static LpmTrie<Range<Self::Addr>, u32> {
                &$ranges
            }
            #[inline(always)]
            fn nets() -> &'static LpmTrie<Prefix<Self::Addr>, u32> {
                &$nets
            }
            #[inline(always)]
            fn sources() -> &'static LpmTrie<Prefix<Self::Addr>, Self::Addr> {
                &$sources
            }
            #[inline(always)]
            fn ports_full() -> &'static LruHashMap<FlowKey<Self::Addr>, u32> {
                &$ports_full
            }
            #[inline(always)]
            fn flows() -> &'static HashMap<FlowKey<Self::Addr>, Flow<Self::Addr>> {
                &$flows
            }
            #[inline(always)]
            fn spare_flows() -> &'static HashMap<FlowKey<Self::Addr>, Flow<Self::Addr>> {
                &$spare
            }
            #[inline(always)]
            fn half_open() -> &'static LruHashMap<FlowKey<Self::Addr>, Flow<Self::Addr>> {
                &$half_open
            }
            #[inline(always)]
            fn fragments() -> &'static LruHashMap<FragmentKey<Self::Addr>, FragmentPorts> {
                &$fragments
            }
            #[inline(always)]
            fn held() -> &'static LruHashMap<FragmentKey<Self::Addr>, HeldFrame> {
                &$held
            }
            #[inline(always)]
            fn socket_peers() -> &'static LruHashMap<SocketPeerKey<Self::Addr>, SocketPeer<Self::Addr>> {
                &$peers
            }
            #[inline(always)]
            fn local_addrs() -> &'static HashMap<Self::Addr, u32> {
                &$local
            }
            #[inline(always)]
            fn nodes() -> &'static HashMap<Self::Addr, u32> {
                &$nodes
            }
            #[inline(always)]
            fn tunnels() -> &'static LruHashMap<FlowKey<Self::Addr>, Flow<Self::Addr>> {
                &$tunnels
            }
            #[inline(always)]
            fn node() -> &'static Array<NodeConfig<Self::Addr>> {
                &$node
            }
        }
    };
}

tables!(
    V4,
    ipv4,
    FRONTENDS4,
    BACKENDS4,
    RANGES4,
    FLOWS4,
    SPARE_FLOWS4,
    HALF_OPEN4,
    FRAGMENTS4,
    HELD4,
    SOCKET_PEERS4,
    LOCAL_ADDRS4,
    NODE4,
    NETS4,
    SOURCES4,
    PORTS_FULL4,
    NODES4,
    TUNNELS4
);
tables!(
    V6,
    ipv6,
    FRONTENDS6,
    BACKENDS6,
    RANGES6,
    FLOWS6,
    SPARE_FLOWS6,
    HALF_OPEN6,
    FRAGMENTS6,
    HELD6,
    SOCKET_PEERS6,
    LOCAL_ADDRS6,
    NODE6,
    NETS6,
    SOURCES6,
    PORTS_FULL6,
    NODES6,
    TUNNELS6
);
