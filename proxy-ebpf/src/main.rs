//! The kernel programs of Sluice.
//!
//! ```text
//! hook ─► parse ─► lookup ─► decide ─► rewrite ─► action
//! ```
//!
//! `hook` holds the entry functions only: each is one call and one match from a reason to an action. Decisions
//! are functions of `proxy_common::decide`. Nothing here knows of Kubernetes.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]
// One-instruction counters: `core` has no atomic addition for this target.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod action;
mod count;
mod early;
mod family;
mod ferry;
mod flow;
mod hook;
mod lookup;
mod maps;
mod packet;
mod party;
mod police;
mod reject;
mod related;
mod rewrite;
mod road;
mod route;
mod scratch;
mod socket;
mod tally;
mod tunnel;
mod verified;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Unreachable: the build refuses an object with a panic path.
    loop {}
}

// The kernel reads it: some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
