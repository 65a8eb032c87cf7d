//! One agent a root, nobody cut off by its start, and nothing left after a cleanup.

use std::{
    net::TcpListener,
    process::Command,
    time::{Duration, Instant},
};

use proxy_agent::kernel::{
    Error, Kernel,
    cleanup::{Farewell, Removed, cleanup},
    drain::Drained,
    pins,
};

use crate::stage::on_a_node;

#[test]
fn a_second_agent_on_the_same_root_is_told_who_was_first() {
    on_a_node(|stage| {
        let first = stage.open();
        let second = Kernel::open(&stage.settings);
        let pid = std::process::id() as i32;
        assert!(matches!(&second, Err(Error::Locked { pid: holder, .. }) if *holder == pid), "{second:?}");
        let refused = cleanup(&stage.settings.bpf_root, &stage.settings.run_root, Farewell::AtOnce);
        assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
        drop(first);
        drop(stage.open());
    });
}

#[test]
fn before_the_first_plan_every_connection_passes() {
    on_a_node(|stage| {
        let _kernel = stage.open();
        let procs = stage.settings.cgroup_root.join("cgroup.procs");
        for at in ["127.0.0.1", "::1"] {
            let server = TcpListener::bind((at, 0)).unwrap();
            let port = server.local_addr().unwrap().port();
            let script = format!("echo $$ >{}; exec 3<>/dev/tcp/{at}/{port}", procs.display());
            let output = Command::new("bash").args(["-c", &script]).output().unwrap();
            assert!(output.status.success(), "{at}: {}", String::from_utf8_lossy(&output.stderr));
        }
    });
}

#[test]
fn a_cleanup_leaves_nothing_and_can_be_repeated() {
    on_a_node(|stage| {
        drop(stage.open());
        let (bpf_root, run_root) = (stage.settings.bpf_root.clone(), stage.settings.run_root.clone());
        let maps = proxy_common::maps::SPECS.len();
        let clean = || cleanup(&bpf_root, &run_root, Farewell::AtOnce).unwrap();
        assert_eq!(clean(), Removed { links: 9, maps, drained: None });
        assert!(!bpf_root.exists());
        assert_eq!(std::fs::read_dir(&run_root).map_or(0, Iterator::count), 0);
        assert_eq!(clean(), Removed::default());
        let gone = pins::open(&bpf_root).unwrap_err();
        assert!(gone.to_string().contains("cannot open the pinned map"), "{gone}");
    });
}

#[test]
fn a_cleanup_removes_what_agents_of_other_map_layouts_have_left() {
    on_a_node(|stage| {
        let (bpf_root, run_root) = (stage.settings.bpf_root.clone(), stage.settings.run_root.clone());
        drop(stage.open());
        let ours = bpf_root.join(format!("v{}", proxy_common::maps::LAYOUT_VERSION));
        let theirs = bpf_root.join("v9999");
        std::fs::rename(&ours, &theirs).unwrap();
        // A hook that this version does not know.
        std::fs::rename(theirs.join("links/connect4-cgroup"), theirs.join("links/unheard-of")).unwrap();
        let refused = cleanup(&bpf_root, &run_root, Farewell::Drain(Duration::ZERO)).unwrap_err();
        assert!(refused.to_string().contains("map layout 9999 serves here"), "{refused}");
        assert!(theirs.exists());
        let maps = proxy_common::maps::SPECS.len();
        let removed = cleanup(&bpf_root, &run_root, Farewell::AtOnce).unwrap();
        assert_eq!(removed, Removed { links: 9, maps, drained: None });
        assert!(!bpf_root.exists());
    });
}

#[test]
fn a_drain_where_nothing_is_translated_ends_at_once() {
    on_a_node(|stage| {
        drop(stage.open());
        let (bpf_root, run_root) = (&stage.settings.bpf_root, &stage.settings.run_root);
        let began = Instant::now();
        let removed = cleanup(bpf_root, run_root, Farewell::Drain(Duration::from_secs(3_600))).unwrap();
        assert_eq!(removed.drained, Some(Drained::default()));
        assert!(!bpf_root.exists() && began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        let again = cleanup(bpf_root, run_root, Farewell::Drain(Duration::from_secs(3_600))).unwrap();
        assert_eq!(again, Removed { drained: Some(Drained::default()), ..Removed::default() });
    });
}
