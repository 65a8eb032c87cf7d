//! The maps of policies. Knows layouts, nothing of rules or packets.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, PerCpuHashMap, RingBuf},
};
use proxy_common::{
    Addr4, Addr6, End, Family, PeerClass, Policed, PolicyState, Precedent, Recent, V4, V6, VerdictKey,
    VerdictPage,
    group::{Group, Whole},
    limits,
    policy::{DenialKey, PolicyFlags},
};

use super::Prefix;

#[map(name = "policed4")]
static POLICED4: HashMap<Addr4, Policed> = HashMap::with_max_entries(limits::POLICED, BPF_F_NO_PREALLOC);

#[map(name = "policed6")]
static POLICED6: HashMap<Addr6, Policed> = HashMap::with_max_entries(limits::POLICED, BPF_F_NO_PREALLOC);

#[map(name = "peers4")]
static PEERS4: HashMap<Addr4, PeerClass> = HashMap::with_max_entries(limits::PEERS, BPF_F_NO_PREALLOC);

#[map(name = "peers6")]
static PEERS6: HashMap<Addr6, PeerClass> = HashMap::with_max_entries(limits::PEERS, BPF_F_NO_PREALLOC);

#[map(name = "blocks4")]
static BLOCKS4: LpmTrie<Prefix<Addr4>, PeerClass> =
    LpmTrie::with_max_entries(limits::BLOCKS, BPF_F_NO_PREALLOC);

#[map(name = "blocks6")]
static BLOCKS6: LpmTrie<Prefix<Addr6>, PeerClass> =
    LpmTrie::with_max_entries(limits::BLOCKS, BPF_F_NO_PREALLOC);

/// Those of them that are groups.
#[map(name = "wholes")]
pub static WHOLES: HashMap<Whole, PeerClass> = HashMap::with_max_entries(limits::WHOLES, BPF_F_NO_PREALLOC);

/// What rule sets say about classes of peers.
#[map(name = "verdicts")]
pub static VERDICTS: HashMap<VerdictKey, VerdictPage> =
    HashMap::with_max_entries(limits::VERDICTS, BPF_F_NO_PREALLOC);

/// The epoch of the policies: one entry. Who listens sets its flag in memory, so that no write of the agent is undone.
#[map(name = "policy")]
pub static POLICY: Array<PolicyState> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Writes of the agent to the maps of policies, counted in memory: one entry.
#[map(name = "policywrites")]
pub static POLICY_WRITES: Array<u32> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map(name = "recent4")]
static RECENT4: PerCpuArray<Recent<Addr4>> = PerCpuArray::with_max_entries(limits::RECENT, 0);

#[map(name = "recent6")]
static RECENT6: PerCpuArray<Recent<Addr6>> = PerCpuArray::with_max_entries(limits::RECENT, 0);

/// What was found about addresses.
#[map(name = "ends")]
pub static ENDS: PerCpuArray<End> = PerCpuArray::with_max_entries(limits::ENDS, 0);

/// Three bits for each address that the maps of pods under a policy and of classes may have.
#[map(name = "mentioned")]
pub static MENTIONED: Array<u64> = Array::with_max_entries(limits::MENTIONED, BPF_F_MMAPABLE);

/// How finely prefixes divide each neighbourhood of addresses.
#[map(name = "spans")]
pub static SPANS: Array<u64> = Array::with_max_entries(limits::SPANS, BPF_F_MMAPABLE);

/// What was found about addresses that no prefix divides.
#[map(name = "groups")]
pub static GROUPS: PerCpuArray<Group> = PerCpuArray::with_max_entries(limits::GROUPS, 0);

/// What rules said about classes of peers.
#[map(name = "precedents")]
pub static PRECEDENTS: PerCpuArray<Precedent> = PerCpuArray::with_max_entries(limits::PRECEDENTS, 0);

/// Packets denied by each rule.
#[map(name = "denials")]
pub static DENIALS: PerCpuHashMap<DenialKey, u64> =
    PerCpuHashMap::with_max_entries(limits::DENIALS, BPF_F_NO_PREALLOC);

/// Ends of packets, for whoever listens.
#[map(name = "notices")]
pub static NOTICES: RingBuf = RingBuf::with_byte_size(limits::NOTICES, 0);

/// The maps of one address family.
pub trait PolicyTables: Family {
    /// Local pods under a policy.
    fn policed() -> &'static HashMap<Self::Addr, Policed>;
    /// Classes of pods and nodes.
    fn peers() -> &'static HashMap<Self::Addr, PeerClass>;
    /// Says that there are any of the latter.
    const BLOCKS: PolicyFlags;
    /// Classes of prefixes.
    fn blocks() -> &'static LpmTrie<Prefix<Self::Addr>, PeerClass>;
    /// What was judged a moment ago.
    fn recent() -> &'static PerCpuArray<Recent<Self::Addr>>;
}

macro_rules! policy_tables {
    ($family:ty, $policed:ident, $peers:ident, $blocks:ident, $flag:ident, $recent:ident) => {
        impl PolicyTables for $family {
            const BLOCKS: PolicyFlags = PolicyFlags::$flag;
            #[inline(always)]
            fn policed() -> &'static HashMap<Self::Addr, Policed> {
                &$policed
            }
            #[inline(always)]
            fn peers() -> &'static HashMap<Self::Addr, PeerClass> {
                &$peers
            }
            #[inline(always)]
            fn blocks() -> &'static LpmTrie<Prefix<Self::Addr>, PeerClass> {
                &$blocks
            }
            #[inline(always)]
            fn recent() -> &'static PerCpuArray<Recent<Self::Addr>> {
                &$recent
            }
        }
    };
}

policy_tables!(V4, POLICED4, PEERS4, BLOCKS4, BLOCKS4, RECENT4);
policy_tables!(V6, POLICED6, PEERS6, BLOCKS6, BLOCKS6, RECENT6);
