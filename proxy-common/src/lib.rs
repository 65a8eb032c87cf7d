//! What the kernel programs and userspace must agree on: wire types, map layouts, the table of reasons,
//! checksum arithmetic, TCP tracking, and every packet decision that needs no map access.
//!
//! The crate knows nothing of aya, Kubernetes, clocks or allocation, and it forbids unsafe code: a map type
//! is plain old data because zerocopy's derives prove it, padding included.
//!
//! ```text
//! addr ─► frontend, backend, flow, affinity, socket, node     layouts (one file per noun)
//! algorithm                                                   how a backend is chosen
//! policy, recent, end, mentioned, group, precedent             what the rules say about whom, and have just said
//! party                                                       whose packets connections may have
//! reason                                                      why a packet ended as it did
//! checksum, tcp, decide                                       arithmetic and decisions, host-tested
//! maps, limits                                                names, sizes, bounds
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[macro_use]
mod word;

pub mod addr;
pub mod affinity;
pub mod algorithm;
pub mod backend;
pub mod checksum;
pub mod crc32c;
pub mod decide;
pub mod end;
pub mod ferry;
pub mod flow;
pub mod fragment;
pub mod frontend;
pub mod group;
pub mod layout;
pub mod limits;
pub mod maps;
pub mod mentioned;
pub mod node;
pub mod party;
pub mod policy;
pub mod precedent;
pub mod prefix;
pub mod range;
pub mod reason;
pub mod recent;
pub mod scratch;
pub mod socket;
#[cfg(test)]
mod strangers;
pub mod tcp;

pub use addr::{Addr4, Addr6, Address, Family, Port, Proto, V4, V6};
pub use affinity::{AffinityKey, AffinityValue};
pub use algorithm::{Algorithm, ForwardingMode, LoadKey, Tally, Weight};
pub use backend::{Backend, BackendFlags};
pub use end::End;
pub use flow::{Flow, FlowFlags, FlowKey, Route};
pub use fragment::{FragmentKey, FragmentPorts, HeldFrame};
pub use frontend::{ClientClass, ClientRule, Frontend, FrontendFlags, FrontendKey, Segment, ServiceId};
pub use node::{Cidr, DatapathConfig, DeviceKind, NetKind, NodeConfig, NodeFlags};
pub use policy::{PeerClass, Policed, PolicyState, RuleId, RuleSetId, VerdictKey, VerdictPage};
pub use precedent::Precedent;
pub use prefix::PrefixKey;
pub use range::RangeKey;
pub use reason::Reason;
pub use recent::Recent;
pub use scratch::Scratch;
pub use socket::{SocketPeer, SocketPeerKey};
