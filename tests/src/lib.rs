//! What the test targets of this package share: where things are. It knows nothing of the product's behaviour.

pub mod apiserver;
pub mod cluster;
pub mod contest;
pub mod dataplane;
pub mod early;
pub mod generator;
pub mod icmp;
mod masquerade;
mod named;
pub mod object;
pub mod occupancy;
pub mod packet;
pub mod peer;
pub mod policy;
pub mod programs;
pub mod sync;
pub mod tunnel;
pub mod upstream;

use std::path::PathBuf;

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let mut dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    dir.pop();
    dir
}
