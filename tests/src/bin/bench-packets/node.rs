//! The node that is measured: devices, a Service with and one without backends, and entries of flows.

use std::fs;

use proxy_common::{Address as _, DeviceKind, Flow, FlowFlags, FlowKey, Port, Proto, maps::MapType};
use tests::dataplane::{Dataplane, Named, config, endpoint, ip};

/// Index of the pod's veth.
pub(crate) const POD: u32 = 10;
const UPLINK: u32 = 20;

/// Addresses of one family.
pub(crate) struct Names {
    pub(crate) client: &'static str,
    pub(crate) vip: &'static str,
    pub(crate) empty_vip: &'static str,
    pub(crate) backend: &'static str,
    pub(crate) stranger: &'static str,
    pub(crate) gateway: &'static str,
}

/// IPv4.
pub(crate) const NAMES4: Names = Names {
    client: "10.244.1.2",
    vip: "10.96.0.10:80",
    empty_vip: "10.96.0.11:80",
    backend: "10.244.2.3:8080",
    stranger: "198.51.100.1:80",
    gateway: "10.244.2.4",
};
/// IPv6.
pub(crate) const NAMES6: Names = Names {
    client: "[fd00:244:1::2]",
    vip: "[fd00:96::10]:80",
    empty_vip: "[fd00:96::11]:80",
    backend: "[fd00:244:2::3]:8080",
    stranger: "[2001:db8:1::1]:80",
    gateway: "[fd00:244:2::4]",
};

/// A node with a pod behind one veth, an uplink, one Service with and one without backends.
pub(crate) fn node(names: &Names, entries: u32) -> Dataplane {
    let mut dataplane = Dataplane::with_entries(config(), entries);
    for (name, index) in [("pod", POD), ("uplink", UPLINK)] {
        ip(&format!("link add {name} index {index} type veth peer name {name}-peer"));
        ip(&format!("link set {name} up"));
        ip(&format!("link set {name}-peer up"));
    }
    for file in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/{file}"), "1").expect("a namespace has its own switches");
    }
    let local = names.backend.rsplit_once(':').expect("a port").0.trim_matches(['[', ']']);
    let remote = names.gateway.trim_matches(['[', ']']);
    for (to, device) in [(local, "pod"), (remote, "uplink")] {
        let family = if to.contains(':') { "-6" } else { "-4" };
        ip(&format!("{family} route add {to} dev {device}"));
        ip(&format!("neigh add {to} lladdr 02:00:00:00:00:99 dev {device} nud permanent"));
    }
    dataplane.add_device(POD, DeviceKind::POD);
    dataplane.add_device(UPLINK, DeviceKind::UPLINK);
    for proto in [Proto::TCP, Proto::UDP] {
        dataplane.serve(proto, names.vip, &[names.backend], |_| {});
        dataplane.serve(proto, names.empty_vip, &[], |_| {});
    }
    dataplane
}

/// An entry whose translation is its own tuple, so that a run leaves the packet as it found it.
pub(crate) fn add_identity<F: Named>(dataplane: &mut Dataplane, from: &str, to: &str)
where
    FlowKey<F::Addr>: MapType,
    Flow<F::Addr>: MapType,
{
    let ((src, sport), (dst, dport)): ((F::Addr, Port), (F::Addr, Port)) =
        (endpoint::<F>(from), endpoint::<F>(to));
    debug_assert!(src != F::Addr::from_padded([0; 4]));
    let flow = Flow {
        src,
        dst,
        sport,
        dport,
        addr_delta: 0x1234_5678,
        port_delta: 0x4321,
        flags: FlowFlags::default(),
        ..Flow::default()
    };
    dataplane.add_flow::<F>(FlowKey::new(src, sport, dst, dport, Proto::TCP), flow);
}
