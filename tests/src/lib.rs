//! What the test targets of this package share: where things are. It knows nothing of the product's behaviour.

pub mod apiserver;
mod bpf;
pub mod cluster;
mod connections;
pub mod content;
pub mod contest;
pub mod dataplane;
pub mod early;
pub mod generator;
pub mod icmp;
mod mapped;
mod masquerade;
mod named;
pub mod object;
pub mod occupancy;
mod onward;
pub mod packet;
mod parties;
pub mod peer;
pub mod policy;
pub mod ports;
pub mod programs;
mod stock;
pub mod sync;
pub mod tunnel;
pub mod upstream;

use std::{io::Write as _, path::PathBuf};

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let mut dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    dir.pop();
    dir
}

/// Says that a test leaves something out, because the kernel lacks what it needs: the line is counted (`cargo xtask test`), where
/// libtest keeps what is printed by the usual means to itself.
pub fn leave_out(what: &str) {
    // It may stand behind the name of the test. Nobody reads it: then it does not matter.
    let _ = writeln!(std::io::stdout().lock(), "\nSKIPPED: {what}");
}
