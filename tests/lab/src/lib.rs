//! A cluster's data path on one machine: nodes, pods and outside clients as network namespaces, real sockets in each, the
//! product's agents on the nodes, and a runner for the fixture cases.
//!
//! ```text
//! topology ─► plan ─► netns, cgroup, bpffs, process ─► lab ─► place (probe), agent, objects ─► fixture
//! ```
//!
//! It treats the product as an operator does: command line, manifests, HTTP endpoints, packets. It does not know its maps.
//!
//! ```no_run
//! use sluice_lab::{Lab, Probe, Protocol, Topology};
//! # fn main() -> anyhow::Result<()> {
//! let lab = Lab::up(&Topology::read("examples/lab.yaml".as_ref())?)?;
//! let tally = lab.pod("client")?.probe(&[Probe::new(Protocol::Tcp, "10.96.0.10:80".parse()?).times(60)])?;
//! println!("{}", tally[0]);
//! lab.down()
//! # }
//! ```

pub mod agent;
pub mod binary;
pub mod bpffs;
mod cable;
pub mod cgroup;
pub mod down;
pub mod fixture;
pub mod lab;
pub mod name;
pub mod netns;
pub mod objects;
pub mod parallel;
pub mod place;
pub mod plan;
pub mod pod;
pub mod process;
mod ready;
pub mod state;
pub mod sysctl;
pub mod tally;
pub mod topology;
pub mod wire;

pub use agent::{AgentOptions, Masquerade, SocketLb, Source, Stop};
pub use lab::Lab;
pub use name::LabId;
pub use objects::{ManifestDir, Op};
pub use place::{Load, Place, PlaceKind};
pub use state::Lifetime;
pub use tally::Tally;
pub use topology::{Family, Link, NodeSpec, OutsideSpec, PodSpec, Topology};
pub use wire::{Dialect, Failure, Listen, Outcome, Probe, Protocol, UdpStyle};
