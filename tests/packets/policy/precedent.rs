//! Connections that are judged by what the same rules said about others of the class (decision 0044).

use std::collections::BTreeMap;

use proxy_common::{
    Proto, Reason,
    limits::PRECEDENTS,
    policy::{Effect, PolicyFlags},
};
use tests::dataplane::Dataplane;
use tests::packet::{Packet, flags};
use tests::policy::{allow, deny};

use super::{FRIENDS, NOBODY, RULE, RULES, friends, leave};
use crate::family::{FAMILIES, Names, dropped, next};

/// Another host each time, as an address of the family.
fn host(n: &Names, number: u64) -> String {
    if n.client.starts_with('[') { format!("fd00:78::{number:x}") } else { format!("10.78.0.{number}") }
}

/// The policed pod opens a connection to a port of a host, and this becomes of it.
fn ask(dataplane: &mut Dataplane, n: &Names, host: &str, port: u16, want: Reason) {
    let to = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let packet = Packet::tcp(flags::SYN, n.client, &to);
    let run = if want == Reason::Judged { next(want, &packet) } else { dropped(want, &packet) };
    assert_eq!(leave(dataplane, &packet.bytes()), run, "{to}");
}

#[test]
fn what_rules_said_holds_for_others_of_the_class_and_ports_of_the_interval_until_a_write_is_counted() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        let hosts = [1, 2, 3].map(|number| host(n, number));
        for host in &hosts {
            dataplane.class(host, FRIENDS);
        }
        ask(&mut dataplane, n, &hosts[0], 8080, Reason::Judged);
        let closed = [deny(Proto::TCP, 8000, 9000, RULE)];
        dataplane.say_uncounted(RULES, FRIENDS, &closed, NOBODY);
        for (host, port) in [(&hosts[1], 8081), (&hosts[2], 8090)] {
            ask(&mut dataplane, n, host, port, Reason::Judged);
        }
        // About other ports nothing was said yet: the rules are asked as they are.
        ask(&mut dataplane, n, &hosts[2], 8091, Reason::DeniedEgress);
        assert_eq!(dataplane.denials(), BTreeMap::from([((RULES, RULE), 1)]));
        dataplane.say_uncounted(RULES, FRIENDS, &[allow(Proto::TCP, 8000, 9000, RULE)], NOBODY);
        // A denial is what they said as well, and is counted under its rule each time.
        ask(&mut dataplane, n, &hosts[1], 8092, Reason::DeniedEgress);
        assert_eq!(dataplane.denials(), BTreeMap::from([((RULES, RULE), 2)]));
        dataplane.enforce(1, PolicyFlags::default());
        ask(&mut dataplane, n, &hosts[1], 8092, Reason::Judged);
    }
}

#[test]
fn a_port_that_no_interval_names_stands_for_itself_alone() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        let host = host(n, 1);
        dataplane.class(&host, FRIENDS);
        ask(&mut dataplane, n, &host, 80, Reason::DeniedEgress);
        dataplane.say_uncounted(RULES, FRIENDS, &[allow(Proto::TCP, 1, 9000, RULE)], NOBODY);
        ask(&mut dataplane, n, &host, 80, Reason::DeniedEgress);
        ask(&mut dataplane, n, &host, 81, Reason::Judged);
        assert_eq!(dataplane.denials(), BTreeMap::from([((RULES, 0), 2)]));
    }
}

#[test]
fn classes_that_share_a_place_are_never_taken_for_each_other() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        let classes: Vec<(String, u64)> =
            (1..=8).map(|number| (host(n, number), FRIENDS + number * u64::from(PRECEDENTS))).collect();
        for (number, (host, class)) in classes.iter().enumerate() {
            dataplane.class(host, *class);
            let says = if number.is_multiple_of(2) { allow } else { deny }(Proto::TCP, 8000, 9000, RULE);
            dataplane.say(RULES, *class, &[says], (Effect::DENY, 0));
        }
        for turn in 0..3 {
            for (number, (host, _)) in classes.iter().enumerate() {
                let want = if number.is_multiple_of(2) { Reason::Judged } else { Reason::DeniedEgress };
                ask(&mut dataplane, n, host, 8000 + turn, want);
            }
        }
        assert_eq!(dataplane.denials(), BTreeMap::from([((RULES, RULE), 12)]));
    }
}
