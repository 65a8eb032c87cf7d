//! What the machine itself must have: rights, kernel, mounts, small tools.

use std::fs;

use super::{Remedy, State};
use crate::{child, kernels};

/// The oldest kernel that Sluice supports.
const KERNEL: (u32, u32) = (6, 1);

pub(super) fn root() -> State {
    // SAFETY: geteuid takes nothing, touches no memory and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        return State::Present("effective user 0".into());
    }
    let why = "programs are loaded and namespaces made by root only";
    State::Missing(why.into(), Remedy::Hand("run it with sudo -E, or in a root shell".into()))
}

pub(super) fn kernel() -> State {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL {
        return State::Present(format!("Linux {}", release.trim()));
    }
    let (major, minor) = KERNEL;
    let why = format!("Linux {} is older than {major}.{minor}", release.trim());
    State::Missing(why, Remedy::Hand("boot a newer kernel; Debian 12 and Ubuntu 24.04 have one".into()))
}

pub(super) fn btf() -> State {
    let path = "/sys/kernel/btf/vmlinux";
    if fs::exists(path).unwrap_or(false) {
        return State::Present(path.into());
    }
    let remedy = "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (all kernels of Debian and Ubuntu are)";
    State::Missing(format!("no {path}"), Remedy::Hand(remedy.into()))
}

pub(super) fn cgroup2() -> State {
    match mount_point("cgroup2") {
        Some(path) => State::Present(path),
        None => State::Missing(
            "no cgroup2 file system is mounted".into(),
            Remedy::Hand(
                "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified".into(),
            ),
        ),
    }
}

pub(super) fn bpffs() -> State {
    match mount_point("bpf") {
        Some(path) => State::Present(path),
        None => State::Missing(
            "no bpf file system is mounted".into(),
            Remedy::command("mounting bpffs", &["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"]),
        ),
    }
}

pub(super) fn iproute2() -> State {
    match child::ask("ip", &["-V"]) {
        Some(version) => State::Present(version),
        None => State::Missing("no `ip`".into(), Remedy::Apt(vec!["iproute2".into()])),
    }
}

/// What the specs run in pods and on nodes, where a container image would bring it along.
pub(super) fn pod_tools() -> State {
    let tools = [
        ("nc", "netcat-openbsd"),
        ("curl", "curl"),
        ("nft", "nftables"),
        ("conntrack", "conntrack"),
        ("dig", "bind9-dnsutils"),
        ("iperf", "iperf"),
    ];
    let absent = tools.iter().filter(|(tool, _)| child::ask("which", &[tool]).is_none());
    let absent: Vec<String> = absent.map(|(_, package)| (*package).to_owned()).collect();
    if absent.is_empty() {
        return State::Present("nc, curl, nft, conntrack, dig, iperf".into());
    }
    State::Missing(format!("no {}", absent.join(", ")), Remedy::Apt(absent))
}

/// What kube-proxy writes its rules with.
pub(super) fn rule_tools() -> State {
    let tools = [
        ("nft", "nftables"),
        ("xtables-legacy-multi", "iptables"),
        ("ipset", "ipset"),
        ("conntrack", "conntrack"),
    ];
    let absent = tools.iter().filter(|(tool, _)| child::ask("which", &[tool]).is_none());
    let absent: Vec<String> = absent.map(|(_, package)| (*package).to_owned()).collect();
    if absent.is_empty() {
        return State::Present("nft, both iptables, ipset, conntrack".into());
    }
    State::Missing(format!("no {}", absent.join(", ")), Remedy::Apt(absent))
}

/// A browser without a screen.
pub(super) fn browser() -> State {
    match child::ask("chromium", &["--version"]) {
        Some(version) => State::Present(version),
        None => State::Missing("no `chromium`".into(), Remedy::Apt(vec!["chromium".into()])),
    }
}

/// What compiles the cryptography's C and assembly for both platforms, and runs the other one's programs.
pub(super) fn image_tools() -> State {
    let tools =
        [("musl-gcc", "musl-tools"), ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"), ("gzip", "gzip")];
    let is_missing = |tool: &str| child::ask("which", &[tool]).is_none();
    let absent = tools.iter().filter(|(tool, _)| is_missing(tool));
    let mut absent: Vec<String> = absent.map(|(_, package)| (*package).to_owned()).collect();
    let other = if std::env::consts::ARCH == "x86_64" { "qemu-aarch64" } else { "qemu-x86_64" };
    if is_missing(other) && is_missing(&format!("{other}-static")) {
        absent.push("qemu-user".into());
    }
    if absent.is_empty() {
        return State::Present(format!("compilers for amd64 and arm64, {other}, gzip"));
    }
    State::Missing(format!("no {}", absent.join(", ")), Remedy::Apt(absent))
}

/// What boots another kernel, and what takes its package apart.
pub(super) fn emulator() -> State {
    if std::env::consts::ARCH != "x86_64" {
        let remedy = "use a machine with x86-64; the programs themselves run on others, too";
        return State::Missing("only kernels for x86-64 are tried".into(), Remedy::Hand(remedy.into()));
    }
    if child::ask("which", &["apt-get"]).is_none() {
        let remedy = "run it on Debian or Ubuntu; kernels are taken from their packages";
        return State::Missing("no apt-get".into(), Remedy::Hand(remedy.into()));
    }
    let tools = [
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("/usr/sbin/depmod", "kmod"),
        ("/usr/sbin/modprobe", "kmod"),
        ("dpkg-deb", "dpkg"),
        ("xz", "xz-utils"),
        ("zstd", "zstd"),
    ];
    let absent = tools.iter().filter(|(tool, _)| child::ask("which", &[tool]).is_none());
    let mut absent: Vec<String> = absent.map(|(_, package)| (*package).to_owned()).collect();
    if kernels::machine::busybox().is_none() {
        absent.push("busybox-static".into());
    }
    absent.dedup();
    if absent.is_empty() {
        return State::Present("QEMU, busybox, kmod, xz, zstd".into());
    }
    State::Missing(format!("no {}", absent.join(", ")), Remedy::Apt(absent))
}

pub(super) fn go() -> State {
    let module = fs::read_to_string(child::root().join("tests/cluster/go.mod")).unwrap_or_default();
    let wanted = module.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or("1.26").trim().to_owned();
    // A newer `go` line would make an old Go download a toolchain: ask the one that is installed.
    let Some(version) = child::ask("env", &["GOTOOLCHAIN=local", "go", "env", "GOVERSION"]) else {
        let remedy = format!("install Go {wanted} or newer: https://go.dev/doc/install");
        return State::Missing("no `go` in PATH".into(), Remedy::Hand(remedy));
    };
    let numbers = |text: &str| text.split('.').map_while(|part| part.parse().ok()).collect::<Vec<u32>>();
    if numbers(version.trim_start_matches("go")) >= numbers(&wanted) {
        return State::Present(version);
    }
    let remedy = format!("install Go {wanted} or newer: https://go.dev/doc/install");
    State::Missing(format!("{version} is older than {wanted}"), Remedy::Hand(remedy))
}

/// Installs cargo-deny where it is not. Unoptimised: it is built once and runs for seconds. One version, so that a new
/// one's opinions are a commit of ours.
pub(crate) const INSTALL_DENY: &[&str] =
    &["bash", "-c", "cargo deny --version || cargo install --quiet --locked --debug cargo-deny@0.20.2"];

pub(super) fn deny() -> State {
    // Asked through cargo, which looks where it installs.
    match child::ask("cargo", &["deny", "--version"]) {
        Some(version) => State::Present(version),
        None => State::Missing("not installed".into(), Remedy::command("building cargo-deny", INSTALL_DENY)),
    }
}

/// Where a file system of this type is mounted; the first of several.
fn mount_point(kind: &str) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, found) = (fields.next()?, fields.next()?);
        (found == kind).then(|| path.to_owned())
    })
}
