//! A node, two pods and an outside client, joined by veths as a point-to-point CNI does it.

use std::{
    net::SocketAddr,
    sync::mpsc::{Sender, channel},
    thread,
};

use aya::{
    programs::{
        LinkOrder, TcAttachType,
        tc::{self, NlOptions, SchedClassifierLinkId, TcAttachOptions},
    },
    util::KernelVersion,
};
use proxy_common::{ClientRule, DeviceKind, Frontend, Proto, Reason};
use tests::dataplane::{Dataplane, config, ip};

/// The addresses of one family.
pub(super) struct Names {
    pub(super) node: &'static str,
    pub(super) gateway: &'static str,
    pub(super) pod_a: &'static str,
    pub(super) pod_b: &'static str,
    pub(super) outside: &'static str,
    pub(super) services: &'static str,
    /// To pod B.
    pub(super) vip: &'static str,
    /// To pod A.
    pub(super) hairpin: &'static str,
    /// To a process of the node.
    pub(super) host: &'static str,
    /// To a process outside of the cluster.
    pub(super) remote: &'static str,
    /// To nobody.
    pub(super) empty: &'static str,
    pub(super) host_bits: u8,
    pub(super) link_bits: u8,
    /// Makes an address usable at once.
    pub(super) nodad: &'static str,
}

pub(super) const FAMILIES: [Names; 2] = [
    Names {
        node: "192.168.0.1",
        gateway: "10.244.1.1",
        pod_a: "10.244.1.2",
        pod_b: "10.244.1.3",
        outside: "192.168.0.2",
        services: "10.96.0.0/16",
        vip: "10.96.0.10:80",
        hairpin: "10.96.0.11:80",
        host: "10.96.0.12:80",
        remote: "10.96.0.14:80",
        empty: "10.96.0.13:80",
        host_bits: 32,
        link_bits: 24,
        nodad: "",
    },
    Names {
        node: "fd00:168::1",
        gateway: "fd00:244:1::1",
        pod_a: "fd00:244:1::2",
        pod_b: "fd00:244:1::3",
        outside: "fd00:168::2",
        services: "fd00:96::/64",
        vip: "[fd00:96::10]:80",
        hairpin: "[fd00:96::11]:80",
        host: "[fd00:96::12]:80",
        remote: "[fd00:96::14]:80",
        empty: "[fd00:96::13]:80",
        host_bits: 128,
        link_bits: 64,
        nodad: " nodad",
    },
];

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace: a thread that lives in it and does what it is told.
pub(super) struct Namespace {
    jobs: Sender<Job>,
    pub(super) thread: i32,
}

impl Namespace {
    pub(super) fn new() -> Self {
        let (jobs, inbox) = channel::<Job>();
        let (report, thread) = channel();
        thread::spawn(move || {
            // SAFETY: only the namespace of this thread changes, no descriptor is shared or closed by it.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
                .expect("needs root");
            report.send(rustix::thread::gettid().as_raw_nonzero().get()).expect("the starter waits");
            for job in inbox {
                job();
            }
        });
        Self { jobs, thread: thread.recv().expect("the thread starts") }
    }

    /// Runs something in the namespace. A socket that it makes stays in there.
    pub(super) fn run<R: Send + 'static>(&self, job: impl FnOnce() -> R + Send + 'static) -> R {
        let (result, done) = channel();
        self.jobs
            .send(Box::new(move || {
                let _ = result.send(job());
            }))
            .expect("the thread lives");
        done.recv().expect("the job does not panic")
    }

    pub(super) fn ip(&self, words: String) {
        self.run(move || ip(&words));
    }
}

/// Its programs are another world's before and after: nothing passes a device of it when it is dropped.
pub(super) struct World {
    pub(super) dataplane: Dataplane,
    /// Of programs, by name.
    attached: Vec<(&'static str, SchedClassifierLinkId)>,
    pub(super) names: &'static Names,
    pub(super) pod_a: Namespace,
    pub(super) pod_b: Namespace,
    pub(super) outside: Namespace,
}

impl World {
    pub(super) fn new(names: &'static Names) -> Self {
        let dataplane = Dataplane::new(config());
        for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{file}"), "1").expect("a namespace has its own switches");
        }
        let [pod_a, pod_b, outside] = [(); 3].map(|()| Namespace::new());
        let mut world = Self { dataplane, attached: Vec::new(), names, pod_a, pod_b, outside };
        world.add_pods();
        world.add_uplink();
        world.serve();
        world
    }

    fn add_pods(&mut self) {
        let Names { gateway, pod_a, pod_b, host_bits, nodad, .. } = self.names;
        for (name, index, addr, namespace) in [("a", 10, pod_a, &self.pod_a), ("b", 11, pod_b, &self.pod_b)] {
            ip(&format!(
                "link add host-{name} index {index} type veth peer name eth0 netns {}",
                namespace.thread
            ));
            ip(&format!("addr add {gateway}/{host_bits} dev host-{name}{nodad}"));
            ip(&format!("link set host-{name} up"));
            ip(&format!("route add {addr} dev host-{name}"));
            namespace.ip("link set lo up".to_owned());
            namespace.ip("link set eth0 up".to_owned());
            namespace.ip(format!("addr add {addr}/{host_bits} dev eth0{nodad}"));
            namespace.ip(format!("route add {gateway} dev eth0"));
            namespace.ip(format!("route add default via {gateway} dev eth0"));
            self.dataplane.add_device(index, DeviceKind::POD);
            self.attached.extend(attach(&mut self.dataplane, &format!("host-{name}"), "from_pod", "to_pod"));
        }
    }

    fn add_uplink(&mut self) {
        let Names { node, outside, services, link_bits, nodad, .. } = self.names;
        ip(&format!("link add uplink index 20 type veth peer name eth0 netns {}", self.outside.thread));
        ip(&format!("addr add {node}/{link_bits} dev uplink{nodad}"));
        ip("link set uplink up");
        self.outside.ip("link set lo up".to_owned());
        self.outside.ip(format!("addr add {outside}/{link_bits} dev eth0{nodad}"));
        self.outside.ip("link set eth0 up".to_owned());
        self.outside.ip(format!("route add {services} via {node} dev eth0"));
        self.outside
            .ip(format!("route add {}/{} via {node} dev eth0", self.names.pod_a, self.names.host_bits));
        self.dataplane.add_device(20, DeviceKind::UPLINK);
        self.attached.extend(attach(&mut self.dataplane, "uplink", "from_wire", "to_wire"));
    }

    fn serve(&mut self) {
        let Names { node, pod_a, pod_b, outside, vip, hairpin, host, remote, empty, .. } = self.names;
        let at = |ip: &str| format!("{}*", SocketAddr::new(ip.parse().expect("an address"), 8080));
        let elsewhere = at(outside).trim_end_matches('*').to_owned();
        let backends = [
            (vip, vec![at(pod_b)]),
            (hairpin, vec![at(pod_a)]),
            (host, vec![at(node)]),
            (remote, vec![elsewhere]),
            (empty, vec![]),
        ];
        for proto in [Proto::TCP, Proto::UDP] {
            for (frontend, backends) in &backends {
                let backends: Vec<&str> = backends.iter().map(String::as_str).collect();
                let rules = |frontend: &mut Frontend| {
                    frontend.rules = [ClientRule::CLUSTER, ClientRule::MASQUERADE, ClientRule::MASQUERADE];
                };
                self.dataplane.serve(proto, frontend, &backends, rules);
            }
        }
    }

    /// The counters that say that a packet was lost.
    pub(super) fn losses(&self) -> Vec<(Reason, u64)> {
        use Reason::{FlowTableFull, Malformed, NoNodeAddress, NoSourcePort, RewriteFailed};
        let bad = [FlowTableFull, Malformed, NoNodeAddress, NoSourcePort, RewriteFailed];
        self.dataplane.counters().into_iter().filter(|(reason, _)| bad.contains(reason)).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Nobody gets the programs then, and who looks into the failure finds all of it.
        if thread::panicking() {
            return;
        }
        for (name, link) in self.attached.drain(..) {
            self.dataplane.program(name).detach(link).expect("what was attached can be detached");
        }
        // The kernel has seen the last packet of a device to its end when that is gone.
        for device in ["host-a", "host-b", "uplink"] {
            ip(&format!("link delete {device}"));
        }
    }
}

fn attach(
    dataplane: &mut Dataplane,
    device: &str,
    ingress: &'static str,
    egress: &'static str,
) -> [(&'static str, SchedClassifierLinkId); 2] {
    let has_tcx = KernelVersion::current().expect("the kernel has a version") >= KernelVersion::new(6, 6, 0);
    if !has_tcx {
        tc::qdisc_add_clsact(device).expect("the device takes the qdisc");
    }
    [(ingress, TcAttachType::Ingress), (egress, TcAttachType::Egress)].map(|(name, kind)| {
        let options = match has_tcx {
            true => TcAttachOptions::TcxOrder(LinkOrder::default()),
            false => TcAttachOptions::Netlink(NlOptions::default()),
        };
        let link = dataplane.program(name).attach_with_options(device, kind, options);
        (name, link.expect("the hook takes the program"))
    })
}
