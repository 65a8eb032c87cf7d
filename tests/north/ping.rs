//! Pings of cluster addresses, by the kernel's own echo sockets (item 54).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sluice_lab::{Failure, Family, Probe, Protocol, SocketLb};

use crate::objects;
use crate::stage::{FAR, OWN, PATIENCE, Stage, WEB, cluster_ips};

/// A pod, the node's own processes, a host outside with a route to the cluster addresses.
const CLIENTS: [&str; 3] = ["client", "node-1", "laptop"];

/// `ENOBUFS`: what a node's own sender hears of a packet that is dropped on its way out, over IPv4.
const UNSENT: &str = "errno 105";

/// What became of a ping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    /// An echo reply from the address that was asked.
    Reply,
    /// A port unreachable.
    Unreachable,
    /// Nothing.
    Silence,
    /// Something else.
    Other,
}

/// What each client hears of each address, IPv4 and IPv6.
fn hear(stage: &Stage, to: &[IpAddr]) -> Vec<(&'static str, Vec<Said>)> {
    let ping = |ip: &IpAddr| Probe {
        timeout: Duration::from_secs(1),
        ..Probe::new(Protocol::Icmp, SocketAddr::new(*ip, 0))
    };
    let pings: Vec<Probe> = to.iter().map(ping).collect();
    let ask = |client: &'static str| {
        let tallies = stage.place(client).probe(&pings).unwrap();
        let said = tallies.iter().map(|tally| match tally.failed.keys().next() {
            None if tally.answers() == 1 => Said::Reply,
            Some(Failure::Refused) => Said::Unreachable,
            Some(Failure::Timeout) => Said::Silence,
            Some(Failure::Errno(errno)) if errno == UNSENT => Said::Silence,
            _ => Said::Other,
        });
        (client, said.collect())
    };
    CLIENTS.map(ask).into()
}

/// Waits until all clients hear this of both addresses of a Service.
fn awaits(stage: &Stage, service: u16, said: Said) {
    let wanted: Vec<_> = CLIENTS.map(|client| (client, vec![said; 2])).into();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let heard = hear(stage, &cluster_ips(service));
        if heard == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{heard:?}, not {said:?}");
    }
}

/// The endpoints of `web` in both families.
fn put_endpoints(stage: &Stage, servers: &[(&str, &str)]) {
    for (index, family) in [Family::Ipv4, Family::Ipv6].into_iter().enumerate() {
        let endpoints: Vec<_> =
            servers.iter().map(|(server, node)| (stage.place(server).ips[index], *node)).collect();
        stage.lab.manifests().put(&objects::slice("web", family, &endpoints)).unwrap();
    }
}

#[test]
fn item_54_a_cluster_address_answers_pings_as_long_as_somebody_is_behind_it() {
    for road in [SocketLb::On, SocketLb::Host] {
        let stage = Stage::set("ptp", road).begin();
        awaits(&stage, WEB, Said::Reply);
        put_endpoints(&stage, &[]);
        awaits(&stage, WEB, Said::Unreachable);
        // The others have theirs.
        awaits(&stage, OWN, Said::Reply);
        put_endpoints(&stage, &[("far", "node-2")]);
        awaits(&stage, WEB, Said::Reply);
        // The external policy is no affair of the cluster address.
        awaits(&stage, FAR, Said::Reply);
    }
}

#[test]
fn item_54_an_internal_local_policy_answers_pings_where_it_serves() {
    let stage = Stage::set("ptp", SocketLb::Host).begin();
    let mut service = objects::service("web", &cluster_ips(WEB), WEB, "Cluster");
    service["spec"]["internalTrafficPolicy"] = "Local".into();
    stage.lab.manifests().put(&service).unwrap();
    put_endpoints(&stage, &[("far", "node-2")]);
    awaits(&stage, WEB, Said::Unreachable);
    put_endpoints(&stage, &[("far", "node-2"), ("near", "node-1")]);
    awaits(&stage, WEB, Said::Reply);
}

#[test]
fn items_53_and_54_what_no_service_owns_is_silent_and_hosts_answer_for_themselves() {
    let stage = Stage::set("ptp", SocketLb::On).begin();
    let nobody: [IpAddr; 2] = ["10.96.9.9".parse().unwrap(), "fd00:96::9999".parse().unwrap()];
    let [node, pod] = ["node-2", "far"].map(|name| stage.place(name).ips);
    let to = [&nobody[..], &node[..2], &pod[..2]].concat();
    let wanted = [[Said::Silence; 2], [Said::Reply; 2], [Said::Reply; 2]].concat();
    assert_eq!(hear(&stage, &to), CLIENTS.map(|client| (client, wanted.clone())));
}
