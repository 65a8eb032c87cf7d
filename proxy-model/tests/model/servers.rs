//! After which change UDP flows are looked at, and who may keep them: items 76 and 101–105, with the cases of upstream's
//! `pkg/proxy/conntrack/cleanup_test.go`.

use proxy_common::{Address, Family, Port, Proto, V4, V6, Weight};
use proxy_model::fact::TrafficPolicy::{Cluster, Local};
use proxy_model::fact::{Endpoint, EndpointSlice, Service, ServicePort, SlicePort};
use proxy_model::{Capacity, Change, Event, ObjectKey, Served, Weights};

use crate::fixture::*;
use crate::kernel::Machine;

fn with(proto: Proto, service: Service) -> Service {
    Service {
        ports: service.ports.into_iter().map(|port| ServicePort { proto, ..port }).collect(),
        ..service
    }
}

fn lead(proto: Proto, name: &str, endpoints: &[Endpoint]) -> EndpointSlice {
    let made = slice(name, "web", endpoints.to_vec());
    let ports = made.ports.iter().map(|port| SlicePort { proto, ..port.clone() }).collect();
    EndpointSlice { ports, ..made }
}

fn dns() -> Service {
    with(Proto::UDP, service("web", "10.96.0.1"))
}

fn endpoints(endpoints: &[Endpoint]) -> Event {
    put(lead(Proto::UDP, "web-4", endpoints))
}

fn at(last: u8) -> Endpoint {
    endpoint(&format!("10.0.1.{last}"), HERE)
}

/// Before, after, and who may keep flows if they are looked at.
type Case<'a> = (&'a [Endpoint], &'a [Endpoint], Option<&'a [&'a str]>);

/// As `publishNotReadyAddresses` shows a Pod that is not ready.
fn published(endpoint: Endpoint) -> Endpoint {
    Endpoint { ready: Some(true), serving: Some(false), ..endpoint }
}

/// Plans what `events` change; gives the servers of each Service port whose flows must be looked at then.
fn moved<F: Served>(machine: &mut Machine, events: impl IntoIterator<Item = Event>) -> Vec<Vec<String>> {
    machine.apply(events);
    machine.sync();
    taken::<F>(machine)
}

fn taken<F: Served>(machine: &mut Machine) -> Vec<Vec<String>> {
    let moved = machine.planner.take_moved::<F>();
    moved.values().map(|servers| servers.iter().map(show::<F>).collect()).collect()
}

fn show<F: Family>((addr, port): &(F::Addr, Port)) -> String {
    format!("{} {port}", addr.to_ip())
}

#[test]
fn items_101_to_103_flows_are_looked_at_when_a_server_is_gone_and_another_one_serves() {
    let (a, b) = ("10.0.1.1 8080", "10.0.1.2 8080");
    let cases: &[Case<'_>] = &[
        (&[at(1)], &[at(2)], Some(&[b])),
        (&[at(1), at(2)], &[at(2)], Some(&[b])),
        (&[at(1)], &[at(1), at(2)], None),
        // Item 103: draining is as good as ready, for flows.
        (&[at(1)], &[draining(at(1)), at(2)], None),
        (&[at(1), at(3)], &[draining(at(1)), at(2)], Some(&[a, b])),
        (&[draining(at(1)), at(2)], &[at(2)], Some(&[b])),
        (&[at(1), at(2)], &[stopped(at(1)), at(2)], Some(&[b])),
        (&[at(1), at(2)], &[not_ready(at(1)), at(2)], Some(&[b])),
        // Item 102: nobody is left to go to.
        (&[at(1)], &[not_ready(at(1))], None),
        (&[at(1)], &[], None),
        // Item 104: whatever began meanwhile.
        (&[], &[at(1)], Some(&[a])),
        (&[not_ready(at(1))], &[at(1)], Some(&[a])),
        // Item 101: published without serving.
        (&[at(1), at(2)], &[published(at(1)), at(2)], Some(&[b])),
        // Where a server is listed twice, serving once is enough.
        (&[at(1), at(2)], &[published(at(1)), at(1), at(2)], None),
    ];
    for (before, after, expected) in cases {
        let mut machine = machine(settings(), [put(dns()), endpoints(before)]);
        taken::<V4>(&mut machine);
        let expected: Vec<Vec<&str>> = expected.iter().map(|servers| servers.to_vec()).collect();
        assert_eq!(moved::<V4>(&mut machine, [endpoints(after)]), expected, "{before:?} to {after:?}");
        assert_eq!(taken::<V4>(&mut machine), Vec::<Vec<String>>::new(), "told once");
    }
}

#[test]
fn item_105_connections_of_other_protocols_are_never_looked_at() {
    for proto in [Proto::TCP, Proto::SCTP] {
        let events = |to| put(lead(proto, "web-4", &[at(to)]));
        let mut machine = machine(settings(), [put(with(proto, dns())), events(1)]);
        assert_eq!(moved::<V4>(&mut machine, [events(2)]), Vec::<Vec<String>>::new(), "{proto}");
    }
}

#[test]
fn item_76_flows_of_a_service_that_is_gone_stay() {
    let mut machine = machine(settings(), [put(dns()), endpoints(&[at(1)])]);
    taken::<V4>(&mut machine);
    let gone = Event::Service(Change::Delete(ObjectKey::new("default", "web")));
    assert_eq!(moved::<V4>(&mut machine, [gone]), Vec::<Vec<String>>::new());
}

#[test]
fn item_103_policies_decide_who_gets_new_flows_and_not_who_keeps_old_ones() {
    let service = with(Proto::UDP, exposed("web", 1, Local, Local));
    let there = endpoint("10.0.2.1", THERE);
    let mut machine = machine(settings(), [put(service.clone()), endpoints(&[at(1), at(2), there.clone()])]);
    taken::<V4>(&mut machine);
    // The node port, the addresses and the ClusterIP are one Service port.
    let both = [["10.0.1.2 8080", "10.0.2.1 8080"]];
    assert_eq!(moved::<V4>(&mut machine, [endpoints(&[at(2), there])]), both);
    let open = with(Proto::UDP, exposed("web", 1, Cluster, Cluster));
    assert_eq!(moved::<V4>(&mut machine, [put(open)]), Vec::<Vec<String>>::new());
}

/// A Service, its endpoints, and who may keep flows of each port.
type Held<'a> = (Service, &'a [Endpoint], &'a [&'a [&'a str]]);

/// Who may keep flows that are looked at without a change.
fn answering(machine: &Machine) -> Vec<Vec<String>> {
    let answering = machine.planner.answering::<V4>();
    answering.values().map(|servers| servers.iter().map(show::<V4>).collect()).collect()
}

#[test]
fn items_101_to_103_whoever_serves_may_keep_its_flows_at_any_time() {
    let (a, b) = ("10.0.1.1 8080", "10.0.1.2 8080");
    let there = endpoint("10.0.2.1", THERE);
    let hinted = |endpoint: Endpoint, zone: &str| Endpoint { hint_zones: vec![zone.into()], ..endpoint };
    let drained = Weights { addresses: [(ip("10.0.1.1"), Weight(0))].into(), ..Weights::default() };
    let local = with(Proto::UDP, exposed("web", 1, Local, Local));
    let tcp = with(Proto::TCP, dns());
    let cases: &[Held<'_>] = &[
        (dns(), &[at(1), at(2)], &[&[a, b]]),
        // No new flow goes to the first one, or to the other node's.
        (dns(), &[draining(at(1)), at(2)], &[&[a, b]]),
        (dns(), &[hinted(at(1), "zb"), hinted(at(2), "za")], &[&[a, b]]),
        (Service { weights: drained, ..dns() }, &[at(1), at(2)], &[&[a, b]]),
        (local, &[at(1), there], &[&[a, "10.0.2.1 8080"]]),
        (dns(), &[not_ready(at(1)), published(at(3)), at(2)], &[&[b]]),
        // Items 102 and 105.
        (dns(), &[not_ready(at(1))], &[]),
        (dns(), &[], &[]),
        (tcp, &[at(1)], &[]),
    ];
    for (service, after, expected) in cases {
        // Somebody else served before: nothing of that is remembered.
        let mut machine = machine(settings(), [put(dns()), endpoints(&[at(1)])]);
        machine.apply([put(service.clone()), endpoints(after)]);
        machine.sync();
        assert_eq!(answering(&machine), *expected, "{after:?}");
    }
}

#[test]
fn items_76_and_112_nothing_is_said_of_a_service_that_is_gone_or_not_known_yet() {
    let none = Vec::<Vec<String>>::new();
    let mut machine = machine(settings(), [put(dns()), endpoints(&[at(1)])]);
    machine.apply([Event::Service(Change::Delete(ObjectKey::new("default", "web")))]);
    machine.sync();
    assert_eq!(answering(&machine), none);
    machine.apply([put(dns())]);
    machine.sync();
    machine.restart(crate::kernel::Names::Kept);
    assert_eq!(answering(&machine), none);
}

#[test]
fn each_family_has_its_own_servers() {
    let dual = Service { cluster_ips: vec![ip("10.96.0.1"), ip("fd00:96::1")], ..dns() };
    let v6 = |last| put(lead(Proto::UDP, "web-6", &[endpoint(&format!("fd00:10::{last}"), HERE)]));
    let mut machine = machine(settings(), [put(dual), endpoints(&[at(1)]), v6(1)]);
    assert_eq!(taken::<V4>(&mut machine), [["10.0.1.1 8080"]]);
    assert_eq!(taken::<V6>(&mut machine), [["fd00:10::1 8080"]]);
    assert_eq!(moved::<V6>(&mut machine, [v6(2)]), [["fd00:10::2 8080"]]);
    assert_eq!(taken::<V4>(&mut machine), Vec::<Vec<String>>::new());
}

#[test]
fn items_101_and_104_flows_are_looked_at_again_when_a_frontend_that_could_not_be_written_is() {
    let (nothing, second) = (Vec::<Vec<String>>::new(), [["10.0.1.2 8080"]]);
    let mut machine = machine(settings(), [put(dns()), endpoints(&[at(1)])]);
    taken::<V4>(&mut machine);
    machine.apply([endpoints(&[at(2)])]);
    machine.sync_with_failures(&|_| true);
    assert_eq!(taken::<V4>(&mut machine), second, "other frontends may have been written");
    machine.sync_with_failures(&|_| true);
    assert_eq!(taken::<V4>(&mut machine), nothing, "clients would come back");
    assert_eq!(moved::<V4>(&mut machine, []), second);
    assert_eq!(moved::<V4>(&mut machine, []), nothing, "told once more");
    // Nobody is left to go to, or nobody to come from.
    for events in [endpoints(&[]), Event::Service(Change::Delete(ObjectKey::new("default", "web")))] {
        machine.apply([events]);
        machine.sync_with_failures(&|_| true);
        assert_eq!(moved::<V4>(&mut machine, []), nothing);
    }
}

#[test]
fn items_101_and_104_flows_are_looked_at_again_when_a_frontend_without_room_finds_some() {
    let (nothing, rest) = (Vec::<Vec<String>>::new(), [["10.0.1.2 8080", "10.0.1.3 8080"]]);
    let mut machine = Machine::new(settings(), Capacity { frontends: 100, backends: 5, ranges: 1 });
    let other = || slice("other", "other", vec![endpoint("10.0.2.1", HERE), endpoint("10.0.2.2", HERE)]);
    machine.apply(synced().into_iter().chain([put(dns()), endpoints(&[at(1), at(2)])]));
    machine.apply([put(service("other", "10.96.0.2")), put(other())]);
    machine.sync();
    taken::<V4>(&mut machine);
    assert_eq!(moved::<V4>(&mut machine, [endpoints(&[at(2), at(3)])]), rest);
    assert_eq!(machine.planner.refusals().count(), 1, "it leads to the one that is gone");
    machine.apply([Event::Service(Change::Delete(ObjectKey::new("default", "other")))]);
    while let Some(next) = machine.sync().next_release {
        assert_eq!(taken::<V4>(&mut machine), nothing, "the slots rest");
        machine.now = next;
    }
    assert_eq!(taken::<V4>(&mut machine), rest);
    assert_eq!(machine.planner.refusals().count(), 0);
}

#[test]
fn after_a_restart_every_udp_port_is_looked_at_once() {
    let facts = || [put(dns()), endpoints(&[at(2)])];
    let mut machine = machine(settings(), facts());
    taken::<V4>(&mut machine);
    machine.restart(crate::kernel::Names::Kept);
    machine.apply(synced());
    assert_eq!(moved::<V4>(&mut machine, facts()), [["10.0.1.2 8080"]]);
}
