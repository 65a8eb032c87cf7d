//! Direct server return: which frontends lead into tunnels, to which backends, and who may be at their ends.

use std::collections::BTreeMap;

use proxy_common::{Backend, BackendFlags, ForwardingMode, Proto, V4};
use proxy_model::fact::TrafficPolicy::{Cluster, Local};
use proxy_model::fact::{Change, Endpoint, Event, Service, ServicePort, SlicePort};
use proxy_model::settings::Serving;
use proxy_model::{Changed, ObjectKey, Settings, TableSize};

use crate::fixture::*;
use crate::kernel::Machine;

fn tunnelling() -> Settings {
    Settings { direct_return: Serving::On, ..settings() }
}

fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint("10.0.1.1", HERE),
        draining(endpoint("10.0.1.2", HERE)),
        not_ready(endpoint("10.0.1.3", HERE)),
        endpoint("10.0.2.1", "n2"),
        Endpoint { node: None, ..endpoint("10.0.2.2", "n2") },
    ]
}

fn web() -> Service {
    exposed("web", 1, Cluster, Cluster)
}

/// Mode and backends of the two lists of each frontend, by its address.
fn leads(machine: &Machine) -> BTreeMap<String, (ForwardingMode, [Vec<String>; 2])> {
    let text = |backend: Option<Backend<_>>| {
        let backend = backend.unwrap();
        format!("{} {:?}", backend.addr, backend.flags)
    };
    let of = |list: Vec<Option<Backend<_>>>| list.into_iter().map(text).collect();
    let frontends = machine.v4.frontends.iter().filter(|(key, _)| key.proto != Proto::ANY);
    frontends
        .map(|(key, value)| (key.addr.to_string(), (value.mode, machine.v4.lists(value).map(of))))
        .collect()
}

fn lines(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn tunnels_lead_from_addresses_that_every_node_serves_to_backends_whose_node_is_known() {
    let machine = machine(tunnelling(), [put(web()), put(slice("web", "web", endpoints()))]);
    let cluster = lines(&["10.0.1.1 local", "10.0.2.1 remote+unwraps", "10.0.2.2 remote"]);
    let ends = lines(&["10.0.1.1 local", "10.0.1.2 local+terminating"]);
    let translated = (ForwardingMode::NAT, [cluster.clone(), vec![]]);
    let tunnelled = (ForwardingMode::TUNNEL, [cluster, ends]);
    let expected = [
        ("10.96.0.1", translated.clone()),
        (NODE_IP, translated),
        ("192.0.2.1", tunnelled.clone()),
        ("198.51.100.1", tunnelled),
    ];
    assert_eq!(leads(&machine), expected.map(|(addr, leads)| (addr.to_owned(), leads)).into());
}

#[test]
fn the_end_of_a_tunnel_stands_there_once_whatever_the_algorithm() {
    let table_size = TableSize::Fixed(251);
    let settings = Settings { algorithm: proxy_common::Algorithm::MAGLEV, table_size, ..tunnelling() };
    let machine = machine(settings, [put(web()), put(slice("web", "web", vec![endpoint("10.0.1.1", HERE)]))]);
    let (_, [_, ends]) = &leads(&machine)["192.0.2.1"];
    assert_eq!(*ends, lines(&["10.0.1.1 local"]));
}

#[test]
fn without_the_setting_or_with_an_annotation_a_local_policy_or_sctp_nothing_leads_into_a_tunnel() {
    let sctp = ServicePort { proto: Proto::SCTP, ..port() };
    let off = || Service { direct_return: Some(Serving::Off), ..web() };
    let on = || Service { direct_return: Some(Serving::On), ..web() };
    for (what, settings, service) in [
        ("off", settings(), web()),
        ("off, whatever the annotation says", settings(), on()),
        ("the annotation says no", tunnelling(), off()),
        ("a Local policy", tunnelling(), exposed("web", 1, Cluster, Local)),
        ("SCTP", tunnelling(), Service { ports: vec![sctp], ..web() }),
    ] {
        let slice = slice("web", "web", endpoints());
        let ports = vec![SlicePort { proto: service.ports[0].proto, ..slice.ports[0].clone() }];
        let machine =
            machine(settings, [put(service), put(proxy_model::fact::EndpointSlice { ports, ..slice })]);
        for (addr, (mode, lists)) in leads(&machine) {
            let unwraps = format!("{:?}", BackendFlags::UNWRAPS);
            let all = lists.concat().join(" ");
            assert!(mode == ForwardingMode::NAT && !all.contains(&unwraps), "{what}: {addr} {all}");
        }
    }
}

#[test]
fn an_annotation_turns_it_on_and_off_live() {
    let mut machine = machine(tunnelling(), [put(web()), put(slice("web", "web", endpoints()))]);
    let before = leads(&machine);
    machine.apply([put(Service { direct_return: Some(Serving::Off), ..web() })]);
    machine.sync();
    assert_eq!(leads(&machine)["192.0.2.1"].0, ForwardingMode::NAT);
    machine.apply([put(Service { direct_return: Some(Serving::On), ..web() })]);
    machine.sync();
    assert_eq!(leads(&machine), before);
}

#[test]
fn tunnels_are_taken_from_every_address_of_every_node() {
    let nodes = |machine: &Machine| -> Vec<String> {
        machine.world.node_facts::<V4>(&[]).0.nodes.iter().map(ToString::to_string).collect()
    };
    let other = || put(node("n2", None, &["192.168.0.2", "203.0.113.2", "fd00:192::2"]));
    let mut without = machine(settings(), [other()]);
    assert_eq!(nodes(&without), [""; 0]);
    assert_eq!(without.world.apply(Event::Node(Change::Delete(ObjectKey::cluster_wide("n2")))), Changed::No);
    let mut machine = machine(tunnelling(), [other()]);
    let mut expected = vec![NODE_IP.to_owned(), "192.168.0.2".into(), "203.0.113.2".into()];
    expected.sort_by_key(|text| ip(text));
    assert_eq!(nodes(&machine), expected);
    let gone = machine.world.apply(Event::Node(Change::Delete(ObjectKey::cluster_wide("n2"))));
    assert_eq!((gone, nodes(&machine)), (Changed::Yes, vec![NODE_IP.to_owned()]));
}
