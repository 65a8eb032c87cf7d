//! The packet road end to end: a node with two pods and an outside client, each a network namespace, the programs
//! attached to real devices with all their offloads, and real sockets.

mod peer;
mod policed;
mod related;
mod world;

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

use proxy_common::Reason;
use tests::{
    content::content,
    dataplane::{Dataplane, config},
};

use peer::{ask, bulk, checksum_errors, connect, disable_checksum_offload, greeting, serve_both};
use world::{FAMILIES, World};

#[test]
fn a_pod_reaches_a_pod_through_a_service_with_its_own_address() {
    for names in &FAMILIES {
        let world = World::new(names);
        world.pod_b.run(|| serve_both(names.pod_b));
        assert_eq!(world.pod_a.run(|| bulk(names.vip)), names.pod_a);
        assert_eq!(world.pod_a.run(|| ask(names.vip)).expect("an answer"), names.pod_a);
        assert_eq!(world.losses(), []);
        let counters = world.dataplane.counters();
        assert!(counters[&Reason::FlowForward] > 10 && counters[&Reason::FlowReply] > 10, "{counters:?}");
        assert_eq!(counters[&Reason::ServiceNew], 2);
    }
}

#[test]
fn a_pod_that_is_its_own_backend_reaches_itself_as_the_node() {
    for names in &FAMILIES {
        let world = World::new(names);
        world.pod_a.run(|| serve_both(names.pod_a));
        assert_eq!(world.pod_a.run(|| bulk(names.hairpin)), names.node);
        assert_eq!(world.pod_a.run(|| ask(names.hairpin)).expect("an answer"), names.node);
        assert_eq!(world.losses(), []);
    }
}

#[test]
fn an_outside_client_reaches_a_pod_as_the_node() {
    for names in &FAMILIES {
        let world = World::new(names);
        world.pod_b.run(|| serve_both(names.pod_b));
        assert_eq!(world.outside.run(|| bulk(names.vip)), names.node);
        assert_eq!(world.outside.run(|| ask(names.vip)).expect("an answer"), names.node);
        assert_eq!(world.losses(), []);
    }
}

#[test]
fn a_process_of_the_node_serves_pods_and_outsiders_with_their_own_addresses() {
    for names in &FAMILIES {
        let world = World::new(names);
        serve_both(names.node);
        assert_eq!(world.pod_a.run(|| bulk(names.host)), names.pod_a);
        assert_eq!(world.pod_a.run(|| ask(names.host)).expect("an answer"), names.pod_a);
        assert_eq!(world.outside.run(|| bulk(names.host)), names.outside);
        assert_eq!(world.outside.run(|| ask(names.host)).expect("an answer"), names.outside);
        assert_eq!(world.losses(), []);
    }
}

/// On the way between namespaces a checksum may never be looked at. Here the uplink's two ends do not offload it: the
/// kernel completes it after our rewrite in one direction and before it in the other, and the receiver verifies.
#[test]
fn a_checksum_is_right_when_it_is_completed_after_the_rewrite_or_before() {
    for names in &FAMILIES {
        let world = World::new(names);
        world.outside.run(|| serve_both(names.outside));
        disable_checksum_offload("uplink");
        world.outside.run(|| disable_checksum_offload("eth0"));
        assert_eq!(world.pod_a.run(|| bulk(names.remote)), names.pod_a);
        assert_eq!(world.pod_a.run(|| ask(names.remote)).expect("an answer"), names.pod_a);
        for namespace in [&world.pod_a, &world.outside] {
            assert_eq!(namespace.run(checksum_errors), 0);
        }
        assert_eq!(world.losses(), []);
    }
}

#[test]
fn a_service_without_backends_is_refused_at_once() {
    for names in &FAMILIES {
        let world = World::new(names);
        for client in [&world.pod_a, &world.outside] {
            let udp = client.run(|| ask(names.empty)).expect_err("nobody is there");
            assert_eq!(udp.kind(), ErrorKind::ConnectionRefused);
            let tcp = client.run(|| connect(names.empty, None)).expect_err("nobody is there");
            assert_eq!(tcp.kind(), ErrorKind::ConnectionRefused);
        }
        // Nobody was refused by a time-out: a second later a client would have asked again, and that would be counted.
        assert_eq!(world.dataplane.counters()[&Reason::NoEndpoints], 4);
    }
}

#[test]
fn a_client_uses_one_port_for_the_service_and_for_its_backend() {
    for names in &FAMILIES {
        let world = World::new(names);
        world.pod_b.run(|| serve_both(names.pod_b));
        let direct = SocketAddr::new(names.pod_b.parse().expect("an address"), 8080).to_string();
        let echo = |stream: &mut TcpStream, text: &[u8]| {
            stream.write_all(text).expect("it is sent");
            let mut got = vec![0; text.len()];
            stream.read_exact(&mut got).expect("it comes back");
            assert_eq!(got, text);
        };
        let to = direct.clone();
        world.pod_a.run(move || {
            let mut service = connect(names.vip, Some(40_000)).expect("the service");
            assert_eq!(greeting(&mut service), names.pod_a);
            let mut backend = connect(&to, Some(40_000)).expect("its backend, beside it");
            assert_eq!(greeting(&mut backend), names.pod_a, "told apart by its port");
            for round in 0..3_u8 {
                echo(&mut service, &[b's', round]);
                echo(&mut backend, &[b'b', round]);
            }
        });
        assert_eq!(world.losses(), []);
        assert_eq!(world.dataplane.counters()[&Reason::PortClash], 1);
    }
}

#[test]
fn what_passes_between_namespaces_leaves_nothing_to_whoever_gets_the_programs_next() {
    let fresh = content(Dataplane::alone(config()).object());
    for names in &FAMILIES {
        let mut world = World::new(names);
        world.pod_b.run(|| serve_both(names.pod_b));
        // The connection stays open: its last packets come when the devices go.
        let _open = world.pod_a.run(|| connect(names.vip, None).expect("the service"));
        assert!(
            content(world.dataplane.object()).len() > fresh.len() + 4,
            "flows, counters, backends, devices"
        );
        drop(world);
        assert_eq!(content(Dataplane::new(config()).object()), fresh);
    }
}
