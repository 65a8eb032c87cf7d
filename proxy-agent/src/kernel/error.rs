//! What can go wrong between the agent and the kernel. Each message names the step and, where a person can
//! do something about it, the remedy.

use std::{io, path::PathBuf};

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
    #[error("cannot lock {}", root.display())]
    Lock {
        /// The root to lock.
        root: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file or directory of ours.
    #[error("cannot {verb} {}", path.display())]
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
    #[error("cannot {verb} map {map}")]
    Map {
        /// What was tried.
        verb: &'static str,
        /// Which map.
        map: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The object could not be loaded.
    #[error("cannot load the kernel programs")]
    Load(#[source] aya::EbpfError),
    /// The object has no such program.
    #[error("the object has no program {name}")]
    NoProgram {
        /// The missing name.
        name: &'static str,
    },
    /// The verifier refused a program.
    #[error("the kernel refused the program {name}; the verifier's last words:\n{log}")]
    Verifier {
        /// Which one.
        name: &'static str,
        /// The end of the verifier's log.
        log: String,
        /// Why not.
        source: io::Error,
    },
    /// A program could not be used.
    #[error("cannot use the program {name}")]
    Program {
        /// Which one.
        name: &'static str,
        /// Why not.
        source: aya::programs::ProgramError,
    },
    /// A program could not be attached or replaced.
    #[error("cannot {verb} {hook} on {target}")]
    Attach {
        /// What was tried.
        verb: &'static str,
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

impl Error {
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
