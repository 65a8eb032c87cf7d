//! The north-south road in the lab: nodes of other shapes than the usual one, several uplinks, addresses that come and
//! go, node ports at the loopback address, and the ways to tell pods from other clients. Real agents, real sockets.
//!
//! The usual shape (a veth per pod, one uplink) is what the fixtures play through.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod addresses;
mod algorithm;
mod detect;
mod localhost;
mod objects;
mod ping;
mod reuse;
mod shapes;
mod stage;
mod tunnel;
mod uplinks;
