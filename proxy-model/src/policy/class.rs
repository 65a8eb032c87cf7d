//! What an address has in common with others, as far as the rules in use can tell.

use super::digest::{Domain, Encoder};
use super::peers::PeersId;
use crate::fact::NamedPort;

/// All that rules in use can find out about an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Class {
    /// The sets of peers that it is in, in order.
    pub(super) peers: Vec<PeersId>,
    /// What it calls the ports that rules about these sets name, in order; one number per name and protocol.
    pub(super) ports: Vec<NamedPort>,
}

impl Class {
    /// Nothing is known about it: it is of the world.
    pub(super) fn is_world(&self) -> bool {
        self.peers.is_empty() && self.ports.is_empty()
    }

    pub(super) fn has(&self, peers: PeersId) -> bool {
        self.peers.binary_search(&peers).is_ok()
    }

    pub(super) fn digest(&self) -> u64 {
        let mut into = Encoder::new(Domain::Class);
        into.count(self.peers.len());
        for peers in &self.peers {
            into.number(peers.0);
        }
        into.count(self.ports.len());
        for NamedPort { name, proto, port } in &self.ports {
            into.text(name).tag(proto.0).number(u64::from(port.number()));
        }
        into.digest()
    }
}
