//! What whoever runs a node can do about a call that the kernel refused: said behind each such error. Knows error numbers,
//! and by which flags maps get their size; not what was to be written.

use std::{error::Error, fmt, io};

/// What the kernel was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked<'a> {
    /// To make the map of this name.
    NewMap(&'a str),
    /// To read or write an entry of the map of this name.
    Entry(&'a str),
    /// To take a program.
    Program,
    /// To let a program run at a hook.
    Hook,
    /// To make a file, or the pin of a map or a link.
    File,
}

/// What can be done. Its text begins with the space that parts it from what went wrong, and is empty where nothing is known.
#[derive(Clone, Copy, Debug)]
pub struct Remedy<'a> {
    asked: Asked<'a>,
    errno: Option<i32>,
}

impl<'a> Remedy<'a> {
    /// After this error, or what caused it.
    #[must_use]
    pub fn after(asked: Asked<'a>, error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(errno) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
                return Self { asked, errno: Some(errno) };
            }
            cause = error.source();
        }
        Self { asked, errno: None }
    }
}

/// The flag that sizes a map; of the others the size is fixed.
fn flag(map: &str) -> Option<&'static str> {
    match map.trim_end_matches(['4', '6']) {
        "frontends" => Some("--frontend-table-size"),
        "backends" => Some("--backend-table-size"),
        "flows" => Some("--flow-table-size"),
        "verdicts" => Some("--policy-verdicts"),
        "peers" => Some("--policy-peers"),
        _ => None,
    }
}

const MEMORY: &str =
    "the kernel has no memory for it: raise the memory limit of the agent or free some on the node";
const FORBIDDEN: &str =
    "something forbids it: look at the agent's capabilities and at seccomp, AppArmor and SELinux on the node";
const HELD: &str =
    "somebody else holds it at this moment: if it goes on, look for another program that uses it";

impl fmt::Display for Remedy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use libc::{E2BIG, EACCES, EAGAIN, EBUSY, ENOMEM, ENOSPC, EPERM, ERANGE};
        let Some(errno) = self.errno else { return Ok(()) };
        let words = match (errno, self.asked) {
            (E2BIG | ENOSPC, Asked::Entry(map)) => {
                return match flag(map) {
                    Some(flag) => write!(f, " (it is full: {flag} makes it larger)"),
                    None => write!(f, " (it is full, and its size is fixed: fewer objects have to need it)"),
                };
            }
            (E2BIG | ENOMEM, Asked::NewMap(map)) if flag(map).is_some() => {
                let flag = flag(map).unwrap_or_default();
                return write!(f, " ({MEMORY}, or make the map smaller by {flag})");
            }
            (ENOSPC | ENOMEM, Asked::File) => "no room: free memory on the node, or room on that file system",
            (ENOMEM | ENOSPC | E2BIG, Asked::NewMap(_)) | (ENOMEM, _) => MEMORY,
            (E2BIG | ENOSPC, Asked::Program) => {
                "it is too large for this kernel: docs/kernels.md names those that take it"
            }
            (E2BIG | ENOSPC | ERANGE, Asked::Hook) => {
                "the hook has as many programs as it takes: detach one of another owner (bpftool net, bpftool cgroup tree)"
            }
            (EBUSY | EAGAIN, _) => HELD,
            // The verifier says EACCES of what a program does, and its own words are better.
            (EACCES, Asked::Program) => return Ok(()),
            (EPERM | EACCES, _) => FORBIDDEN,
            _ => return Ok(()),
        };
        write!(f, " ({words})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_is_full_is_made_larger_by_its_own_flag_if_it_has_one() {
        let after =
            |map| Remedy::after(Asked::Entry(map), &io::Error::from_raw_os_error(libc::E2BIG)).to_string();
        for (map, flag) in [
            ("frontends4", "--frontend-table-size"),
            ("backends6", "--backend-table-size"),
            ("flows6", "--flow-table-size"),
            ("verdicts", "--policy-verdicts"),
            ("peers4", "--policy-peers"),
        ] {
            assert_eq!(after(map), format!(" (it is full: {flag} makes it larger)"), "{map}");
        }
        for map in ["ranges4", "blocks6", "wholes", "policed4", "devices", "affinity", "tunnels4"] {
            assert!(after(map).starts_with(" (it is full, and its size is fixed"), "{map}");
        }
    }

    #[test]
    fn an_error_of_which_nothing_is_known_is_left_as_it_is() {
        for error in [io::Error::from_raw_os_error(libc::EFAULT), io::Error::other("no number")] {
            assert_eq!(Remedy::after(Asked::Program, &error).to_string(), "");
        }
    }
}
