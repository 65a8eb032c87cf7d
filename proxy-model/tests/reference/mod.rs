//! A naive evaluator: from the facts alone, what happens to a client's new connection.
//!
//! Written for reading, not for speed, and from `service-semantics.md` rather than from the planner: it walks over
//! all Services for each question and shares no code with the crate beyond the facts. No segments, no ids, no keys.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proxy_common::{Port, Proto};
use proxy_model::fact::{
    Endpoint, EndpointSlice, Label, Node, Service, ServiceKind, ServicePort, SliceFamily, TrafficPolicy,
};
use proxy_model::settings::{LocalSource, Masquerade, NodePortAddresses, Serving, Settings};

/// Everything there is.
#[derive(Clone, Debug)]
pub struct Facts {
    pub settings: Settings,
    pub services: Vec<Service>,
    pub slices: Vec<EndpointSlice>,
    pub nodes: Vec<Node>,
    pub local_addresses: Vec<IpAddr>,
}

/// A connection that a client opens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Attempt {
    pub client: IpAddr,
    pub addr: IpAddr,
    pub port: Port,
    pub proto: Proto,
}

/// What becomes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// One of these, and whether it sees a node address as the source.
    Backends(BTreeMap<(IpAddr, Port), Seen>),
    /// Told at once.
    Reject,
    /// Silence.
    Drop,
    /// Not ours.
    Pass,
}

/// The source that a backend sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    Client,
    Node,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Way {
    ClusterIp,
    External,
    NodePort,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Pod,
    Node,
    Outside,
}

/// An endpoint with its conditions defaulted (item 13).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Merged {
    lives: bool,
    rank: u8,
    local: bool,
    zones: Vec<String>,
    nodes: Vec<String>,
    serves: bool,
    node: Option<String>,
    zone: Option<String>,
}

const READY: u8 = 3;
const DRAINING: u8 = 2;

impl Facts {
    /// What happens to the attempt.
    pub fn verdict(&self, attempt: Attempt) -> Verdict {
        let ours =
            || self.services.iter().filter_map(|s| Some((s, self.cluster_ip(s, attempt.addr.is_ipv4())?)));
        // Who serves the address: cluster addresses first, then external ones, then node ports (item 69); the
        // older Service, the lower name.
        let mut owners = Vec::new();
        for (service, cluster_ip) in ours() {
            for (index, port) in service.ports.iter().enumerate() {
                let is_repeated =
                    service.ports[..index].iter().any(|p| (&p.name, p.proto) == (&port.name, port.proto));
                if port.proto == attempt.proto && !is_repeated {
                    for way in self.ways(service, port, cluster_ip, attempt) {
                        owners.push((
                            (way, self.tie(service, way, attempt), service.created, &service.key, &port.name),
                            service,
                            port,
                        ));
                    }
                }
            }
        }
        owners.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(((way, tie, ..), service, port)) = owners.first() {
            // A tie of zero is a load balancer's address, not an external IP.
            if (*way, *tie) == (Way::External, 0) && !self.admits(service, attempt) {
                return Verdict::Drop;
            }
            return self.serve(service, port, *way, attempt);
        }
        let only_ours = self.settings.service_proxy_name.is_none();
        if only_ours && self.is_anothers(attempt.addr) {
            return Verdict::Pass; // item 1
        }
        if ours().any(|(service, ip)| ip == attempt.addr && !service.ports.is_empty()) {
            return Verdict::Reject; // item 52
        }
        match only_ours && self.settings.service_cidrs.iter().any(|range| range.contains(attempt.addr)) {
            true => Verdict::Drop, // item 53
            false => Verdict::Pass,
        }
    }

    /// Another proxy serves it, so that what we do not know may be known there.
    fn is_anothers(&self, addr: IpAddr) -> bool {
        self.services.iter().any(|service| {
            service.proxy_name != self.settings.service_proxy_name
                && service.headless_label == Label::Absent
                && service.cluster_ips.contains(&addr)
        })
    }

    /// Items 1–4, 23.
    fn cluster_ip(&self, service: &Service, ipv4: bool) -> Option<IpAddr> {
        let serving = if ipv4 { self.settings.ipv4 } else { self.settings.ipv6 };
        if service.proxy_name != self.settings.service_proxy_name
            || service.headless_label == Label::Present
            || service.kind == ServiceKind::ExternalName
            || serving == Serving::Off
        {
            return None;
        }
        service.cluster_ips.iter().copied().find(|ip| ip.is_ipv4() == ipv4)
    }

    fn ways(&self, service: &Service, port: &ServicePort, cluster_ip: IpAddr, attempt: Attempt) -> Vec<Way> {
        let mut ways = Vec::new();
        if port.port == attempt.port {
            if cluster_ip == attempt.addr {
                ways.push(Way::ClusterIp);
            }
            if service.load_balancer.contains(&attempt.addr) || service.external_ips.contains(&attempt.addr) {
                ways.push(Way::External);
            }
        }
        if port.node_port == Some(attempt.port) && self.answers_node_ports(attempt.addr) {
            ways.push(Way::NodePort);
        }
        ways
    }

    /// Load balancers come before external IPs.
    fn tie(&self, service: &Service, way: Way, attempt: Attempt) -> u8 {
        u8::from(way == Way::External && !service.load_balancer.contains(&attempt.addr))
    }

    /// Items 22, 81, 82.
    fn admits(&self, service: &Service, attempt: Attempt) -> bool {
        let mut ranges =
            service.source_ranges.iter().filter(|r| r.addr.is_ipv4() == attempt.addr.is_ipv4()).peekable();
        let is_free = ranges.peek().is_none();
        let mut is_of_node = false;
        for range in ranges {
            if range.contains(attempt.client) {
                return true;
            }
            is_of_node |= self.primary(attempt.addr.is_ipv4()).is_some_and(|own| range.contains(own));
        }
        is_free || is_of_node && service.load_balancer.contains(&attempt.client)
    }

    /// The node's own address: of its status, else of its interfaces.
    fn primary(&self, ipv4: bool) -> Option<IpAddr> {
        let status = self.own_node().map(|node| node.addresses.clone()).unwrap_or_default();
        let locals = self.local_addresses.iter().copied().filter(|ip| !ip.is_loopback());
        status.into_iter().chain(locals).find(|ip| ip.is_ipv4() == ipv4)
    }

    fn own_node(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == self.settings.node_name)
    }

    /// Items 64–66.
    fn answers_node_ports(&self, addr: IpAddr) -> bool {
        let locals: Vec<IpAddr> =
            self.local_addresses.iter().copied().filter(|ip| !ip.is_loopback()).collect();
        match &self.settings.node_port_addresses {
            NodePortAddresses::Primary => self.primary(addr.is_ipv4()) == Some(addr),
            NodePortAddresses::Within(ranges) => {
                let mut of_family =
                    ranges.iter().filter(|range| range.addr.is_ipv4() == addr.is_ipv4()).peekable();
                let accepted = of_family.peek().is_none() || of_family.any(|range| range.contains(addr));
                locals.contains(&addr) && accepted
            }
        }
    }

    fn who(&self, client: IpAddr) -> Who {
        if self.local_addresses.contains(&client) {
            Who::Node
        } else if self.settings.cluster_cidrs.iter().any(|range| range.contains(client)) {
            Who::Pod
        } else {
            Who::Outside
        }
    }

    /// Items 8–18: by address and port, the better of two entries.
    fn endpoints(
        &self,
        service: &Service,
        port: &ServicePort,
        ipv4: bool,
    ) -> BTreeMap<(IpAddr, Port), Merged> {
        let family = if ipv4 { SliceFamily::Ipv4 } else { SliceFamily::Ipv6 };
        let mut all: Vec<((IpAddr, Port), Merged)> = Vec::new();
        for slice in &self.slices {
            let of_service = slice.key.namespace == service.key.namespace
                && slice.service.as_ref() == Some(&service.key.name)
                && slice.headless_label == Label::Absent
                && slice.family == family;
            for p in
                slice.ports.iter().filter(|p| p.name.as_ref() == Some(&port.name) && p.proto == port.proto)
            {
                for e in slice.endpoints.iter().filter(|_| of_service) {
                    if let (Some(addr), Some(number)) = (e.address, p.port)
                        && addr.is_ipv4() == ipv4
                    {
                        all.push(((addr, number), self.merged(e)));
                    }
                }
            }
        }
        all.sort();
        // Sorted from worse to better: the last of equal keys stays.
        all.into_iter().collect()
    }

    fn merged(&self, endpoint: &Endpoint) -> Merged {
        let ready = endpoint.ready != Some(false);
        let serving = endpoint.serving != Some(false);
        let terminating = endpoint.terminating == Some(true);
        let names = |names: &[proxy_model::Name]| names.iter().map(|name| name.to_string()).collect();
        Merged {
            lives: !terminating,
            rank: if ready {
                READY
            } else if serving && terminating {
                DRAINING
            } else {
                u8::from(terminating)
            },
            local: endpoint.node.as_ref() == Some(&self.settings.node_name),
            zones: names(&endpoint.hint_zones),
            nodes: names(&endpoint.hint_nodes),
            serves: serving,
            node: endpoint.node.as_ref().map(ToString::to_string),
            zone: endpoint.zone.as_ref().map(ToString::to_string),
        }
    }

    /// Items 28, 29, 38–43.
    fn cluster_set(&self, all: &BTreeMap<(IpAddr, Port), Merged>) -> Vec<(IpAddr, Port)> {
        let pick = |keep: &dyn Fn(&Merged) -> bool| -> Vec<(IpAddr, Port)> {
            all.iter().filter(|(_, e)| keep(e)).map(|(place, _)| *place).collect()
        };
        let ready: Vec<&Merged> = all.values().filter(|e| e.rank == READY).collect();
        if ready.is_empty() {
            return pick(&|e| e.rank == DRAINING);
        }
        let node = self.settings.node_name.to_string();
        if ready.iter().all(|e| !e.nodes.is_empty()) && ready.iter().any(|e| e.nodes.contains(&node)) {
            return pick(&|e| e.rank == READY && e.nodes.contains(&node));
        }
        if let Some(zone) = self.own_node().and_then(|node| node.zone.as_ref()).map(|zone| zone.to_string())
            && ready.iter().all(|e| !e.zones.is_empty())
            && ready.iter().any(|e| e.zones.contains(&zone))
        {
            return pick(&|e| e.rank == READY && e.zones.contains(&zone));
        }
        pick(&|e| e.rank == READY)
    }

    /// Items 30, 31.
    fn local_set(&self, all: &BTreeMap<(IpAddr, Port), Merged>) -> Vec<(IpAddr, Port)> {
        let of_rank = |rank: u8| -> Vec<(IpAddr, Port)> {
            all.iter().filter(|(_, e)| e.local && e.rank == rank).map(|(place, _)| *place).collect()
        };
        let ready = of_rank(READY);
        if ready.is_empty() { of_rank(DRAINING) } else { ready }
    }

    /// Section 2.2 row by row.
    fn serve(&self, service: &Service, port: &ServicePort, way: Way, attempt: Attempt) -> Verdict {
        let all = self.endpoints(service, port, attempt.addr.is_ipv4());
        let detector = self.settings.cluster_cidrs.iter().any(|r| r.addr.is_ipv4() == attempt.addr.is_ipv4());
        let who = match self.who(attempt.client) {
            Who::Pod if !detector => Who::Outside,
            who @ (Who::Pod | Who::Node | Who::Outside) => who,
        };
        let (use_local, masquerade) = match way {
            Way::ClusterIp => (
                service.internal_policy == TrafficPolicy::Local,
                self.settings.masquerade == Masquerade::All || (detector && who != Who::Pod),
            ),
            Way::External | Way::NodePort if service.external_policy == TrafficPolicy::Cluster => {
                (false, true)
            }
            Way::External | Way::NodePort => match who {
                Who::Pod => (false, false),
                Who::Node => (false, true),
                Who::Outside => (true, false),
            },
        };
        let set = if use_local { self.local_set(&all) } else { self.cluster_set(&all) };
        if set.is_empty() {
            let anywhere = all.values().any(|e| e.rank >= DRAINING);
            return if use_local && anywhere { Verdict::Drop } else { Verdict::Reject };
        }
        let preserves = self.settings.local_source == LocalSource::Preserved
            && way != Way::ClusterIp
            && service.external_policy == TrafficPolicy::Cluster
            && who != Who::Node;
        let seen = |place: &(IpAddr, Port)| {
            if place.0 == attempt.client || masquerade && !(preserves && all[place].local) {
                Seen::Node
            } else {
                Seen::Client
            }
        };
        let drained = |place: &(IpAddr, Port)| Self::weight(service, place.0, &all[place]) == 0;
        let all_drained = set.iter().all(drained);
        let used = set.into_iter().filter(|place| all_drained || !drained(place));
        Verdict::Backends(used.map(|place| (place, seen(&place))).collect())
    }

    /// The rule of the address, else of the node, else of the zone, else of all others, else one.
    fn weight(service: &Service, addr: IpAddr, endpoint: &Merged) -> u8 {
        let rules = &service.weights;
        if let Some(weight) = rules.addresses.get(&addr) {
            return weight.0;
        }
        for (name, rules) in [(&endpoint.node, &rules.nodes), (&endpoint.zone, &rules.zones)] {
            for (of, weight) in rules {
                if name.as_deref() == Some(&**of) {
                    return weight.0;
                }
            }
        }
        rules.others.map_or(1, |weight| weight.0)
    }
}
