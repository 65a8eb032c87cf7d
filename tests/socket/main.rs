//! The socket road: real programs on a control group, real sockets on loopback.
//!
//! Frontends are written by hand, so nothing of the agent takes part. Each test runs in a process of its own,
//! with its own network namespace and control group (`room`).

mod affinity;
mod algorithm;
mod datagram;
mod kept;
mod message;
mod object;
mod place;
mod range;
mod refusal;
mod room;
mod server;
mod source;
mod stream;
mod view;
