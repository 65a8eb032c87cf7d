//! Devices come and go; programs follow them, and other people's programs stay.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use aya::programs::{SchedClassifier, TcAttachType};
use proxy_agent::kernel::cleanup::{Farewell, cleanup};
use proxy_agent::kernel::{
    Kernel, PodDevices, SocketRoad, clsact,
    devices::{Devices, Fastening},
    filters::Filters,
    hook::{Hook, Side},
    load::Programs,
    netlink,
    pins::{self, PinnedLink, Pins},
    topology::{IfIndex, Role},
};
use proxy_common::DeviceKind;

use crate::stage::{Stage, eventually, index, on_a_node, run};

/// Follows the namespace until the pins of links to devices are `wanted`.
fn follow(stage: &Stage, kernel: &mut Kernel, node: &[IpAddr], wanted: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut topology = netlink::follow().await.unwrap();
        let wanted: BTreeSet<_> = wanted.iter().cloned().collect();
        loop {
            let seen = topology.borrow_and_update().clone();
            let errors = kernel.follow(&seen, node);
            assert!(errors.is_empty(), "{errors:?}");
            if tc_pins(stage) == wanted {
                return;
            }
            let next = tokio::time::timeout(std::time::Duration::from_secs(10), topology.changed()).await;
            assert!(next.is_ok(), "{:?} instead of {wanted:?} with {seen:?}", tc_pins(stage));
        }
    });
}

fn tc_pins(stage: &Stage) -> BTreeSet<String> {
    stage.pins("links").into_iter().filter(|pin| !pin.ends_with("-cgroup")).collect()
}

fn pins_of(index: u32, hooks: [&str; 2]) -> [String; 2] {
    hooks.map(|hook| format!("{hook}-{index}"))
}

const POD: [&str; 2] = ["from_pod", "to_pod"];
const WIRE: [&str; 2] = ["from_wire", "to_wire"];

fn facts(stage: &Stage, pin: &str) -> proxy_agent::kernel::sys::LinkFacts {
    let links = Pins::below(&stage.settings.bpf_root).links().unwrap();
    let of = |link: &&PinnedLink| link.path.ends_with(pin);
    pins::link_facts(links.iter().find(of).unwrap()).unwrap()
}

#[test]
fn pods_and_uplinks_get_their_programs_and_the_maps_know_them() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let pod = stage.pod("pod0");
        let uplink = stage.pod("eth0");
        run(&["ip", "addr", "add", "192.0.2.1/24", "dev", "eth0"]);
        run(&["ip", "addr", "add", "fd00::1/64", "dev", "eth0", "nodad"]);
        run(&["ip", "route", "add", "default", "via", "192.0.2.254"]);
        follow(stage, &mut kernel, &[], &[pins_of(pod, POD), pins_of(uplink, WIRE)].concat());
        let devices: BTreeSet<_> = kernel.maps().devices.entries().unwrap().into_iter().collect();
        assert_eq!(devices, BTreeSet::from([(pod, DeviceKind::POD), (uplink, DeviceKind::UPLINK)]));
        let four: Vec<_> = kernel.maps().v4.local_addrs.entries().unwrap();
        assert_eq!(
            four.iter().map(|(ip, dev)| (ip.to_string(), *dev)).collect::<Vec<_>>(),
            [("192.0.2.1".into(), uplink)]
        );
        let six = kernel.maps().v6.local_addrs.entries().unwrap();
        assert!(six.iter().any(|(ip, dev)| ip.to_string() == "fd00::1" && *dev == uplink), "{six:?}");
    });
}

#[test]
fn a_device_that_becomes_the_uplink_changes_its_programs() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let device = stage.pod("eth0");
        follow(stage, &mut kernel, &[], &pins_of(device, POD));
        run(&["ip", "addr", "add", "192.0.2.1/24", "dev", "eth0"]);
        follow(stage, &mut kernel, &["192.0.2.1".parse().unwrap()], &pins_of(device, WIRE));
    });
}

#[test]
fn a_new_device_is_served_at_once_and_one_that_is_gone_is_forgotten() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut topology = netlink::follow().await.unwrap();
            let _ = kernel.follow(&topology.borrow_and_update().clone(), &[]);
            assert_eq!(tc_pins(stage), BTreeSet::new());
            let pod = stage.pod("pod0");
            let expected = BTreeSet::from(pins_of(pod, POD));
            for (change, expected) in [("", expected), ("del", BTreeSet::new())] {
                if change == "del" {
                    run(&["ip", "link", "del", "pod0"]);
                }
                while tc_pins(stage) != expected {
                    let next = topology.changed();
                    tokio::time::timeout(std::time::Duration::from_secs(10), next).await.unwrap().unwrap();
                    let seen = topology.borrow_and_update().clone();
                    assert!(kernel.follow(&seen, &[]).is_empty());
                }
            }
        });
        assert!(kernel.maps().devices.entries().unwrap().is_empty());
    });
}

#[test]
fn a_device_that_comes_back_under_the_same_number_is_served_again() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let peer = stage.peer();
        let add = || {
            run(&[
                "ip", "link", "add", "pod0", "index", "77", "type", "veth", "peer", "name", "p", "netns",
                &peer,
            ]);
        };
        add();
        follow(stage, &mut kernel, &[], &pins_of(77, POD));
        let before = facts(stage, "from_pod-77");
        run(&["ip", "link", "del", "pod0"]);
        eventually("the link is severed", || (facts(stage, "from_pod-77").ifindex == 0).then_some(()));
        add();
        follow(stage, &mut kernel, &[], &pins_of(77, POD));
        let after = facts(stage, "from_pod-77");
        assert_ne!(after.id, before.id);
        assert_eq!(after.ifindex, 77);

        // The same while no agent runs.
        drop(kernel);
        run(&["ip", "link", "del", "pod0"]);
        eventually("the link is severed", || (facts(stage, "from_pod-77").ifindex == 0).then_some(()));
        add();
        let mut kernel = stage.open();
        follow(stage, &mut kernel, &[], &pins_of(77, POD));
        assert_eq!(facts(stage, "to_pod-77").ifindex, 77);
    });
}

#[test]
fn a_restart_replaces_the_programs_of_devices_before_it_looks_at_any() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let pod = stage.pod("pod0");
        follow(stage, &mut kernel, &[], &pins_of(pod, POD));
        let before = facts(stage, &format!("from_pod-{pod}"));
        drop(kernel);
        let mut kernel = stage.open();
        let after = facts(stage, &format!("from_pod-{pod}"));
        assert_eq!(after.id, before.id);
        assert_ne!(after.program, before.program);
        follow(stage, &mut kernel, &[], &pins_of(pod, POD));
        assert_eq!(facts(stage, &format!("from_pod-{pod}")), after);
    });
}

#[test]
fn a_strangers_program_stays_and_runs_behind_ours() {
    on_a_node(|stage| {
        let pod = stage.pod("pod0");
        let mut stranger = aya::EbpfLoader::new().load(proxy_agent::kernel::object::BYTES).unwrap();
        let theirs: &mut SchedClassifier = stranger.program_mut("empty").unwrap().try_into().unwrap();
        theirs.load().unwrap();
        theirs.attach("pod0", TcAttachType::Ingress).unwrap();
        let names = || -> Vec<String> {
            let (_, programs) = SchedClassifier::query_tcx("pod0", TcAttachType::Ingress).unwrap();
            programs.iter().map(|program| program.name_as_str().unwrap().to_owned()).collect()
        };
        let mut kernel = stage.open();
        follow(stage, &mut kernel, &[], &pins_of(pod, POD));
        // Ours is the one ahead of `from_pod`.
        assert_eq!(names(), ["strangers", "empty"]);
        drop(kernel);
        drop(stage.open());
        assert_eq!(names(), ["strangers", "empty"]);
        cleanup(&stage.settings.bpf_root, &stage.settings.run_root, Farewell::AtOnce).unwrap();
        assert_eq!(names(), ["empty"]);
        assert_eq!(index("pod0"), pod);
    });
}

#[test]
fn kernels_without_tcx_are_served_by_filters_that_are_replaced_and_removed() {
    on_a_node(|stage| {
        let kernel = stage.open();
        stage.pod("pod0");
        let filters = |side: &str| run(&["tc", "filter", "show", "dev", "pod0", side]);
        let attach = |programs: &mut Programs| {
            clsact::attach(Hook::FromPod, "pod0", programs).unwrap();
            clsact::attach(Hook::ToPod, "pod0", programs).unwrap();
        };
        let mut programs = Programs::load(&kernel.maps().pins, &stage.settings, SocketRoad::On).unwrap();
        attach(&mut programs);
        drop(programs);
        let first = filters("ingress");
        assert!(first.contains("pref 81 bpf") && first.contains("from_pod direct-action"), "{first}");
        let mut programs = Programs::load(&kernel.maps().pins, &stage.settings, SocketRoad::On).unwrap();
        attach(&mut programs);
        let second = filters("ingress");
        assert_eq!(second.matches("direct-action").count(), 1, "replaced, not added: {second}");
        assert_ne!(first, second, "another program");
        assert_eq!(filters("egress").matches("to_pod direct-action").count(), 1);
        clsact::detach_all();
        assert_eq!((filters("ingress"), filters("egress")), (String::new(), String::new()));
    });
}

#[test]
fn kernels_without_tcx_get_back_the_filters_that_are_missing_and_lose_those_that_nobody_wants() {
    on_a_node(|stage| {
        stage.settings.socket_road = SocketRoad::Off;
        let kernel = stage.open();
        let pod = IfIndex(stage.pod("pod0"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let topology = runtime.block_on(async { netlink::follow().await.unwrap().borrow().clone() });
        let mut programs = Programs::load(&kernel.maps().pins, &stage.settings, SocketRoad::Off).unwrap();
        let follow = |devices: &mut Devices, role: Option<Role>, programs: &mut Programs| {
            let roles: BTreeMap<_, _> = role.map(|role| (pod, role)).into_iter().collect();
            let errors = devices.follow(&roles, &topology, &PodDevices::Unnamed, kernel.maps(), programs);
            assert!(errors.is_empty(), "{errors:?}");
        };
        // The names of the programs, inwards and outwards.
        let there = || {
            let mut filters = Filters::open().unwrap();
            [Side::Ingress, Side::Egress].map(|side| Some(filters.at(pod, side).unwrap()?.hook.name()))
        };
        let mut devices = Devices::fastened(Fastening::Filters);
        follow(&mut devices, Some(Role::Pod), &mut programs);
        assert_eq!(there(), POD.map(Some));
        assert_eq!(devices.doubt(kernel.maps(), &programs).unwrap(), 0, "nobody has touched anything");
        let del = ["tc", "filter", "del", "dev", "pod0", "egress"];
        for (done, missing, left) in [
            (&del[..], 1, [Some("from_pod"), None]),
            (&["tc", "qdisc", "del", "dev", "pod0", "clsact"], 2, [None, None]),
        ] {
            run(done);
            assert_eq!(there(), left);
            assert_eq!(devices.doubt(kernel.maps(), &programs).unwrap(), missing);
            follow(&mut devices, Some(Role::Pod), &mut programs);
            assert_eq!(there(), POD.map(Some));
            assert_eq!(devices.doubt(kernel.maps(), &programs).unwrap(), 0);
        }
        let mut others = Programs::load(&kernel.maps().pins, &stage.settings, SocketRoad::Off).unwrap();
        clsact::attach(Hook::ToPod, "pod0", &mut others).unwrap();
        assert_eq!(devices.doubt(kernel.maps(), &programs).unwrap(), 1, "another's program");
        // Another run, for which the device is something else, and one for which it is nothing.
        let mut devices = Devices::fastened(Fastening::Filters);
        follow(&mut devices, Some(Role::Uplink), &mut others);
        assert_eq!(there(), WIRE.map(Some));
        let mut devices = Devices::fastened(Fastening::Filters);
        follow(&mut devices, None, &mut others);
        assert_eq!(there(), [None, None]);
    });
}
