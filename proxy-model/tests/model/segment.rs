//! Segments, ids and write order as a client of the maps sees them.

use proxy_common::{Port, Proto, ServiceId, V4};
use proxy_model::fact::TrafficPolicy::{Cluster, Local};
use proxy_model::fact::{Change, Endpoint, EndpointSlice, Event, Service, ServicePort, SlicePort};
use proxy_model::plan::GRACE_MILLIS;
use proxy_model::{Changed, ObjectKey, Write};

use crate::fixture::*;
use crate::kernel::Machine;
use crate::reference::Seen;

fn endpoints(lasts: std::ops::RangeInclusive<u8>) -> Vec<Endpoint> {
    lasts.map(|last| endpoint(&format!("10.0.1.{last}"), HERE)).collect()
}

fn web(lasts: std::ops::RangeInclusive<u8>) -> Event {
    put(slice("web", "web", endpoints(lasts)))
}

fn slots_written(plan: &proxy_model::Plan) -> Vec<(u32, usize)> {
    let of_slots = |write: &Write<V4>| match write {
        Write::Slots { start, slots } => Some((*start, slots.len())),
        Write::PutFrontend { .. }
        | Write::DeleteFrontend { .. }
        | Write::PutRange { .. }
        | Write::DeleteRange { .. } => None,
    };
    plan.v4.iter().filter_map(of_slots).collect()
}

#[test]
fn all_frontends_of_a_port_share_one_segment_even_where_all_endpoints_are_local() {
    let mut machine = machine(settings(), [put(exposed("web", 1, Cluster, Local))]);
    machine.apply([web(1..=3)]);
    let plan = machine.sync();
    assert_eq!(slots_written(&plan), [(0, 3)]);
    assert_eq!(plan.v4.len(), 1 + 4 + 1, "and the address answers pings from now on");
}

#[test]
fn nothing_is_written_while_nothing_differs() {
    let mut machine = machine(settings(), [put(exposed("web", 1, Cluster, Local)), web(1..=3)]);
    assert_eq!(machine.world.apply(web(1..=3)), Changed::No);
    // A change that comes to nothing: another slice with the same endpoint, conditions that do not count.
    machine.apply([put(slice("twin", "web", endpoints(2..=2)))]);
    machine.apply([put(slice("late", "web", vec![not_ready(endpoint("10.0.1.9", HERE))]))]);
    assert!(machine.sync().is_empty());
}

#[test]
fn a_change_writes_a_new_segment_and_one_entry_per_frontend_that_uses_it() {
    let other = put(service("other", "10.96.0.9"));
    let mut machine = machine(settings(), [put(service("web", "10.96.0.1")), web(1..=3), other]);
    let generation = |machine: &Machine| machine.v4.frontends.values().nth(1).unwrap().generation;
    let before = generation(&machine);
    machine.apply([web(1..=2)]);
    let plan = machine.sync();
    assert_eq!((slots_written(&plan), plan.v4.len()), (vec![(3, 2)], 2));
    assert!(generation(&machine) > before);
}

#[test]
fn slots_rest_before_they_are_used_again_and_a_resting_segment_is_taken_up_again() {
    let mut machine = machine(settings(), [put(service("web", "10.96.0.1")), web(1..=3)]);
    machine.apply([web(1..=2)]);
    assert_eq!(slots_written(&machine.sync()), [(3, 2)]);
    // The list of before still rests: no slot is written.
    machine.apply([web(1..=3)]);
    let plan = machine.sync();
    assert_eq!((slots_written(&plan), plan.v4.len()), (vec![], 1));
    machine.apply([web(1..=4)]);
    assert_eq!(slots_written(&machine.sync()), [(5, 4)]);
    // The grace period begins at the plan after the one that let go.
    machine.now = machine.now.after(GRACE_MILLIS);
    machine.apply([web(1..=1)]);
    assert_eq!(slots_written(&machine.sync()), [(3, 1)], "let go two plans ago");
    machine.now = machine.now.after(GRACE_MILLIS - 1);
    machine.apply([web(2..=4)]);
    assert_eq!(slots_written(&machine.sync()), [(9, 3)], "let go one plan ago");
    machine.now = machine.now.after(1);
    machine.apply([web(3..=5)]);
    assert_eq!(slots_written(&machine.sync()), [(0, 3)]);
}

#[test]
fn a_failed_write_is_made_again_and_nothing_in_between_is_seen() {
    for failing in 1..=6 {
        let mut machine = machine(settings(), [put(exposed("web", 1, Cluster, Local)), web(1..=3)]);
        let gone = put(Service { external_ips: vec![], ..exposed("web", 1, Cluster, Local) });
        machine.apply([gone, put(slice("far", "web", vec![endpoint("10.0.2.1", THERE)]))]);
        let plan = machine.sync_with_failures(&|number| number == failing);
        assert_eq!(plan.v4.len(), 5, "slots, three entries, one deletion");
        // The kernel checks each step; after the retry all is as it would have been.
        let retry = machine.sync();
        assert_eq!(retry.is_empty(), failing > plan.v4.len(), "write {failing}");
        assert!(machine.sync().is_empty());
        let all = backends(Seen::Client, &["10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.2.1"]);
        assert_eq!(machine.tcp(POD, "10.96.0.1", 80), all, "write {failing}");
        assert_eq!(machine.tcp(POD, "198.51.100.1", 80), crate::reference::Verdict::Pass);
    }
}

#[test]
fn a_port_that_moves_answers_throughout() {
    let mut machine = machine(settings(), [put(service("web", "10.96.0.1")), web(1..=1)]);
    let moved = ServicePort { port: Port::new(81), ..port() };
    machine.apply([put(Service { ports: vec![moved], ..service("web", "10.96.0.1") })]);
    let plan = machine.sync();
    let kinds: Vec<_> = plan
        .v4
        .iter()
        .map(|write| match write {
            Write::Slots { .. } => "slots".to_owned(),
            Write::PutFrontend { key, .. } => format!("put {}", key.port),
            Write::DeleteFrontend { key } => format!("delete {}", key.port),
            Write::PutRange { .. } | Write::DeleteRange { .. } => "range".to_owned(),
        })
        .collect();
    assert_eq!(kinds, ["put 81", "delete 80"]);
}

#[test]
fn a_wildcard_comes_after_and_goes_before_its_frontends() {
    let mut machine = machine(settings(), []);
    let ports = |plan: &proxy_model::Plan| -> Vec<u16> {
        let port = |write: &Write<V4>| match write {
            Write::Slots { .. } | Write::PutRange { .. } | Write::DeleteRange { .. } => None,
            Write::PutFrontend { key, .. } | Write::DeleteFrontend { key } => Some(key.port.number()),
        };
        plan.v4.iter().filter_map(port).collect()
    };
    machine.apply([put(service("web", "10.96.0.1"))]);
    assert_eq!(ports(&machine.sync()), [80, 0]);
    machine.apply([Event::Service(Change::Delete(ObjectKey::new("default", "web")))]);
    assert_eq!(ports(&machine.sync()), [0, 80]);
}

fn ids(machine: &Machine) -> Vec<(u32, String)> {
    machine.planner.names().map(|(id, name)| (id.0, name.to_string())).collect()
}

#[test]
fn ids_are_the_smallest_free_ones_stay_with_their_port_and_rest_after_it() {
    let mut machine = machine(settings(), [put(service("a", "10.96.0.1")), put(service("b", "10.96.0.2"))]);
    assert_eq!(ids(&machine), [(1, "default/a:/TCP/ipv4".into()), (2, "default/b:/TCP/ipv4".into())]);
    machine.apply([
        Event::Service(Change::Delete(ObjectKey::new("default", "a"))),
        put(service("c", "10.96.0.3")),
    ]);
    machine.sync();
    assert_eq!(ids(&machine), [(2, "default/b:/TCP/ipv4".into()), (3, "default/c:/TCP/ipv4".into())]);
    machine.now = machine.now.after(GRACE_MILLIS);
    machine.apply([put(service("d", "10.96.0.4"))]);
    machine.sync();
    assert_eq!(ids(&machine).first(), Some(&(1, "default/d:/TCP/ipv4".into())));
    let name = ids(&machine)[0].1.parse().unwrap();
    assert_eq!(machine.planner.id(&name), Some(ServiceId(1)));
}

#[test]
fn item_96_each_port_protocol_and_family_has_its_own_id() {
    let ports = [Proto::TCP, Proto::UDP].map(|proto| ServicePort { proto, ..port() }).to_vec();
    let dual = Service {
        cluster_ips: vec![ip("10.96.0.1"), ip("fd00:96::1")],
        ports,
        ..service("web", "10.96.0.1")
    };
    let names: Vec<_> = ids(&machine(settings(), [put(dual)])).into_iter().map(|(_, name)| name).collect();
    assert_eq!(
        names,
        ["default/web:/TCP/ipv4", "default/web:/UDP/ipv4", "default/web:/TCP/ipv6", "default/web:/UDP/ipv6"]
    );
}

#[test]
fn equal_lists_of_two_ports_share_one_segment() {
    let names = ["http", "also-http"];
    let ports = names.iter().zip(80..).map(|(name, number)| ServicePort {
        name: (*name).into(),
        port: Port::new(number),
        ..port()
    });
    let slice_port =
        |name: &str| SlicePort { name: Some(name.into()), proto: Proto::TCP, port: Some(Port::new(8080)) };
    let slice =
        EndpointSlice { ports: names.map(slice_port).to_vec(), ..slice("web", "web", endpoints(1..=3)) };
    let service = Service { ports: ports.collect(), ..service("web", "10.96.0.1") };
    let mut machine = machine(settings(), [put(slice)]);
    machine.apply([put(service)]);
    assert_eq!(slots_written(&machine.sync()), [(0, 3)]);
}
