//! `proxyctl` for the map layout that the tests of an upgrade go to and come back from.

use std::process::ExitCode;

#[path = "../proxyctl.rs"]
mod proxyctl;

fn main() -> ExitCode {
    proxyctl::main()
}
