//! Policies on packets: who may begin what with whom, at which hook that is decided, and what is remembered of it.

mod again;
mod connection;
mod foreign;
mod group;
mod notice;
mod portless;
mod precedent;
mod recent;
mod translated;

use proxy_common::{
    Proto, RuleSetId,
    policy::{Effect, PolicyFlags},
};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use tests::dataplane::{Dataplane, Hook, Run, config, ip};
use tests::packet::addr;
use tests::policy::allow;

use crate::family::Names;

/// Index of the policed pod's veth.
const POD: u32 = 7;
/// Index of another pod's.
const OTHER: u32 = 8;
/// Where packets come in from outside.
const WIRE: u32 = 9;

/// A rule set, and the class of those it lets in.
const RULES: RuleSetId = RuleSetId(0x1111);
/// Another.
const OTHER_RULES: RuleSetId = RuleSetId(0x2222);
/// Class of friends.
const FRIENDS: u64 = 0xf;
/// The rule that lets friends in.
const RULE: u64 = 0xa;
/// What isolation denies.
const NOBODY: (Effect, u64) = (Effect::DENY, 0);

/// A namespace with the devices of two pods and a wire. The thread stays on its processor: what was found a moment ago is known
/// to the programs of one processor and not of another.
fn world() -> Dataplane {
    let mut here = CpuSet::new();
    here.set(sched_getcpu());
    sched_setaffinity(None, &here).expect("a thread may stay where it is");
    let dataplane = Dataplane::new(config());
    for index in [POD, OTHER, WIRE] {
        ip(&format!("link add name d{index} index {index} type veth peer name p{index}"));
        ip(&format!("link set d{index} up"));
    }
    dataplane
}

fn host(name: &str) -> String {
    addr(name).ip().to_string()
}

/// The policed pod may send friends TCP and UDP to port 8080, and get it from them at any port from 8080 to 8090.
fn isolate(dataplane: &mut Dataplane, pod: &str, friend: &str) {
    dataplane.put_under(&host(pod), RULES, OTHER_RULES, POD);
    dataplane.class(&host(friend), FRIENDS);
    for rules in [RULES, OTHER_RULES] {
        let says: Vec<_> =
            [Proto::TCP, Proto::UDP, Proto::SCTP].map(|proto| allow(proto, 8080, 8090, RULE)).into();
        dataplane.say(rules, FRIENDS, &says, NOBODY);
    }
    dataplane.enforce(1, PolicyFlags::default());
}

/// The packet leaves the policed pod.
pub(crate) fn leave(dataplane: &mut Dataplane, bytes: &[u8]) -> Run {
    dataplane.run_at("from_pod", Hook { device: POD, arrived_by: POD }, bytes)
}

/// The packet has come by the wire and enters the policed pod.
fn enter(dataplane: &mut Dataplane, bytes: &[u8]) -> Run {
    dataplane.run_at("to_pod", Hook { device: POD, arrived_by: WIRE }, bytes)
}

/// A process of the node sends the packet into the policed pod.
fn enter_from_node(dataplane: &mut Dataplane, bytes: &[u8]) -> Run {
    dataplane.run_at("to_pod", Hook { device: POD, arrived_by: 0 }, bytes)
}

/// The packet arrives at the node; by the loopback device, which takes any frame for its own.
fn arrive(dataplane: &mut Dataplane, bytes: &[u8]) -> Run {
    dataplane.run_at("from_wire", Hook { device: 1, arrived_by: 1 }, bytes)
}

/// Both entries of a connection that is only judged.
fn plain_entries(client: &str, server: &str, proto: &str) -> Vec<String> {
    let mut lines = vec![
        format!("{client} > {server} {proto} = {client} > {server} {{plain}} stack service 0 generation 0"),
        format!(
            "{server} > {client} {proto} = {server} > {client} {{reply, plain}} stack service 0 generation 0"
        ),
    ];
    lines.sort_unstable();
    lines
}

/// The names of a case with the policed pod as the client of the backend, who is its friend.
pub(crate) fn friends(n: &Names) -> Dataplane {
    let mut dataplane = world();
    isolate(&mut dataplane, n.client, n.backend);
    dataplane
}
