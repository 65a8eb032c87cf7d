//! Network namespaces under `/run/netns`, as `ip netns` keeps them, and `ip` run inside one. Knows nothing of labs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::name::NETNS_ROOT;
use crate::process::in_netns;

/// File of a namespace.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(NETNS_ROOT).join(name)
}

/// Makes namespaces, each with its sysctls written.
///
/// # Errors
/// The first namespace or sysctl that could not be made; those before it stay.
pub fn create(spaces: &[(String, &[(String, &'static str)])]) -> Result<()> {
    fs::create_dir_all(NETNS_ROOT).with_context(|| format!("making {NETNS_ROOT}"))?;
    // The thread is moved from namespace to namespace and ends afterwards; no other thread is moved with it.
    std::thread::scope(|scope| {
        scope.spawn(|| spaces.iter().try_for_each(|(name, sysctls)| create_one(name, sysctls))).join()
    })
    .map_err(|_| anyhow!("the thread that makes namespaces panicked"))?
}

fn create_one(name: &str, sysctls: &[(String, &'static str)]) -> Result<()> {
    let file = path(name);
    File::create_new(&file).with_context(|| format!("making {}", file.display()))?;
    // SAFETY: only NEWNET is unshared, which leaves memory, files and the file system view of the process shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .with_context(|| format!("making network namespace {name}; are you root?"))?;
    mount_bind("/proc/thread-self/ns/net", &file).with_context(|| format!("mounting {}", file.display()))?;
    for (key, value) in sysctls {
        // /proc/sys/net shows the namespace of the thread that opens a file there.
        match fs::write(Path::new("/proc/sys/net").join(key), value) {
            // A kernel without that setting has no such limit either.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.with_context(|| format!("setting net/{key} to {value} in {name}"))?,
        }
    }
    Ok(())
}

/// Runs `action` in a thread that is inside the namespace.
///
/// # Errors
/// The namespace cannot be entered, or what `action` returns.
pub fn inside<T: Send>(name: &str, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file = File::open(path(name)).with_context(|| format!("opening network namespace {name}"))?;
    let enter = || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("entering network namespace {name}"))?;
        action()
    };
    std::thread::scope(|scope| scope.spawn(enter).join())
        .map_err(|_| anyhow!("a thread inside {name} panicked"))?
}

/// Removes a namespace. Its devices go as soon as the last process in it has ended.
///
/// # Errors
/// It exists and cannot be removed.
pub fn remove(name: &str) -> Result<()> {
    let file = path(name);
    match unmount(&file, UnmountFlags::DETACH) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error).with_context(|| format!("unmounting {}", file.display())),
    }
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// All namespaces there are.
///
/// # Errors
/// The folder exists and cannot be read.
pub fn list() -> Result<Vec<String>> {
    let entries = match fs::read_dir(NETNS_ROOT) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {NETNS_ROOT}")),
    };
    let name = |entry: io::Result<fs::DirEntry>| Some(entry.ok()?.file_name().to_string_lossy().into_owned());
    Ok(entries.filter_map(name).collect())
}

/// Runs lines of `ip` in a namespace. Lines that begin with `-6` (rules, whose family `ip` does not guess) come last, in a
/// process of their own.
///
/// # Errors
/// Names the line that `ip` refused and what it said.
pub fn ip(name: &str, lines: &[String]) -> Result<()> {
    let (six, any): (Vec<&str>, Vec<&str>) =
        lines.iter().map(String::as_str).partition(|line| line.starts_with("-6 "));
    batch(name, &[], &any)?;
    batch(name, &["-6"], &six.iter().map(|line| line.trim_start_matches("-6 ")).collect::<Vec<_>>())
}

fn batch(name: &str, flags: &[&str], lines: &[&str]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut command = Command::new("ip");
    command
        .args(flags)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    in_netns(&mut command, &path(name))?;
    let mut child = command.spawn().context("starting ip (package iproute2)")?;
    if let Some(mut stdin) = child.stdin.take() {
        // If ip ends early the write fails; its own message says more, and follows.
        let _ = stdin.write_all((lines.join("\n") + "\n").as_bytes());
    }
    let output = child.wait_with_output().context("waiting for ip")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said
        .rsplit_once("Command failed -:")
        .and_then(|(_, number)| number.trim().parse::<usize>().ok())
        .and_then(|number| lines.get(number.checked_sub(1)?));
    bail!("in {name}: ip {}: {}", line.copied().unwrap_or("-batch"), said.lines().next().unwrap_or("failed"))
}
