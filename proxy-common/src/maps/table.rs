//! The table of all maps.

use super::{
    AFFINITY_KEY, AFFINITY_VALUE, CONNECTED, DENIAL_KEY, END, FRAGMENT_PORTS, FRONTEND, GROUP, HELD_FRAME,
    LOAD_KEY, MapFamily, MapKind, MapSpec, MapType, NONE, NOTICE, POLICED, POLICY_STATE, PRECEDENT, STREAM,
    TALLY, VERDICT_KEY, VERDICT_PAGE, WHOLE,
};
use crate::addr::{Addr4, Addr6};
use crate::backend::Backend;
use crate::flow::{Flow, FlowKey};
use crate::fragment::FragmentKey;
use crate::frontend::{FrontendKey, ServiceId};
use crate::layout::plain;
use crate::limits;
use crate::node::{DeviceKind, NodeConfig};
use crate::party::Parties;
use crate::policy::PeerClass;
use crate::prefix::PrefixKey;
use crate::range::RangeKey;
use crate::reason::Reason;
use crate::recent::Recent;
use crate::scratch::Scratch;
use crate::socket::{SocketPeer, SocketPeerKey};

macro_rules! specs {
    ($($name:literal $kind:ident $family:ident $key:expr => $value:expr, $entries:expr, $writer:literal => $reader:literal, $doc:literal;)+) => {
        /// Every map, in the order of `docs/maps.md`.
        pub const SPECS: &[MapSpec] = &[$(MapSpec {
            name: $name, kind: MapKind::$kind, family: MapFamily::$family, key: $key, value: $value,
            entries: $entries, writer: $writer, reader: $reader, doc: $doc,
        },)+];
    };
}

specs! {
    "frontends4" SparseHash Ipv4 FrontendKey::<Addr4>::LAYOUT => FRONTEND, limits::FRONTENDS,
        "agent" => "kernel, proxyctl", "address, port and protocol that clients use → segments and rules";
    "frontends6" SparseHash Ipv6 FrontendKey::<Addr6>::LAYOUT => FRONTEND, limits::FRONTENDS,
        "agent" => "kernel, proxyctl", "the same for IPv6";
    "replacing" MappedArray Both plain!(u32) => plain!(u32), 1,
        "agent, through memory" => "kernel", "not zero while the agent replaces elements of hashes, and until no program runs that did then";
    "backends4" MappedArray Ipv4 plain!(u32) => Backend::<Addr4>::LAYOUT, limits::BACKENDS,
        "agent, through memory" => "kernel, proxyctl", "slots of all segments";
    "backends6" MappedArray Ipv6 plain!(u32) => Backend::<Addr6>::LAYOUT, limits::BACKENDS,
        "agent, through memory" => "kernel, proxyctl", "the same for IPv6";
    "ranges4" PrefixTrie Ipv4 RangeKey::<Addr4>::LAYOUT => plain!(u32), limits::RANGES,
        "agent" => "kernel", "source ranges that load balancers' addresses serve; the value is always 1";
    "ranges6" PrefixTrie Ipv6 RangeKey::<Addr6>::LAYOUT => plain!(u32), limits::RANGES,
        "agent" => "kernel", "the same for IPv6";
    "flows4" Hash Ipv4 FlowKey::<Addr4>::LAYOUT => Flow::<Addr4>::LAYOUT, limits::FLOWS,
        "kernel, agent (removal)" => "kernel, proxyctl", "answered connections, two entries each, never evicted";
    "flows6" Hash Ipv6 FlowKey::<Addr6>::LAYOUT => Flow::<Addr6>::LAYOUT, limits::FLOWS,
        "kernel, agent (removal)" => "kernel, proxyctl", "the same for IPv6";
    "spareflows4" Hash Ipv4 FlowKey::<Addr4>::LAYOUT => Flow::<Addr4>::LAYOUT, limits::SPARE_FLOWS,
        "nobody" => "nobody", "stands for the other table while `flows4` gets another size";
    "spareflows6" Hash Ipv6 FlowKey::<Addr6>::LAYOUT => Flow::<Addr6>::LAYOUT, limits::SPARE_FLOWS,
        "nobody" => "nobody", "the same for IPv6";
    "sparehalf4" LruHash Ipv4 FlowKey::<Addr4>::LAYOUT => Flow::<Addr4>::LAYOUT, limits::SPARE_FLOWS,
        "nobody" => "nobody", "stands for the `halfopen4` of another layout while connections move";
    "sparehalf6" LruHash Ipv6 FlowKey::<Addr6>::LAYOUT => Flow::<Addr6>::LAYOUT, limits::SPARE_FLOWS,
        "nobody" => "nobody", "the same for IPv6";
    "halfopen4" LruHash Ipv4 FlowKey::<Addr4>::LAYOUT => Flow::<Addr4>::LAYOUT, limits::HALF_OPEN,
        "kernel" => "kernel, proxyctl", "connections without an answer yet";
    "halfopen6" LruHash Ipv6 FlowKey::<Addr6>::LAYOUT => Flow::<Addr6>::LAYOUT, limits::HALF_OPEN,
        "kernel" => "kernel, proxyctl", "the same for IPv6";
    "socketpeers4" LruHash Ipv4 SocketPeerKey::<Addr4>::LAYOUT => SocketPeer::<Addr4>::LAYOUT,
        limits::SOCKET_PEERS, "kernel" => "kernel, agent",
        "peers of UDP sockets: of unconnected ones an entry per direction, of connected ones their backend";
    "socketpeers6" LruHash Ipv6 SocketPeerKey::<Addr6>::LAYOUT => SocketPeer::<Addr6>::LAYOUT,
        limits::SOCKET_PEERS, "kernel" => "kernel, agent", "the same for IPv6";
    "connected" SocketStorage Both plain!(i32) => CONNECTED, 0,
        "kernel" => "kernel", "what a connected socket asked for, kept in the socket itself";
    "parties" MappedArray Both plain!(u32) => plain!(u64), Parties::WORDS,
        "kernel; agent, through memory" => "kernel",
        "a bit for each address that is or was the source of an entry of `flows` or `halfopen`; behind them, whether each has it";
    "streams" Array Both plain!(u32) => STREAM, limits::STREAMS,
        "kernel" => "kernel", "lower bits of a TCP socket's cookie → the same of that socket, until it is closed";
    "affinity" LruHash Both AFFINITY_KEY => AFFINITY_VALUE, limits::AFFINITY,
        "kernel, agent (expiry)" => "kernel, proxyctl", "client → backend for Services with session affinity";
    "localaddrs4" SparseHash Ipv4 plain!(Addr4) => plain!(u32), limits::LOCAL_ADDRS,
        "agent" => "kernel", "addresses of this node; the value is the device's index";
    "localaddrs6" SparseHash Ipv6 plain!(Addr6) => plain!(u32), limits::LOCAL_ADDRS,
        "agent" => "kernel", "the same for IPv6";
    "nodes4" SparseHash Ipv4 plain!(Addr4) => plain!(u32), limits::NODES,
        "agent" => "kernel", "addresses of the cluster's nodes, from which tunnels are taken; the value is always 1";
    "nodes6" SparseHash Ipv6 plain!(Addr6) => plain!(u32), limits::NODES,
        "agent" => "kernel", "the same for IPv6";
    "tunnels4" LruHash Ipv4 FlowKey::<Addr4>::LAYOUT => Flow::<Addr4>::LAYOUT, limits::TUNNELS,
        "kernel" => "kernel, proxyctl", "connections whose packets go to the backend's node in a tunnel; answers pass elsewhere";
    "tunnels6" LruHash Ipv6 FlowKey::<Addr6>::LAYOUT => Flow::<Addr6>::LAYOUT, limits::TUNNELS,
        "kernel" => "kernel, proxyctl", "the same for IPv6";
    "node4" Array Ipv4 plain!(u32) => NodeConfig::<Addr4>::LAYOUT, 1,
        "agent" => "kernel, proxyctl", "the node's address and the ranges of pods and Services";
    "node6" Array Ipv6 plain!(u32) => NodeConfig::<Addr6>::LAYOUT, 1,
        "agent" => "kernel, proxyctl", "the same for IPv6";
    "nets4" PrefixTrie Ipv4 PrefixKey::<Addr4>::LAYOUT => plain!(u32), limits::NETS,
        "agent" => "kernel", "ranges of pods and Services that the node's entry has no room for; the value is always 1";
    "nets6" PrefixTrie Ipv6 PrefixKey::<Addr6>::LAYOUT => plain!(u32), limits::NETS,
        "agent" => "kernel", "the same for IPv6";
    "sources4" PrefixTrie Ipv4 PrefixKey::<Addr4>::LAYOUT => plain!(Addr4), limits::SOURCES,
        "agent" => "kernel", "device and next hop → the address of the device that masqueraded packets come from";
    "sources6" PrefixTrie Ipv6 PrefixKey::<Addr6>::LAYOUT => plain!(Addr6), limits::SOURCES,
        "agent" => "kernel", "device and destination → the same for IPv6";
    "portsfull4" LruHash Ipv4 FlowKey::<Addr4>::LAYOUT => plain!(u32), limits::PORTS_FULL,
        "kernel" => "kernel", "answers to a node address, port 0: jiffies when all ports towards that backend were taken";
    "portsfull6" LruHash Ipv6 FlowKey::<Addr6>::LAYOUT => plain!(u32), limits::PORTS_FULL,
        "kernel" => "kernel", "the same for IPv6";
    "devices" SparseHash Both plain!(u32) => plain!(DeviceKind), limits::DEVICES,
        "agent" => "kernel", "devices that translated packets may be put into or sent out of directly, by index";
    "hooked" MappedArray Both plain!(u32) => plain!(u32), limits::HOOKED,
        "agent, through memory" => "kernel", "lower bits of a device's index → the index, if a program of ours sees what comes in by it";
    "counters" PerCpuArray Both plain!(u32) => plain!(u64), Reason::COUNT,
        "kernel" => "agent, proxyctl", "packets and calls by reason";
    "early" PerCpuArray Both plain!(u32) => plain!(u64), Reason::COUNT,
        "kernel" => "agent, proxyctl", "those of them that the XDP hook ended";
    "turns" SparseHash Both plain!(ServiceId) => plain!(u64), limits::TURNS,
        "kernel, agent (removal)" => "kernel", "whose turn it is, of Services with a round robin";
    "loads" SparseHash Both LOAD_KEY => plain!(u64), limits::LOADS,
        "kernel, agent (count of flows)" => "kernel, proxyctl",
        "connections of each backend, of Services that choose the least loaded";
    "tallies" SparseHash Both plain!(ServiceId) => TALLY, limits::TALLIES,
        "kernel, agent (removal)" => "agent, proxyctl", "new connections of each Service port by what became of them";
    "fragments4" LruHash Ipv4 FragmentKey::<Addr4>::LAYOUT => FRAGMENT_PORTS, limits::FRAGMENTS,
        "kernel" => "kernel", "datagrams in fragments: the ports that only the first fragment has";
    "fragments6" LruHash Ipv6 FragmentKey::<Addr6>::LAYOUT => FRAGMENT_PORTS, limits::FRAGMENTS,
        "kernel" => "kernel", "the same for IPv6";
    "held4" LruHash Ipv4 FragmentKey::<Addr4>::LAYOUT => HELD_FRAME, limits::HELD,
        "kernel" => "kernel", "fragments that came before the first one of their datagram";
    "held6" LruHash Ipv6 FragmentKey::<Addr6>::LAYOUT => HELD_FRAME, limits::HELD,
        "kernel" => "kernel", "the same for IPv6";
    "policed4" SparseHash Ipv4 plain!(Addr4) => POLICED, limits::POLICED,
        "agent" => "kernel, proxyctl", "address of a local pod under a policy → its rule sets";
    "policed6" SparseHash Ipv6 plain!(Addr6) => POLICED, limits::POLICED,
        "agent" => "kernel, proxyctl", "the same for IPv6";
    "peers4" SparseHash Ipv4 plain!(Addr4) => plain!(PeerClass), limits::PEERS,
        "agent" => "kernel, proxyctl", "address of a pod or node that rules in use name → its class";
    "peers6" SparseHash Ipv6 plain!(Addr6) => plain!(PeerClass), limits::PEERS,
        "agent" => "kernel, proxyctl", "the same for IPv6";
    "blocks4" PrefixTrie Ipv4 PrefixKey::<Addr4>::LAYOUT => plain!(PeerClass), limits::BLOCKS,
        "agent" => "kernel, proxyctl", "prefixes of ipBlocks and their exceptions → class; the scope is 1 if the prefix is longer than 16 bits (IPv6: 32)";
    "blocks6" PrefixTrie Ipv6 PrefixKey::<Addr6>::LAYOUT => plain!(PeerClass), limits::BLOCKS,
        "agent" => "kernel, proxyctl", "the same for IPv6";
    "wholes" SparseHash Both WHOLE => plain!(PeerClass), limits::WHOLES,
        "agent" => "kernel, proxyctl", "those prefixes of `blocks` that have just 20, 24 or 28 bits (IPv6: 48 or 64) → class";
    "verdicts" SparseHash Both VERDICT_KEY => VERDICT_PAGE, limits::VERDICTS,
        "agent" => "kernel, proxyctl", "rule set and class → what the rules say about ports; never changes under its key";
    "policy" MappedArray Both plain!(u32) => POLICY_STATE, 1,
        "agent; proxyctl, through memory (who listens)" => "kernel, proxyctl", "the epoch of the policies and what of these maps is in use";
    "policywrites" MappedArray Both plain!(u32) => plain!(u32), 1,
        "agent, through memory" => "kernel", "counts the writes to the maps of policies";
    "recent4" PerCpuArray Ipv4 plain!(u32) => Recent::<Addr4>::LAYOUT, limits::RECENT,
        "kernel" => "kernel", "what was judged since the last of those writes";
    "recent6" PerCpuArray Ipv6 plain!(u32) => Recent::<Addr6>::LAYOUT, limits::RECENT,
        "kernel" => "kernel", "the same for IPv6";
    "ends" PerCpuArray Both plain!(u32) => END, limits::ENDS,
        "kernel" => "kernel", "what was found about addresses since the last of those writes";
    "mentioned" MappedArray Both plain!(u32) => plain!(u64), limits::MENTIONED,
        "agent, through memory" => "kernel", "three bits for each address that `policed` or `peers` has or has had";
    "spans" MappedArray Both plain!(u32) => plain!(u64), limits::SPANS,
        "agent, through memory" => "kernel", "how prefixes that `blocks` has or has had divide each /16 (IPv6: /32): the longest counts, and whether others are as long";
    "groups" PerCpuArray Both plain!(u32) => GROUP, limits::GROUPS,
        "kernel" => "kernel", "what was found about addresses that no such prefix divides since the last of those writes";
    "precedents" PerCpuArray Both plain!(u32) => PRECEDENT, limits::PRECEDENTS,
        "kernel" => "kernel", "what rules said about classes since the last of those writes";
    "denials" PerCpuHash Both DENIAL_KEY => plain!(u64), limits::DENIALS,
        "kernel, agent (removal)" => "agent, proxyctl", "packets denied, by rule set and rule";
    "notices" Ring Both NONE => NOTICE, limits::NOTICES,
        "kernel" => "proxyctl", "ends of packets, told while somebody listens";
    "heldscratch" PerCpuArray Both plain!(u32) => HELD_FRAME, 1,
        "kernel" => "kernel", "working memory: a frame on its way into a held map";
    "scratch" PerCpuArray Both plain!(u32) => plain!(Scratch), limits::SCRATCH_AREAS,
        "kernel" => "kernel", "working memory of one run of a packet program; holds nothing between runs";
}
