//! What a node lacks is one error with its remedy, before anything is changed.

use std::path::PathBuf;

use proxy_agent::kernel::{Kernel, SocketRoad};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::stage::{Stage, on_a_node, run};

fn refusal(stage: &Stage) -> String {
    Kernel::open(&stage.settings).expect_err("refused").to_string()
}

#[test]
fn a_root_that_is_no_bpffs_is_refused() {
    on_a_node(|stage| {
        stage.settings.bpf_root = PathBuf::from("/proc/sluice");
        assert_eq!(
            refusal(stage),
            "/proc/sluice is not on a BPF file system; mount one (mount -t bpf bpf /sys/fs/bpf) or give another \
             --bpf-root"
        );
    });
}

#[test]
fn a_read_only_bpffs_is_refused() {
    on_a_node(|stage| {
        // SAFETY: a mount namespace of this thread alone; it shares no memory.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
        run(&["mount", "--make-rprivate", "/"]);
        let dir = std::env::temp_dir().join(format!("sluice-ro-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let point = dir.to_string_lossy().into_owned();
        run(&["mount", "-t", "bpf", "-o", "ro", "bpf", &point]);
        stage.settings.bpf_root = dir.join("sluice");
        let refused = refusal(stage);
        run(&["umount", &point]);
        std::fs::remove_dir(&dir).unwrap();
        assert_eq!(
            refused,
            format!(
                "the BPF file system of {point}/sluice is read-only; remount it (mount -o remount,rw /sys/fs/bpf) or \
                 give another --bpf-root"
            )
        );
    });
}

#[test]
fn a_cgroup_of_version_1_is_refused_where_sockets_must_be_served() {
    on_a_node(|stage| {
        let own = std::mem::replace(&mut stage.settings.cgroup_root, PathBuf::from("/proc"));
        let refused = refusal(stage);
        stage.settings.socket_road = SocketRoad::Auto;
        let road = stage.open().socket_road();
        stage.settings.cgroup_root = own;
        assert!(refused.starts_with("/proc is not a cgroup of version 2; mount one"), "{refused}");
        assert_eq!(road, SocketRoad::Off, "auto goes on without sockets");
    });
}

#[test]
fn missing_capabilities_are_named() {
    on_a_node(|stage| {
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: CapabilitySet::all(), inheritable: none };
        let all = rustix::thread::capabilities(None).unwrap();
        rustix::thread::set_capabilities(None, CapabilitySets { permitted: all.permitted, ..sets }).unwrap();
        let refused = refusal(stage);
        rustix::thread::set_capabilities(None, all).unwrap();
        assert!(
            refused.starts_with(
                "missing capabilities: CAP_BPF, CAP_NET_ADMIN, CAP_NET_BROADCAST, CAP_PERFMON; run as root"
            ),
            "{refused}"
        );
    });
}
