//! Gives every program of the object to the kernel that runs, and prints what its verifier made of each.
//!
//! A line per program: `program NAME COUNT`, the instructions that the verifier looked at, or `refused NAME` and the end of
//! its log behind it. It knows no budget: whoever started it compares.

use std::process::ExitCode;

use aya::programs::{Program, ProgramError, ProgramInfo};
use proxy_common::DatapathConfig;
use tests::{dataplane::config, object};

/// Entries per map: nothing is written into them.
const ENTRIES: u32 = 64;
/// Lines of the verifier's log that a refusal shows.
const TAIL: usize = 25;

fn main() -> ExitCode {
    let mut object = object::load(everything(), ENTRIES);
    // Where pods' packets are looked up in any case, it does nothing but hand them on.
    let mut sockets = object::load(DatapathConfig { pod_packets: 0, ahead: 1, ..everything() }, ENTRIES);
    let ahead = sockets.programs_mut().filter(|(name, _)| *name == "strangers");
    let others = object.programs_mut().filter(|(name, _)| *name != "strangers");
    let mut done = ExitCode::SUCCESS;
    for (name, program) in others.chain(ahead) {
        match verified(program) {
            Ok(count) => println!("program {name} {count}"),
            Err(why) => {
                println!("refused {name}\n{why}");
                done = ExitCode::FAILURE;
            }
        }
    }
    done
}

/// All that can be switched on is: what a smaller configuration loads is part of it.
fn everything() -> DatapathConfig {
    // As the agent asks: without it the helper that finds such a socket has no type to give.
    let mptcp = u8::from(std::path::Path::new("/proc/sys/net/mptcp/enabled").exists());
    DatapathConfig {
        host_netns: 1,
        node_packets: 1,
        tallies: 1,
        tunnels: 1,
        two_tables: 1,
        mptcp,
        in_order: 0,
        ..config()
    }
}

fn verified(program: &mut Program) -> Result<u32, String> {
    let info = load(program).map_err(|error| tail(&format!("{error:?}")))?;
    info.verified_instruction_count().ok_or_else(|| "the kernel does not count instructions".to_owned())
}

/// Only the kinds that the object has.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "aya has thirty kinds, and another one is an error whatever it is"
)]
fn load(program: &mut Program) -> Result<ProgramInfo, ProgramError> {
    match program {
        Program::SchedClassifier(one) => one.load().and_then(|()| one.info()),
        Program::Xdp(one) => one.load().and_then(|()| one.info()),
        Program::CgroupSock(one) => one.load().and_then(|()| one.info()),
        Program::CgroupSockAddr(one) => one.load().and_then(|()| one.info()),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// The last lines of a log that may be long.
fn tail(log: &str) -> String {
    let log = log.replace("\\n", "\n");
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
