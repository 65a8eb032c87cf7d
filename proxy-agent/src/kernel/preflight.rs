//! What the node must offer before anything is tried: each thing that is missing is one clear error with its remedy.

pub mod bpffs;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{StatVfsMountFlags, statfs, statvfs},
    thread::CapabilitySet,
};

use super::settings::{Settings, SocketRoad};

/// Where the kernel tells its types.
pub const TYPES: &str = "/sys/kernel/btf/vmlinux";
const BPF_FS: u32 = 0xcafe_4a11;
const CGROUP2_FS: u32 = 0x6367_7270;

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// The kernel is too old.
    #[error("this kernel is {found}; Sluice needs Linux 6.1 or newer")]
    Kernel {
        /// Its release.
        found: String,
    },
    /// Capabilities.
    #[error("missing capabilities: {}; run as root, or grant them (securityContext.capabilities.add in a pod, AmbientCapabilities in systemd)", .0.join(", "))]
    Capabilities(Vec<&'static str>),
    /// `--bpf-root` is not on a bpffs.
    #[error("{} is not on a BPF file system; mount one (mount -t bpf bpf /sys/fs/bpf) or give another --bpf-root", .0.display())]
    BpfFs(PathBuf),
    /// The bpffs cannot be written.
    #[error("the BPF file system of {} is read-only; remount it (mount -o remount,rw /sys/fs/bpf) or give another --bpf-root", root.display())]
    ReadOnly {
        /// The root.
        root: PathBuf,
        /// What was answered.
        source: io::Error,
    },
    /// `--cgroup-root` is not a cgroup of version 2.
    #[error("{} is not a cgroup of version 2; mount one (mount -t cgroup2 none /sys/fs/cgroup), give its path with --cgroup-root, or use --socket-lb=off", .0.display())]
    Cgroup(PathBuf),
    /// The kernel tells no types.
    #[error(
        "the kernel has no type information (/sys/kernel/btf/vmlinux); it must be built with CONFIG_DEBUG_INFO_BTF"
    )]
    Btf,
}

/// Checks everything.
///
/// # Errors
/// The first thing that is missing, the most fundamental one first.
pub fn check(settings: &Settings) -> Result<(), Missing> {
    kernel()?;
    capabilities()?;
    match settings.socket_road {
        SocketRoad::On | SocketRoad::Host => cgroup_root(&settings.cgroup_root)?,
        // Without a cgroup, `auto` is served by packets.
        SocketRoad::Auto | SocketRoad::Off => {}
    }
    if !Path::new(TYPES).exists() {
        return Err(Missing::Btf);
    }
    // Last, because it is checked by making the directory.
    bpf_root(&settings.bpf_root)
}

/// Whether the kernel is recent enough.
///
/// # Errors
/// [`Missing::Kernel`].
pub fn kernel() -> Result<(), Missing> {
    let found = rustix::system::uname().release().to_string_lossy().into_owned();
    if is_recent(&found) { Ok(()) } else { Err(Missing::Kernel { found }) }
}

/// `release` is that of 6.1 or newer; what cannot be read is given a try.
fn is_recent(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (6, 1),
        _ => true,
    }
}

/// Whether this process may do what it is for.
///
/// # Errors
/// [`Missing::Capabilities`].
pub fn capabilities() -> Result<(), Missing> {
    let held = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let needed = [
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        // To hear of pods' addresses from their own namespaces (`NETLINK_LISTEN_ALL_NSID`).
        (CapabilitySet::NET_BROADCAST, "CAP_NET_BROADCAST"),
        (CapabilitySet::PERFMON, "CAP_PERFMON"),
    ];
    // CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON for bpf(2).
    let admin = held.contains(CapabilitySet::SYS_ADMIN);
    let of_admin = CapabilitySet::BPF | CapabilitySet::PERFMON;
    let granted = |one| held.contains(one) || admin && of_admin.contains(one);
    let missing: Vec<_> =
        needed.into_iter().filter(|(one, _)| !granted(*one)).map(|(_, name)| name).collect();
    if missing.is_empty() { Ok(()) } else { Err(Missing::Capabilities(missing)) }
}

/// Whether `root`, or where it would be made, is on a BPF file system.
#[must_use]
pub fn on_bpffs(root: &Path) -> bool {
    statfs(existing(root)).is_ok_and(|fs| fs.f_type as u32 == BPF_FS)
}

fn existing(root: &Path) -> &Path {
    root.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"))
}

fn bpf_root(root: &Path) -> Result<(), Missing> {
    let existing = existing(root);
    if !on_bpffs(root) {
        return Err(Missing::BpfFs(root.into()));
    }
    let read_only = |source| Missing::ReadOnly { root: root.into(), source };
    if statvfs(existing).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return Err(read_only(io::ErrorKind::ReadOnlyFilesystem.into()));
    }
    fs::create_dir_all(root).map_err(read_only)
}

fn cgroup_root(root: &Path) -> Result<(), Missing> {
    let is_cgroup2 = statfs(root).is_ok_and(|fs| fs.f_type as u32 == CGROUP2_FS);
    if is_cgroup2 { Ok(()) } else { Err(Missing::Cgroup(root.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_6_1_are_too_old() {
        for (release, recent) in [
            ("6.1.0-13-amd64", true),
            ("6.18.44", true),
            ("7.0-rc1", true),
            ("6.0.19", false),
            ("5.15.0-119-generic", false),
            ("odd", true),
        ] {
            assert_eq!(is_recent(release), recent, "{release}");
        }
        let text = Missing::Kernel { found: "5.15.0".into() }.to_string();
        assert_eq!(text, "this kernel is 5.15.0; Sluice needs Linux 6.1 or newer");
    }
}
