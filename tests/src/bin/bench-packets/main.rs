//! Measures the packet programs: nanoseconds per path and instructions that the verifier looks at.
//!
//! Each figure is the kernel's own clock around `BPF_PROG_TEST_RUN`, minus that of the program `empty` run the same
//! way in the same round. Two ways:
//!
//! - *loop*: one packet, many times in one call: what a packet costs while everything is in the caches. A run finds
//!   the packet as the last one left it, so the flow's entry here translates a tuple to itself, with checksum
//!   differences that are not zero: the same loads, stores and calls as for any other flow. A hop is counted down by
//!   each run, so a call makes fewer runs than there are hops.
//! - *once*: one run per call, each with the packet of another flow: what a packet costs when nothing is warm,
//!   after another system call.
//! - *flows*: each run gets the packet of another flow, in the kernel's own loop, as another program has just written it
//!   ([`tests::generator`]); `empty` gets the same. The control beside it looks the packet's tuple up in the same table, once, and
//!   does nothing else: what is above it is ours.

mod figure;
mod flows;
mod node;
mod paths;
mod policies;

use std::{fs, path::PathBuf, process::ExitCode};

use proxy_common::{DatapathConfig, V4, V6};
use tests::dataplane::{Dataplane, config};

use figure::Figure;
use node::{NAMES4, NAMES6, Names};

fn main() -> ExitCode {
    let Arguments { json, only } = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    print_header();
    let mut figures = Vec::new();
    let parts = [
        ("paths", paths::family::<V4> as fn(&Names) -> Vec<Figure>, &NAMES4),
        ("flows", flows::family::<V4>, &NAMES4),
        ("policies", policies::policies::<V4>, &NAMES4),
        ("paths", paths::family::<V6>, &NAMES6),
        ("flows", flows::family::<V6>, &NAMES6),
        ("policies", policies::policies::<V6>, &NAMES6),
    ];
    for (name, part, names) in parts {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let found = part(names);
        print_figures(&found);
        figures.extend(found);
    }
    let verified = verified();
    print_verified(&verified);
    if let Some(path) = json
        && let Err(error) = fs::write(&path, to_json(&figures, &verified))
    {
        eprintln!("error: cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

#[derive(Default)]
struct Arguments {
    /// Where the figures are written.
    json: Option<PathBuf>,
    /// The part that is measured; none: all of them.
    only: Option<String>,
}

fn arguments() -> Result<Arguments, String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(Arguments::default()),
        ["--json", file] => Ok(Arguments { json: Some(PathBuf::from(file)), only: None }),
        ["--only", part @ ("paths" | "flows" | "policies")] => {
            Ok(Arguments { json: None, only: Some(part.to_owned()) })
        }
        _ => Err("usage: cargo xtask bench packets [--json FILE | --only paths|flows|policies]".to_owned()),
    }
}

/// Instructions that the verifier looked at, per program: with both families, and with one.
fn verified() -> Vec<(&'static str, [u32; 3])> {
    let configs = [config(), DatapathConfig { ipv6: 0, ..config() }, DatapathConfig { ipv4: 0, ..config() }];
    let mut dataplanes = configs.map(Dataplane::new);
    ["from_pod", "to_pod", "from_wire", "to_wire", "empty"]
        .map(|name| {
            let counts = dataplanes.each_mut().map(|dataplane| {
                let info = dataplane.program(name).info().expect("a loaded program has facts");
                info.verified_instruction_count().expect("kernels count since 5.16")
            });
            (name, counts)
        })
        .into()
}

fn print_header() {
    println!(
        "{:<6} {:<32} {:<5} {:>6} {:>10} {:>10}",
        "FAMILY", "PATH", "WAY", "FLOWS", "MEDIAN ns", "MIN ns"
    );
}

fn print_figures(figures: &[Figure]) {
    for Figure { family, path, way, flows, median, min } in figures {
        println!("{family:<6} {path:<32} {way:<5} {flows:>6} {median:>10.1} {min:>10.1}");
    }
}

fn print_verified(verified: &[(&str, [u32; 3])]) {
    println!("\n{:<12} {:>10} {:>10} {:>10}", "VERIFIED", "BOTH", "IPV4", "IPV6");
    for (name, [both, ipv4, ipv6]) in verified {
        println!("{name:<12} {both:>10} {ipv4:>10} {ipv6:>10}");
    }
}

fn to_json(figures: &[Figure], verified: &[(&str, [u32; 3])]) -> String {
    let paths: Vec<String> = figures
        .iter()
        .map(|Figure { family, path, way, flows, median, min }| {
            format!(
                r#"    {{"family": "{family}", "path": "{path}", "way": "{way}", "flows": {flows}, "median_ns": {median:.1}, "min_ns": {min:.1}}}"#
            )
        })
        .collect();
    let programs: Vec<String> = verified
        .iter()
        .map(|(name, [both, ipv4, ipv6])| {
            format!(r#"    {{"program": "{name}", "both": {both}, "ipv4": {ipv4}, "ipv6": {ipv6}}}"#)
        })
        .collect();
    format!(
        "{{\n  \"paths\": [\n{}\n  ],\n  \"verified\": [\n{}\n  ]\n}}\n",
        paths.join(",\n"),
        programs.join(",\n")
    )
}
