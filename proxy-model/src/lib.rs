//! Cluster facts in, desired map entries out: the pure core of the agent.
//!
//! Knows no Kubernetes library, no kernel, no clock and no randomness; time is an argument. What is planned
//! depends on the facts, never on the order in which they came (ids, segment positions and generations are
//! the exception: they are adopted, and kept stable).
//!
//! ```text
//! fact ─► world ─► endpoint, rule ─► intent ─► plan ─► writes
//!         (events,  (who may use     (frontends (ids, segments,
//!          dirty)    which backend)   of a       diff, order;
//!                                     Service)   roster: their slots)
//! ```
#![forbid(unsafe_code)]

pub mod endpoint;
pub mod fact;
pub mod family;
pub mod intent;
pub mod local;
pub mod nets;
pub mod plan;
pub mod policy;
pub mod roster;
pub mod rule;
pub mod servers;
pub mod settings;
mod sorted;
pub mod view;
pub mod weight;
pub mod world;

pub use fact::{Change, Event, Kind, Name, ObjectKey};
pub use family::{IpFamily, Served};
pub use nets::{NoRoom, NodeFacts};
pub use plan::{
    Actual, Adoption, Capacity, Plan, Planner, Refusal, Refused, ServiceName, Table, Tick, Write,
};
pub use roster::TableSize;
pub use servers::{Answering, Moved, Servers};
pub use settings::{NodePortAddresses, Settings};
pub use weight::Weights;
pub use world::{Changed, World};
