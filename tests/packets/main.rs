//! Golden packets: the real programs on real maps, one packet in, one packet out, compared as a whole.
//!
//! Each test runs in a network namespace of its own, in the thread that the test harness gives it. Both families run
//! through the same cases: a [`family::Names`] holds the addresses.
//! [`live`] alone sends anything: through attached programs, between namespaces.

mod algorithm;
mod clash;
mod detect;
mod doubt;
mod early;
mod echo;
mod family;
mod ferry;
mod forward;
mod fragment;
mod lent;
mod live;
mod parse;
mod party;
mod policy;
mod programs;
mod range;
mod refuse;
mod related;
mod route;
mod seen;
mod snat;
mod source;
mod stack;
mod tunnel;
