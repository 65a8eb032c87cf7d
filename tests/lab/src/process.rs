//! Starts processes in a network namespace and a cgroup, without another mount namespace: `ip netns exec` would hide the BPF
//! and cgroup file systems.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

/// Lets a command start inside a network namespace.
///
/// # Errors
/// The namespace does not exist.
pub fn in_netns(command: &mut Command, netns: &Path) -> Result<()> {
    let file = File::open(netns).with_context(|| format!("opening network namespace {}", netns.display()))?;
    let enter = move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(io::Error::from)
    };
    // SAFETY: between fork and exec the closure makes one system call on a descriptor it owns; it allocates nothing and
    // takes no lock.
    unsafe { command.pre_exec(enter) };
    Ok(())
}

/// Lets a command start inside a cgroup.
///
/// # Errors
/// The cgroup does not exist.
pub fn in_cgroup(command: &mut Command, cgroup: &Path) -> Result<()> {
    let procs = cgroup.join("cgroup.procs");
    let file = OpenOptions::new()
        .write(true)
        .open(&procs)
        .with_context(|| format!("opening {}", procs.display()))?;
    // "0" is the process that writes.
    let enter = move || (&file).write_all(b"0");
    // SAFETY: between fork and exec the closure makes one system call on a descriptor it owns; it allocates nothing and
    // takes no lock.
    unsafe { command.pre_exec(enter) };
    Ok(())
}

/// A process, told apart from a later one of the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Number.
    pub pid: i32,
    /// Clock ticks since boot at which it was started.
    pub started: u64,
}

impl ProcessId {
    /// This process.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn own() -> Result<Self> {
        let pid = i32::try_from(std::process::id()).context("process id")?;
        Self::of(pid)?.context("this process is not in /proc")
    }

    /// The process of that number, if there is one that has not ended.
    ///
    /// # Errors
    /// `/proc` holds something unexpected.
    pub fn of(pid: i32) -> Result<Option<Self>> {
        let Ok(stat) = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat"))) else {
            return Ok(None);
        };
        // The second field is the name in parentheses and may hold anything; the third is the state, the 22nd the start.
        let (_, rest) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
        let mut fields = rest.split_whitespace();
        if matches!(fields.next(), Some("Z" | "X")) {
            return Ok(None);
        }
        let started =
            fields.nth(18).and_then(|field| field.parse().ok()).context("no start time in /proc/PID/stat")?;
        Ok(Some(Self { pid, started }))
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).is_ok_and(|found| found == Some(*self))
    }

    /// Sends a signal and waits until the process has ended (or is a zombie).
    ///
    /// # Errors
    /// It did not end in time.
    pub fn end(&self, signal: Signal, patience: Duration) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        // Asked after the handle is open, so that the handle is surely of this process.
        if !self.is_alive() {
            return Ok(());
        }
        pidfd_send_signal(&handle, signal).context("sending a signal")?;
        let deadline = Instant::now() + patience;
        while self.is_alive() {
            if Instant::now() > deadline {
                bail!("process {} did not end within {patience:?} of {signal:?}", self.pid);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_until_it_is_ended() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive());
        assert!(!ProcessId { started: own.started + 1, ..own }.is_alive());
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let process = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap().unwrap();
        process.end(Signal::TERM, Duration::from_secs(5)).unwrap();
        assert!(!process.is_alive());
        child.wait().unwrap();
    }
}
