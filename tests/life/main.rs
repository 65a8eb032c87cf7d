//! The life of an agent: it is killed, replaced, cleaned up after, told nonsense, and started where it cannot run, while
//! clients go on connecting. Real agents on the nodes of a lab; the product is treated as an operator treats it. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod browser;
mod capability;
mod capture;
mod cleanup;
mod ctl;
mod dashboard;
mod early;
mod explained;
mod loads;
mod manifest;
mod nodeport;
mod objects;
mod policy;
mod refusal;
mod report;
mod resize;
mod restart;
mod road;
mod scale;
mod stage;
