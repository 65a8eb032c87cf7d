//! `sluice-load serve tcp|udp ADDRESS`, `sluice-load drive`: both ends of a load, each a process of its own, so that each runs
//! in the namespace and the cgroup of a pod. Knows nothing of Services.
//!
//! The driver reads orders from standard input and answers each on standard output, a line of JSON each way.

mod client;
mod clock;
mod server;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "sluice-load", about = "Both ends of a load")]
struct Options {
    #[command(subcommand)]
    verb: Verb,
    /// The processor to run on
    #[arg(long, global = true)]
    cpu: Option<usize>,
    /// Priority: what others do on the machine then takes little of the processor
    #[arg(long, global = true, allow_negative_numbers = true)]
    nice: Option<i32>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Answer until killed; prints READY
    Serve {
        /// `tcp` or `udp`
        protocol: server::Protocol,
        /// Where
        at: SocketAddr,
    },
    /// Do what standard input asks for
    Drive,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(nice) = options.nice {
        rustix::process::setpriority_process(None, nice).context("setting the priority")?;
    }
    if let Some(cpu) = options.cpu {
        clock::pin(cpu)?;
    }
    // Whoever started this is not there to stop it when it has died.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    match options.verb {
        Verb::Serve { protocol, at } => server::serve(protocol, at),
        Verb::Drive => client::drive(),
    }
}
