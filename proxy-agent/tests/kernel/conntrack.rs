//! Netfilter's table takes our connections over, translation and all, and makes room where it has noted their packets before.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use proxy_agent::kernel::conntrack::Conntrack;
use proxy_common::{Addr4, Addr6, Address, Flow, FlowFlags, FlowKey, Port, Proto};
use proxy_model::Plan;

use crate::stage::on_a_node;

/// What makes netfilter follow and translate connections in this namespace.
pub(crate) const RULES: &str = "table inet t { chain n { type nat hook prerouting priority 0; }; \
    chain c { type filter hook prerouting priority 0; ct state established counter; }; }";

/// From a client's port 4000 to port 80 of a Service, which becomes one from port 5000 of the node to port 8080 of a backend.
fn connection<A: Address>([client, service, node, backend]: [A; 4], proto: Proto) -> (FlowKey<A>, Flow<A>) {
    let key = FlowKey::new(client, Port::new(4_000), service, Port::new(80), proto);
    let (sport, dport) = (Port::new(5_000), Port::new(8_080));
    (key, Flow { src: node, sport, dst: backend, dport, ..Flow::default() })
}

/// `conntrack -L` without what changes by the second.
pub(crate) fn list(family: &str) -> Vec<String> {
    let output = Command::new("conntrack").args(["-L", "-f", family]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let without_time = |line: &str| {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        // Of an hour, a busy machine may need some seconds to look.
        if let Some(left) = words.get_mut(2).filter(|left| matches!(left.parse(), Ok(3_000..=3_600))) {
            *left = "N";
        }
        words.join(" ")
    };
    let mut lines: Vec<String> = text.lines().map(without_time).collect();
    lines.sort();
    lines
}

#[test]
fn connections_are_taken_over_with_their_translation_and_forgotten() {
    on_a_node(|_| {
        assert!(Command::new("nft").arg(RULES).status().unwrap().success());
        let four = ["10.0.0.1", "10.96.0.1", "172.18.0.11", "10.244.1.7"].map(|ip| {
            let ip: Ipv4Addr = ip.parse().unwrap();
            Addr4::from(ip)
        });
        let six = ["fd00::1", "fd00:96::1", "fd00:18::11", "fd00:244::7"].map(|ip| {
            let ip: Ipv6Addr = ip.parse().unwrap();
            Addr6::from(ip)
        });
        let mut conntrack = Conntrack::open().unwrap();
        for proto in [Proto::TCP, Proto::UDP] {
            let (key, flow) = connection(four, proto);
            // As if its packets had been seen after their translation.
            let plain = FlowKey::new(flow.src, flow.sport, flow.dst, flow.dport, proto);
            let seen =
                Flow { src: plain.src, sport: plain.sport, dst: plain.dst, dport: plain.dport, ..flow };
            conntrack.put(&plain, &seen, 3_600).unwrap();
            let refused = conntrack.put(&key, &flow, 3_600).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
            assert_eq!(conntrack.answers_to(&plain).unwrap(), Some(flow.other(proto)));
            conntrack.replace(&key, &flow, 3_600).unwrap();
            conntrack.replace(&key, &flow, 3_600).unwrap();
            assert_eq!(conntrack.answers_to(&key).unwrap(), Some(flow.other(proto)));
            // These have nobody, and are the answers themselves.
            assert_eq!([plain, flow.other(proto)].map(|key| conntrack.answers_to(&key).unwrap()), [None; 2]);
            let (key, flow) = connection(six, proto);
            conntrack.put(&key, &flow, 3_600).unwrap();
        }
        let line = |head: &str, [client, service, node, backend]: [IpAddr; 4]| {
            format!(
                "{head} src={client} dst={service} sport=4000 dport=80 src={backend} dst={node} sport=8080 dport=5000 \
                 [ASSURED] mark=0 use=1"
            )
        };
        let (tcp, udp) = ("tcp 6 N ESTABLISHED", "udp 17 N");
        let four_ips = four.map(Address::to_ip);
        let six_ips = six.map(Address::to_ip);
        assert_eq!(list("ipv4"), [line(tcp, four_ips), line(udp, four_ips)]);
        assert_eq!(list("ipv6"), [line(tcp, six_ips), line(udp, six_ips)]);
        let answers = |[_, _, node, backend]: [Addr4; 4], proto| {
            FlowKey::new(backend, Port::new(8_080), node, Port::new(5_000), proto)
        };
        let mut found = conntrack.masqueraded::<Addr4>().unwrap();
        found.sort();
        assert_eq!(found, [Proto::TCP, Proto::UDP].map(|proto| answers(four, proto)));
        assert_eq!(conntrack.masqueraded::<Addr6>().unwrap().len(), 2);
        for proto in [Proto::TCP, Proto::UDP] {
            let (key, _) = connection(four, proto);
            assert!(conntrack.remove(&key).unwrap());
            assert!(!conntrack.remove(&key).unwrap());
            assert!(conntrack.remove(&connection(six, proto).0).unwrap());
        }
        assert_eq!([list("ipv4"), list("ipv6")], [[""; 0]; 2]);
    });
}

#[test]
fn an_agent_that_comes_to_a_node_leaves_ports_alone_that_netfilter_has_given() {
    on_a_node(|stage| {
        assert!(Command::new("nft").arg(RULES).status().unwrap().success());
        let four = ["10.0.0.1", "10.96.0.1", "172.18.0.11", "10.244.1.7"].map(|ip| {
            let ip: Ipv4Addr = ip.parse().unwrap();
            Addr4::from(ip)
        });
        let (key, flow) = connection(four, Proto::TCP);
        Conntrack::open().unwrap().put(&key, &flow, 3_600).unwrap();
        let mut kernel = stage.open();
        drop(kernel.apply(&Plan::default()));
        let answers = flow.other(Proto::TCP);
        let flows = &kernel.maps().v4.flows;
        let found = [answers, answers.reversed()].map(|key| flows.get(&key).unwrap().unwrap());
        let plain = FlowFlags::PLAIN;
        assert_eq!(found.map(|flow| flow.flags), [plain.with(FlowFlags::REPLY), plain]);
        assert_eq!(found.map(|flow| flow.other(Proto::TCP)), [answers.reversed(), answers]);
        assert_eq!(flows.count().unwrap(), 2);
    });
}
