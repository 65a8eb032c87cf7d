//! The maps: names, types and default sizes. The only place that names a map; the kernel programs' statics,
//! the loader, the CLI, `map-abi.txt` and `docs/maps.md` all follow this table.
//!
//! A map's pin carries its layout version, so a new layout never misreads an old pin. Names fit the 15
//! characters that the kernel keeps.

use zerocopy::{FromBytes, Immutable};

use crate::addr::{Addr4, Addr6, Port, Proto};
use crate::affinity::{AffinityKey, AffinityValue, ClientKind, PAD as AFFINITY_PAD};
use crate::algorithm::{Algorithm, ForwardingMode, LoadKey, LoadKind, Tally, Weight};
use crate::backend::{Backend, BackendFlags};
use crate::end::{End, Facts};
use crate::flow::{Flow, FlowFlags, FlowKey, Route};
use crate::fragment::{FragmentKey, FragmentPorts, HELD as HELD_BYTES, HeldFrame};
use crate::frontend::{ClientRule, Frontend, FrontendFlags, FrontendKey, Segment, ServiceId};
use crate::group::{Group, Whole};
use crate::layout::{Layout, NEXT, is_dense, layout, plain};
use crate::limits;
use crate::node::{Cidr, DeviceKind, NodeConfig, NodeFlags};
use crate::policy::{
    DenialKey, Effect, Interval, Notice, PeerClass, Policed, PolicyFlags, PolicyState, RuleId, RuleSetId,
    VerdictKey, VerdictPage,
};
use crate::precedent::Precedent;
use crate::prefix::PrefixKey;
use crate::range::RangeKey;
use crate::recent::{Finding, Judge, Recent};
use crate::scratch::Scratch;
use crate::socket::{ConnectedPeer, PeerDirection, SocketPeer, SocketPeerKey, Stream};

mod table;

pub use table::SPECS;

/// Version of all layouts together; part of each pin's name and of the pin directory.
///
/// A field keeps its name for as long as it keeps its meaning: what the pins of another version hold is carried over by
/// the names of maps and fields.
pub const LAYOUT_VERSION: u32 = 6 + NEXT as u32 * 1000;

/// Kind of map, as the kernel has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`.
    Hash,
    /// `BPF_MAP_TYPE_HASH` that allocates an element when it is inserted (`BPF_F_NO_PREALLOC`).
    SparseHash,
    /// `BPF_MAP_TYPE_LRU_HASH`.
    LruHash,
    /// `BPF_MAP_TYPE_LPM_TRIE`: the longest prefix of a key. Allocates an element when it is inserted.
    PrefixTrie,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array,
    /// `BPF_MAP_TYPE_ARRAY` with `BPF_F_MMAPABLE`.
    MappedArray,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray,
    /// `BPF_MAP_TYPE_PERCPU_HASH` that allocates an element when it is inserted.
    PerCpuHash,
    /// `BPF_MAP_TYPE_SK_STORAGE`.
    SocketStorage,
    /// `BPF_MAP_TYPE_RINGBUF`: no keys, records of the value's layout; its entries are bytes.
    Ring,
}

/// Which address family a map belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapFamily {
    /// IPv4 only: tiny when the family is not served.
    Ipv4,
    /// IPv6 only: tiny when the family is not served.
    Ipv6,
    /// Shared.
    Both,
}

/// Everything about a map but its content.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec {
    /// Name of the static in the object, and of the kernel's map.
    pub name: &'static str,
    /// Kind.
    pub kind: MapKind,
    /// Family.
    pub family: MapFamily,
    /// Key layout.
    pub key: Layout,
    /// Value layout.
    pub value: Layout,
    /// Entries, if no flag says otherwise.
    pub entries: u32,
    /// Who writes.
    pub writer: &'static str,
    /// Who reads.
    pub reader: &'static str,
    /// What it holds.
    pub doc: &'static str,
}

/// Bytes between two slots of a [`MapKind::MappedArray`]: the kernel rounds values up to eight.
pub const fn stride(value_size: usize) -> usize {
    value_size.next_multiple_of(8)
}

/// A type that may lie in a map: any bytes are a value of it, and it has no padding, so equal values are equal
/// bytes. Sealed: only the types below are, and each is checked when this crate is compiled. (zerocopy's
/// `IntoBytes` would say the same, but cannot be derived for a generic struct of aligned words.)
pub trait MapType: sealed::Sealed + Copy + FromBytes + Immutable + 'static {
    /// Its layout.
    const LAYOUT: Layout;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! map_types {
    ($($ty:ty = $layout:expr;)+) => {$(
        impl sealed::Sealed for $ty {}
        impl MapType for $ty {
            const LAYOUT: Layout = $layout;
        }
        const _: () = assert!(is_dense(&<$ty as MapType>::LAYOUT), "a map type has a gap");
    )+};
}

macro_rules! frontend_key { ($a:ty, $n:literal) => { layout!(FrontendKey<$a> as $n { addr: $a, port: Port, proto: Proto, pad: u8 }) }; }
macro_rules! backend { ($a:ty, $n:literal) => { layout!(Backend<$a> as $n { addr: $a, port: Port, flags: BackendFlags, weight: Weight }) }; }
macro_rules! range_key { ($a:ty, $n:literal) => { layout!(RangeKey<$a> as $n { bits: u32, service: ServiceId, addr: $a }) }; }
macro_rules! prefix_key { ($a:ty, $n:literal) => { layout!(PrefixKey<$a> as $n { bits: u32, scope: u32, addr: $a }) }; }
macro_rules! fragment_key {
    ($a:ty, $n:literal) => {
        layout!(FragmentKey<$a> as $n { src: $a, dst: $a, id: u32, proto: Proto, number: u8, pad: [u8; 2] })
    };
}
macro_rules! flow_key {
    ($a:ty, $n:literal) => {
        layout!(FlowKey<$a> as $n { src: $a, dst: $a, sport: Port, dport: Port, proto: Proto, pad: [u8; 3] })
    };
}
#[cfg(feature = "layout-next")]
macro_rules! flow {
    ($a:ty, $n:literal) => {
        layout!(Flow<$a> as $n {
            room: [u32; 2], origin: u32, src: $a, dst: $a, sport: Port, dport: Port, addr_delta: u32, port_delta: u32,
            service: ServiceId, generation: u32, seen: u32, ifindex: u32, eth_dst: [u8; 6], eth_src: [u8; 6],
            flags: FlowFlags, route: Route, mtu: u16, epoch: u32,
        })
    };
}
#[cfg(not(feature = "layout-next"))]
macro_rules! flow {
    ($a:ty, $n:literal) => {
        layout!(Flow<$a> as $n {
            src: $a, dst: $a, sport: Port, dport: Port, addr_delta: u32, port_delta: u32, service: ServiceId,
            generation: u32, seen: u32, ifindex: u32, eth_dst: [u8; 6], eth_src: [u8; 6], flags: FlowFlags,
            route: Route, mtu: u16, epoch: u32, origin: u32,
        })
    };
}
macro_rules! node {
    ($a:ty, $n:literal) => {
        layout!(NodeConfig<$a> as $n {
            address: $a, cluster_cidrs: [Cidr<$a>; limits::CIDRS], service_cidrs: [Cidr<$a>; limits::CIDRS],
            ranges: u32, flags: NodeFlags,
        })
    };
}
macro_rules! peer_key {
    ($a:ty, $n:literal) => {
        layout!(SocketPeerKey<$a> as $n { cookie: [u32; 2], addr: $a, port: Port, direction: PeerDirection })
    };
}
macro_rules! peer {
    ($a:ty, $n:literal) => {
        layout!(SocketPeer<$a> as $n { addr: $a, port: Port, pad: [u8; 2], service: ServiceId, generation: u32 })
    };
}
macro_rules! recent {
    ($a:ty, $n:literal) => {
        layout!(Recent<$a> as $n {
            src: $a, dst: $a, port: Port, proto: Proto, finding: Finding, judge: Judge, writes: u32,
        })
    };
}

const FRONTEND: Layout = layout!(Frontend as "Frontend" {
    cluster: Segment, local: Segment, service: ServiceId, affinity: u32, generation: u32, rules: [ClientRule; 3],
    flags: FrontendFlags, algorithm: Algorithm, mode: ForwardingMode, pad: [u8; 2 + NEXT * 4],
});
const FRAGMENT_PORTS: Layout =
    layout!(FragmentPorts as "FragmentPorts" { sport: Port, dport: Port, seen: u32 });
const HELD_FRAME: Layout = layout!(HeldFrame as "HeldFrame" { length: u32, bytes: [u8; HELD_BYTES] });
const AFFINITY_KEY: Layout =
    layout!(AffinityKey as "AffinityKey" { service: ServiceId, kind: ClientKind, client: [u32; 4] });
const AFFINITY_VALUE: Layout = layout!(AffinityValue as "AffinityValue" {
    addr: [u32; 4], hint: u32, seen: u32, port: Port, pad: [u8; AFFINITY_PAD],
});
const CONNECTED: Layout = layout!(ConnectedPeer as "ConnectedPeer" {
    frontend: [u32; 4], backend: [u32; 4], frontend_port: Port, backend_port: Port, service: ServiceId,
    counted: u32,
});
const STREAM: Layout = layout!(Stream as "Stream" { cookie: u64, peer: ConnectedPeer, pad: [u32; 3] });
const LOAD_KEY: Layout =
    layout!(LoadKey as "LoadKey" { service: ServiceId, addr: [u32; 4], port: Port, kind: LoadKind });
const TALLY: Layout = layout!(Tally as "Tally" { opened: u64, refused: u64, dropped: u64 });

/// Of the key of a ring.
const NONE: Layout = Layout { name: "nothing", size: 0, align: 1, fields: &[] };
#[cfg(feature = "layout-next")]
const POLICED: Layout =
    layout!(Policed as "Policed" { device: u32, pad: u32, egress: RuleSetId, ingress: RuleSetId });
#[cfg(not(feature = "layout-next"))]
const POLICED: Layout =
    layout!(Policed as "Policed" { egress: RuleSetId, ingress: RuleSetId, device: u32, pad: u32 });
const VERDICT_KEY: Layout =
    layout!(VerdictKey as "VerdictKey" { rules: RuleSetId, peer: PeerClass, page: u32, pad: u32 });
const VERDICT_PAGE: Layout = layout!(VerdictPage as "VerdictPage" {
    otherwise: RuleId, pages: u16, count: u8, effect: Effect, pad: [u8; 4],
    intervals: [Interval; limits::PAGE_INTERVALS],
});
const END: Layout = layout!(End as "End" {
    addr: [u32; 4], writes: u32, facts: Facts, device: u32, pad: u32, egress: RuleSetId, ingress: RuleSetId,
    class: PeerClass,
});
const WHOLE: Layout = layout!(Whole as "Whole" { words: [u32; 2], bits: u32 });
const GROUP: Layout =
    layout!(Group as "Group" { whole: Whole, rest: [u32; 2], writes: u32, class: PeerClass });
const PRECEDENT: Layout = layout!(Precedent as "Precedent" {
    key: VerdictKey, said: Interval, writes: u32, pad: u32,
});
const POLICY_STATE: Layout = layout!(PolicyState as "PolicyState" { epoch: u32, flags: PolicyFlags });
const DENIAL_KEY: Layout = layout!(DenialKey as "DenialKey" { rules: RuleSetId, by: RuleId });
const NOTICE: Layout = layout!(Notice as "Notice" {
    at: u64, rules: RuleSetId, by: RuleId, src: [u32; 4], dst: [u32; 4], device: u32, sport: Port, dport: Port,
    proto: Proto, reason: u8, family: u8, pad: u8, length: u32,
});

map_types! {
    u32 = plain!(u32);
    u64 = plain!(u64);
    i32 = plain!(i32);
    Scratch = plain!(Scratch);
    Addr4 = plain!(Addr4);
    Addr6 = plain!(Addr6);
    DeviceKind = plain!(DeviceKind);
    PeerClass = plain!(PeerClass);
    Policed = POLICED;
    VerdictKey = VERDICT_KEY;
    VerdictPage = VERDICT_PAGE;
    PolicyState = POLICY_STATE;
    Recent<Addr4> = recent!(Addr4, "Recent<Addr4>");
    Recent<Addr6> = recent!(Addr6, "Recent<Addr6>");
    End = END;
    Group = GROUP;
    Whole = WHOLE;
    Precedent = PRECEDENT;
    DenialKey = DENIAL_KEY;
    Notice = NOTICE;
    Frontend = FRONTEND;
    FrontendKey<Addr4> = frontend_key!(Addr4, "FrontendKey<Addr4>");
    FrontendKey<Addr6> = frontend_key!(Addr6, "FrontendKey<Addr6>");
    Backend<Addr4> = backend!(Addr4, "Backend<Addr4>");
    Backend<Addr6> = backend!(Addr6, "Backend<Addr6>");
    RangeKey<Addr4> = range_key!(Addr4, "RangeKey<Addr4>");
    RangeKey<Addr6> = range_key!(Addr6, "RangeKey<Addr6>");
    PrefixKey<Addr4> = prefix_key!(Addr4, "PrefixKey<Addr4>");
    PrefixKey<Addr6> = prefix_key!(Addr6, "PrefixKey<Addr6>");
    FlowKey<Addr4> = flow_key!(Addr4, "FlowKey<Addr4>");
    FlowKey<Addr6> = flow_key!(Addr6, "FlowKey<Addr6>");
    Flow<Addr4> = flow!(Addr4, "Flow<Addr4>");
    Flow<Addr6> = flow!(Addr6, "Flow<Addr6>");
    FragmentKey<Addr4> = fragment_key!(Addr4, "FragmentKey<Addr4>");
    FragmentKey<Addr6> = fragment_key!(Addr6, "FragmentKey<Addr6>");
    FragmentPorts = FRAGMENT_PORTS;
    HeldFrame = HELD_FRAME;
    SocketPeerKey<Addr4> = peer_key!(Addr4, "SocketPeerKey<Addr4>");
    SocketPeerKey<Addr6> = peer_key!(Addr6, "SocketPeerKey<Addr6>");
    SocketPeer<Addr4> = peer!(Addr4, "SocketPeer<Addr4>");
    SocketPeer<Addr6> = peer!(Addr6, "SocketPeer<Addr6>");
    NodeConfig<Addr4> = node!(Addr4, "NodeConfig<Addr4>");
    NodeConfig<Addr6> = node!(Addr6, "NodeConfig<Addr6>");
    ConnectedPeer = CONNECTED;
    Stream = STREAM;
    AffinityKey = AFFINITY_KEY;
    AffinityValue = AFFINITY_VALUE;
    ServiceId = plain!(ServiceId);
    LoadKey = LOAD_KEY;
    Tally = TALLY;
}

// `is_dense` looks one level deep; the only generic field type is made of two equal addresses.
const _: () = assert!(size_of::<Cidr<Addr4>>() == 2 * size_of::<Addr4>());
const _: () = assert!(size_of::<Cidr<Addr6>>() == 2 * size_of::<Addr6>());

/// The map of that name.
pub fn spec(name: &str) -> Option<&'static MapSpec> {
    SPECS.iter().find(|spec| spec.name == name)
}

const _: () = {
    let mut i = 0;
    while i < SPECS.len() {
        assert!(SPECS[i].name.len() <= 15, "the kernel cuts map names at 15 characters");
        i += 1;
    }
};
