//! What somebody else does to the pins, links and maps about the node is put right and counted; what nobody touched is not.

use std::collections::BTreeSet;

use aya::programs::{SchedClassifier, TcAttachType};
use proxy_agent::kernel::{
    Kernel, Topology, netlink,
    pins::{self, Pins},
};
use proxy_common::{Addr4, Address as _, DeviceKind};

use crate::stage::{Stage, eventually, on_a_node, run};

/// Follows the namespace until a pod's device is served.
pub(crate) fn served(stage: &Stage, kernel: &mut Kernel) -> Topology {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut topology = netlink::follow().await.unwrap();
        loop {
            let seen = topology.borrow_and_update().clone();
            let errors = kernel.follow(&seen, &[]);
            assert!(errors.is_empty(), "{errors:?}");
            if stage.pins("links").iter().any(|pin| pin.starts_with("to_pod")) && !seen.addresses.is_empty() {
                return seen;
            }
            let next = tokio::time::timeout(std::time::Duration::from_secs(10), topology.changed()).await;
            next.unwrap().unwrap();
        }
    })
}

pub(crate) fn audited(kernel: &mut Kernel, topology: &Topology) -> String {
    let (repairs, errors) = kernel.audit(topology, &[], None);
    assert!(errors.is_empty(), "{errors:?}");
    repairs.to_string()
}

#[test]
fn an_audit_puts_pins_links_and_the_maps_about_the_node_right_and_says_where() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let pod = stage.pod("pod0");
        run(&["ip", "addr", "add", "10.0.0.1/32", "dev", "pod0"]);
        let topology = served(stage, &mut kernel);
        assert_eq!(audited(&mut kernel, &topology), "", "nobody has touched anything");
        let links = || -> BTreeSet<_> {
            Pins::below(&stage.settings.bpf_root).links().unwrap().into_iter().map(|link| link.path).collect()
        };
        let before = links();
        for link in &before {
            std::fs::remove_file(link).unwrap();
        }
        // The kernel ends a link a moment after its last name is gone; until then the program is still there.
        for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
            eventually("nothing is attached", || {
                SchedClassifier::query_tcx("pod0", hook).unwrap().1.is_empty().then_some(())
            });
        }
        assert_eq!(audited(&mut kernel, &topology), format!("links {}", before.len()));
        assert_eq!(links(), before, "they are made anew");
        for link in Pins::below(&stage.settings.bpf_root).links().unwrap() {
            let facts = pins::link_facts(&link).unwrap();
            assert!(facts.ifindex == pod || facts.cgroup != 0, "{link:?}: {facts:?}");
        }
        let maps = Pins::below(&stage.settings.bpf_root);
        for name in ["frontends4", "flows6", "policy", "connected", "counters", "notices"] {
            std::fs::remove_file(maps.map(name)).unwrap();
        }
        assert_eq!(audited(&mut kernel, &topology), "pins 6");
        let foreign = Addr4::from_ip("192.0.2.99".parse().unwrap()).unwrap();
        kernel.maps().devices.put(&4_711, &DeviceKind::UPLINK).unwrap();
        kernel.maps().devices.put(&pod, &DeviceKind::UPLINK).unwrap();
        kernel.maps().v4.local_addrs.put(&foreign, &1).unwrap();
        let own = Addr4::from_ip("10.0.0.1".parse().unwrap()).unwrap();
        kernel.maps().v4.local_addrs.remove(&own).unwrap();
        assert_eq!(audited(&mut kernel, &topology), "devices 2, localaddrs4 2");
        assert_eq!(kernel.maps().devices.entries().unwrap(), [(pod, DeviceKind::POD)]);
        assert_eq!(kernel.maps().v4.local_addrs.entries().unwrap(), [(own, pod)]);
        assert_eq!(audited(&mut kernel, &topology), "");
    });
}
