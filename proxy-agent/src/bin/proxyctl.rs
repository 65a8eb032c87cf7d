//! Entry of `proxyctl`: what is in the kernel, told without an agent.

use std::process::ExitCode;

use clap::Parser as _;
use proxy_agent::ctl::{self, Cli, print};
use proxy_agent::observe::causes;

pub(crate) fn main() -> ExitCode {
    match ctl::run(&Cli::parse()) {
        Ok(text) => {
            // A reader that has seen enough (`proxyctl flow list | head`) is no failure.
            let _ = print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("proxyctl: {}", causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
