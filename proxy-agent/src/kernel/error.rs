//! What can go wrong between the agent and the kernel. Each message names the step and, where a person can
//! do something about it, the remedy.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, pin::PinError};

use super::remedy::{Asked, Remedy};

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A precondition of running at all.
    #[error(transparent)]
    Preflight(#[from] super::preflight::Missing),
    /// Another agent serves the same root.
    #[error("another agent (pid {pid}) serves {}: stop it, or give this one another --bpf-root", root.display())]
    Locked {
        /// The contested root.
        root: PathBuf,
        /// Who holds it.
        pid: i32,
    },
    /// The lock itself failed.
    #[error("cannot lock {}{}", file.display(), Remedy::after(Asked::File, source))]
    Lock {
        /// Of which root there may be one agent.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file or directory of ours.
    #[error("cannot {verb} {}{}", path.display(), Remedy::after(Asked::File, source))]
    Path {
        /// What was tried.
        verb: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A pinned map that is not what the table of maps says.
    #[error(
        "the pinned map {name} is not of this version ({difference}); run `proxy-agent cleanup`, or start the agent to migrate it"
    )]
    Shape {
        /// The map.
        name: &'static str,
        /// In which respect.
        difference: super::shape::Difference,
    },
    /// Another version serves, whose maps only it can tend.
    #[error(
        "an agent with map layout {found} serves here, this one has {ours}: let that version's proxy-agent drain"
    )]
    OtherLayout {
        /// Its layout version.
        found: u32,
        /// Ours.
        ours: u32,
    },
    /// A system call on a map.
    #[error("cannot {verb} map {map}{}", Remedy::after(Asked::Entry(map), source))]
    Map {
        /// What was tried.
        verb: &'static str,
        /// Which map.
        map: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A map could not be made.
    #[error("cannot {verb} map {map}{}", Remedy::after(*asked, source))]
    NewMap {
        /// What was tried.
        verb: &'static str,
        /// Which map.
        map: &'static str,
        /// The same, as the kernel was asked.
        asked: Asked<'static>,
        /// Why not.
        source: io::Error,
    },
    /// The object could not be loaded.
    #[error("cannot load the kernel programs{}", Remedy::after(Asked::Program, _0))]
    Load(#[source] EbpfError),
    /// The object has no such program.
    #[error("the object has no program {name}")]
    NoProgram {
        /// The missing name.
        name: &'static str,
    },
    /// The verifier refused a program.
    #[error(
        "the kernel refused the program {name}{}{}",
        Remedy::after(Asked::Program, source),
        last_words(log)
    )]
    Verifier {
        /// Which one.
        name: &'static str,
        /// The end of the verifier's log.
        log: String,
        /// Why not.
        source: io::Error,
    },
    /// A program could not be used.
    #[error("cannot use the program {name}{}", Remedy::after(Asked::Program, source))]
    Program {
        /// Which one.
        name: &'static str,
        /// Why not.
        source: aya::programs::ProgramError,
    },
    /// A program could not be attached or replaced.
    #[error("cannot {verb} {hook} on {target}{}", Remedy::after(*asked, source))]
    Attach {
        /// What was tried.
        verb: &'static str,
        /// The same, as the kernel was asked.
        asked: Asked<'static>,
        /// Which hook.
        hook: super::hook::Hook,
        /// Which device or cgroup.
        target: String,
        /// Why not.
        source: io::Error,
    },
    /// The cookie of the node's network namespace is not to be had.
    #[error("cannot read the cookie of the network namespace (SO_NETNS_COOKIE needs Linux 5.14)")]
    NetnsCookie(#[source] io::Error),
    /// A tap on the packet programs.
    #[error("cannot {verb}")]
    Tap {
        /// What was tried.
        verb: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Netlink.
    #[error("cannot {verb} through netlink")]
    Netlink {
        /// What was tried.
        verb: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Lines of the verifier's log that an error repeats: the verdict and the instructions before it.
const LOG_LINES: usize = 20;

/// None where the kernel gave up before it looked at the program.
fn last_words(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; the verifier's last words:\n{log}") }
}

impl Error {
    /// Something of the object could not be loaded; a map is named, and what it was refused.
    pub(crate) fn loading(error: EbpfError) -> Self {
        let known = |name: &str| proxy_common::maps::spec(name).map(|spec| spec.name);
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the library's errors, of which two are about maps of ours"
        )]
        match error {
            EbpfError::MapError(MapError::CreateError { name, io_error: source })
                if known(&name).is_some() =>
            {
                let map = known(&name).unwrap_or_default();
                Self::NewMap { verb: "make", map, asked: Asked::NewMap(map), source }
            }
            EbpfError::MapError(MapError::PinError {
                name: Some(name),
                error: PinError::SyscallError(error),
            }) if known(&name).is_some() => {
                let map = known(&name).unwrap_or_default();
                Self::NewMap { verb: "pin", map, asked: Asked::File, source: error.io_error }
            }
            error => Self::Load(error),
        }
    }

    /// A program that could not be loaded; of a log of thousands of lines the end says why.
    pub(crate) fn refused(name: &'static str) -> impl FnOnce(aya::programs::ProgramError) -> Self {
        move |error| {
            if let aya::programs::ProgramError::LoadError { io_error: source, verifier_log } = error {
                let log = verifier_log.to_string();
                let lines: Vec<_> = log.lines().collect();
                let log = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
                return Self::Verifier { name, log, source };
            }
            Self::Program { name, source: error }
        }
    }

    pub(crate) fn path(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Path { verb, path, source }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use aya::programs::ProgramError;
    use aya::sys::SyscallError;

    use super::super::hook::Hook;
    use super::*;
    use crate::observe::causes;

    fn log() -> aya_obj::VerifierLog {
        aya_obj::VerifierLog::new(String::new())
    }

    /// Every call that a start or a change makes, refused so; and what its message has to name.
    fn refused(errno: i32) -> Vec<(Error, [&'static str; 2])> {
        let source = || io::Error::from_raw_os_error(errno);
        let syscall = |call| SyscallError { call, io_error: source() };
        let attach = |verb, asked| Error::Attach {
            verb,
            asked,
            hook: Hook::EarlyWire,
            target: "device 7".into(),
            source: source(),
        };
        let create = |name: &str| MapError::CreateError { name: name.into(), io_error: source() };
        let pin =
            |name: &str| MapError::PinError { name: Some(name.into()), error: syscall("BPF_OBJ_PIN").into() };
        let load = || ProgramError::LoadError { io_error: source(), verifier_log: log() };
        vec![
            (Error::loading(create("frontends4").into()), ["cannot make map", "frontends4"]),
            (Error::loading(create("devices").into()), ["cannot make map", "devices"]),
            (Error::loading(create(".rodata").into()), ["cannot load the kernel programs", ".rodata"]),
            (Error::loading(pin("flows6").into()), ["cannot pin map", "flows6"]),
            (Error::refused("pod_out")(load()), ["refused the program", "pod_out"]),
            (
                Error::refused("pod_out")(syscall("BPF_OBJ_GET_INFO").into()),
                ["cannot use the program", "pod_out"],
            ),
            (Error::Map { verb: "read", map: "verdicts", source: source() }, ["cannot read map", "verdicts"]),
            (attach("attach", Asked::Hook), ["cannot attach", "device 7"]),
            (attach("pin", Asked::File), ["cannot pin", "device 7"]),
            (Error::path("pin", "/sys/fs/bpf/sluice/v6")(source()), ["cannot pin", "/sys/fs/bpf/sluice/v6"]),
        ]
    }

    #[test]
    fn whatever_is_refused_is_named_with_what_was_tried_the_kernels_word_and_what_can_be_done() {
        for errno in [libc::ENOMEM, libc::E2BIG, libc::EBUSY, libc::ENOSPC, libc::EPERM] {
            for (error, names) in refused(errno) {
                // Of a file there is no limit that E2BIG would be about.
                let has_remedy = errno != libc::E2BIG
                    || !matches!(&error, Error::Path { .. })
                        && !matches!(
                            &error,
                            Error::Attach { asked: Asked::File, .. }
                                | Error::NewMap { asked: Asked::File, .. }
                        );
                let text = causes(&error);
                assert!(names.iter().all(|name| text.contains(name)), "{text}");
                assert!(text.ends_with(&format!("(os error {errno})")), "{text}");
                assert!(error.source().is_some(), "{text}");
                assert_eq!(error.to_string().ends_with(')'), has_remedy, "{text}");
            }
        }
    }
}
