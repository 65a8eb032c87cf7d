//! The maps of one address family. The only file of this room that names the maps of the two families.

use std::io;

use proxy_common::{
    Backend, Family, Flow, FlowKey, Frontend, FrontendKey, NodeConfig, PeerClass, Policed, PrefixKey,
    RangeKey, V4, V6, maps::MapType,
};

use super::{
    blocks::Blocks, error::Error, map::Table, memory::Slots, pins::Pins, settings::Families, sys::Access,
};
use std::os::fd::AsFd;

/// Value of every entry of `ranges`, `nets` and `nodes`.
pub const IN_RANGE: u32 = 1;

/// All maps of one family.
#[derive(Debug)]
pub struct Maps<F: Family> {
    /// What clients use.
    pub frontends: Table<FrontendKey<F::Addr>, Frontend>,
    /// Slots of all segments.
    pub backends: Slots<Backend<F::Addr>>,
    /// Source ranges; the value is always [`IN_RANGE`].
    pub ranges: Table<RangeKey<F::Addr>, u32>,
    /// Answered connections.
    pub flows: Table<FlowKey<F::Addr>, Flow<F::Addr>>,
    /// Connections without an answer yet.
    pub half_open: Table<FlowKey<F::Addr>, Flow<F::Addr>>,
    /// Addresses of this node.
    pub local_addrs: Table<F::Addr, u32>,
    /// Addresses of the cluster's nodes; the value is always [`IN_RANGE`].
    pub nodes: Table<F::Addr, u32>,
    /// Connections whose packets leave in tunnels.
    pub tunnels: Table<FlowKey<F::Addr>, Flow<F::Addr>>,
    /// The node's address and ranges.
    pub node: Table<u32, NodeConfig<F::Addr>>,
    /// Ranges that the node's entry has no room for; the value is always [`IN_RANGE`].
    pub nets: Table<PrefixKey<F::Addr>, u32>,
    /// Device and next hop → source of masqueraded packets.
    pub sources: Table<PrefixKey<F::Addr>, F::Addr>,
    /// Local pods under a policy.
    pub policed: Table<F::Addr, Policed>,
    /// Classes of addresses that rules name.
    pub peers: Table<F::Addr, PeerClass>,
    /// Classes of prefixes.
    pub blocks: Blocks<F::Addr>,
}

/// Names of the maps of one family.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// See [`Maps::frontends`].
    pub frontends: &'static str,
    /// See [`Maps::backends`].
    pub backends: &'static str,
    /// See [`Maps::ranges`].
    pub ranges: &'static str,
    /// See [`Maps::flows`].
    pub flows: &'static str,
    /// See [`Maps::half_open`].
    pub half_open: &'static str,
    /// See [`Maps::local_addrs`].
    pub local_addrs: &'static str,
    /// See [`Maps::nodes`].
    pub nodes: &'static str,
    /// See [`Maps::tunnels`].
    pub tunnels: &'static str,
    /// See [`Maps::node`].
    pub node: &'static str,
    /// See [`Maps::nets`].
    pub nets: &'static str,
    /// See [`Maps::sources`].
    pub sources: &'static str,
    /// See [`Maps::policed`].
    pub policed: &'static str,
    /// See [`Maps::peers`].
    pub peers: &'static str,
    /// See [`Maps::blocks`].
    pub blocks: &'static str,
}

/// A family that has maps.
pub trait MapFamily: Family {
    /// Their names.
    const NAMES: Names;
    /// The family is served.
    fn served(families: Families) -> bool;
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// [`Error::Path`] without a pin, [`Error::Shape`] when it is of another version.
    fn open(pins: &Pins, access: Access) -> Result<Maps<Self>, Error>;
}

impl MapFamily for V4 {
    const NAMES: Names = Names {
        frontends: "frontends4",
        backends: "backends4",
        ranges: "ranges4",
        flows: "flows4",
        half_open: "halfopen4",
        local_addrs: "localaddrs4",
        nodes: "nodes4",
        tunnels: "tunnels4",
        node: "node4",
        nets: "nets4",
        sources: "sources4",
        policed: "policed4",
        peers: "peers4",
        blocks: "blocks4",
    };

    fn served(families: Families) -> bool {
        families.ipv4()
    }

    fn open(pins: &Pins, access: Access) -> Result<Maps<Self>, Error> {
        maps(pins, access)
    }
}

impl MapFamily for V6 {
    const NAMES: Names = Names {
        frontends: "frontends6",
        backends: "backends6",
        ranges: "ranges6",
        flows: "flows6",
        half_open: "halfopen6",
        local_addrs: "localaddrs6",
        nodes: "nodes6",
        tunnels: "tunnels6",
        node: "node6",
        nets: "nets6",
        sources: "sources6",
        policed: "policed6",
        peers: "peers6",
        blocks: "blocks6",
    };

    fn served(families: Families) -> bool {
        families.ipv6()
    }

    fn open(pins: &Pins, access: Access) -> Result<Maps<Self>, Error> {
        maps(pins, access)
    }
}

fn maps<F: MapFamily>(pins: &Pins, access: Access) -> Result<Maps<F>, Error>
where
    FrontendKey<F::Addr>: MapType,
    Backend<F::Addr>: MapType,
    RangeKey<F::Addr>: MapType,
    PrefixKey<F::Addr>: MapType,
    FlowKey<F::Addr>: MapType,
    Flow<F::Addr>: MapType,
    NodeConfig<F::Addr>: MapType,
    F::Addr: MapType,
{
    let names = F::NAMES;
    // The kernel maps the memory of an array only through a descriptor that may write; for readers the mapping
    // itself is read-only.
    let array = pins.open(names.backends, Access::Write)?;
    let backends = Slots::map(array.as_fd(), array.max_entries(), access).map_err(|source| Error::Map {
        verb: "map the memory of",
        map: names.backends,
        source,
    })?;
    Ok(Maps {
        frontends: table(pins, names.frontends, access)?,
        backends,
        ranges: table(pins, names.ranges, access)?,
        flows: table(pins, names.flows, access)?,
        half_open: table(pins, names.half_open, access)?,
        local_addrs: table(pins, names.local_addrs, access)?,
        nodes: table(pins, names.nodes, access)?,
        tunnels: table(pins, names.tunnels, access)?,
        node: table(pins, names.node, access)?,
        nets: table(pins, names.nets, access)?,
        sources: table(pins, names.sources, access)?,
        policed: table(pins, names.policed, access)?,
        peers: table(pins, names.peers, access)?,
        blocks: Blocks { trie: table(pins, names.blocks, access)?, wholes: table(pins, "wholes", access)? },
    })
}

/// A handle of one pinned map.
pub(super) fn table<K: MapType, V: MapType>(
    pins: &Pins,
    name: &'static str,
    access: Access,
) -> Result<Table<K, V>, Error> {
    let unfit = |source: io::Error| Error::Map { verb: "read the layout of", map: name, source };
    Table::new(pins.open(name, access)?).map_err(unfit)
}
