//! Packets on their way into a pod that a program has seen where they came in (decision 0035).

use proxy_common::{Proto, Reason, limits::HOOKED, policy::PolicyFlags};
use tests::dataplane::{Dataplane, Hook, Run, config, ip};
use tests::object::{self, Cell};
use tests::packet::{Packet, flags};

use crate::family::{FAMILIES, next};

/// Indices of devices: the pod's, one that packets come in by, and one with the same place in the map.
const POD: u32 = 7;
const WIRE: u32 = 9;
const NAMESAKE: u32 = WIRE + HOOKED;

/// Says that a program of ours sees what comes in by this device.
fn add_hooked(dataplane: &mut Dataplane, index: u32) {
    let mut hooked = object::array::<u32>(dataplane.object(), "hooked");
    hooked.set(index % HOOKED, Cell(index), 0).expect("every index has a place");
}

fn enter(dataplane: &mut Dataplane, arrived_by: u32, packet: &Packet) -> Run {
    dataplane.run_at("to_pod", Hook { device: POD, arrived_by }, &packet.bytes())
}

#[test]
fn what_was_seen_where_it_came_in_enters_a_pod_as_it_is_unless_there_are_policies() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        for index in [POD, WIRE, NAMESAKE] {
            ip(&format!("link add name d{index} index {index} type veth peer name p{index}"));
            ip(&format!("link set d{index} up"));
        }
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
        let syn = Packet::tcp(flags::SYN, n.client, n.vip);
        let opened = dataplane.run_at("from_pod", Hook { device: POD, arrived_by: POD }, &syn.bytes());
        assert_eq!(opened.reason, Reason::ServiceNew);
        let answer = Packet::tcp(flags::SYN_ACK, n.backend, n.client);
        let translated = next(Reason::FlowReply, &answer.between(n.vip, n.client));
        // Nobody has seen it: it is translated here.
        assert_eq!(enter(&mut dataplane, WIRE, &answer), translated);
        add_hooked(&mut dataplane, WIRE);
        assert_eq!(enter(&mut dataplane, WIRE, &answer), next(Reason::Seen, &answer));
        for query in [Packet::udp(n.stranger, n.client), Packet::tcp(flags::ACK, n.stranger, n.client)] {
            assert_eq!(enter(&mut dataplane, WIRE, &query), next(Reason::Seen, &query));
        }
        // By another device, with the same place, or by none.
        assert_eq!(enter(&mut dataplane, NAMESAKE, &answer), translated);
        assert_eq!(enter(&mut dataplane, 0, &answer), translated);
        // A connection may have to be judged.
        dataplane.enforce(1, PolicyFlags::default());
        assert_eq!(enter(&mut dataplane, WIRE, &answer), translated);
    }
}
