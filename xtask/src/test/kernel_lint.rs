//! Clippy for the kernel programs: with the compiler that builds them, for the target they are built for.
//!
//! Where that compiler has no clippy, their host-compilable modules are linted by the workspace's own.

use std::process::Command;

use anyhow::Result;
use bpf_build::{compile::Job, linker, toolchain};

use crate::child;

/// The command that lints.
pub(super) fn command() -> Result<Command> {
    let toolchain = toolchain::find()?;
    let crate_dir = child::root().join("proxy-ebpf");
    let Some(driver) = toolchain.clippy_driver.clone() else {
        println!(
            "{} has no clippy: linting the modules that also compile for the host",
            toolchain.rustc.display()
        );
        let args =
            ["clippy", "--manifest-path", "proxy-ebpf/Cargo.toml", "--all-targets", "--", "-Dwarnings"];
        return Ok(child::cargo(args));
    };
    let target_dir = child::root().join("target/bpf");
    let linker = linker::find()?;
    let job = Job {
        crate_dir: &crate_dir,
        bin: "sluice",
        features: &[],
        target_dir: &target_dir,
        toolchain: &toolchain,
        linker: &linker,
    };
    let mut lint = job.cargo("check");
    // What `cargo clippy` does: the driver stands in for the compiler of workspace members, its flags come by name.
    // The compiler need not have come with a `cargo-clippy`.
    lint.env("RUSTC_WORKSPACE_WRAPPER", driver).env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__");
    Ok(lint)
}
