//! The compiler for the kernel programs. What counts as one is `bpf-build`'s answer, not ours.

use std::sync::OnceLock;

use bpf_build::toolchain::{self, Toolchain};

use super::{Remedy, State, remedy::apt_offers};
use crate::child;

/// `bpf-build`'s answer, remembered once there is one: each place it looks at costs a process.
pub(super) fn find() -> Result<Toolchain, bpf_build::Error> {
    static FOUND: OnceLock<Toolchain> = OnceLock::new();
    match FOUND.get() {
        Some(found) => Ok(found.clone()),
        None => toolchain::find().map(|found| FOUND.get_or_init(|| found).clone()),
    }
}

pub(super) fn look() -> State {
    match find() {
        Ok(found) => State::Present(describe(&found)),
        Err(_) => State::Missing("no rustc with library sources".into(), install()),
    }
}

pub(super) fn clippy() -> State {
    let Ok(found) = find() else {
        return State::Missing("no BPF compiler".into(), Remedy::Hand("cargo xtask setup".into()));
    };
    if let Some(driver) = found.clippy_driver {
        return State::Present(driver.display().to_string());
    }
    let system = found.origin == toolchain::Origin::System;
    let remedy = if system && apt_offers("rust-web-clippy").is_some() {
        Remedy::Apt(vec!["rust-web-clippy".into()])
    } else {
        Remedy::Hand("rustup component add clippy, for the toolchain that compiles for BPF".into())
    };
    State::Missing(format!("no clippy-driver beside {}", found.rustc.display()), remedy)
}

fn describe(found: &Toolchain) -> String {
    format!("{} ({}, {}, LLVM {})", found.rustc.display(), found.origin, found.release, found.llvm)
}

/// Debian's packages where they are new enough, else a rustup nightly.
fn install() -> Remedy {
    if apt_offers("rustc-web").is_some_and(|version| new_enough(&version)) {
        return Remedy::Apt(["rustc-web", "rust-web-src", "rust-web-clippy"].map(Into::into).into());
    }
    if child::ask("rustup", &["--version"]).is_some() {
        let command = [
            "rustup",
            "toolchain",
            "install",
            "nightly",
            "--profile",
            "minimal",
            "-c",
            "rust-src",
            "-c",
            "clippy",
        ];
        return Remedy::command("installing a nightly Rust with its library sources", &command);
    }
    Remedy::Hand(
        "install rustup (https://rustup.rs), then: rustup toolchain install nightly -c rust-src".into(),
    )
}

/// `1.96.0+dfsg1-1` against the oldest compiler that does.
fn new_enough(version: &str) -> bool {
    let numbers =
        |text: &str| text.split('.').take(2).map_while(|part| part.parse().ok()).collect::<Vec<u32>>();
    numbers(version) >= numbers(toolchain::OLDEST)
}
