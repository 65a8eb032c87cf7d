//! `proxy-agent` with the map layout that the tests of an upgrade go to and come back from.

use std::process::ExitCode;

#[path = "../../main.rs"]
mod agent;

fn main() -> ExitCode {
    agent::main()
}
