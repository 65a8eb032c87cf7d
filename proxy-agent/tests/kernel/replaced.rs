//! Packets that ask while the agent replaces what they ask for: whatever the one finds that the other writes anew, without a
//! change, is found as if nobody wrote (`docs/decisions/0049-*`). The kernel's own lookup misses an element that is being
//! replaced, several times in a run of the first test if nobody looks twice.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    thread,
};

use aya::{
    maps::{Array, Map, MapData},
    programs::{SchedClassifier, TcAttachType, TestRun as _, TestRunOptions},
};
use proxy_agent::kernel::{
    Kernel, Sizes, SocketRoad,
    pins::{self, Pins},
};
use proxy_common::{
    Addr4, Addr6, Address, ClientRule, Family, Frontend, FrontendFlags, FrontendKey, Port, Proto, Reason,
    ServiceId, V4, V6,
};
use proxy_model::{Plan, Write};

use crate::{
    audit::served,
    stage::{Stage, eventually, index, on_a_node},
};

/// Rounds of the agent's, in each of which it writes everything once: some lookups miss.
const ROUNDS: u32 = 12_000;
/// Of those, how many may miss again. Here a frontend is replaced every tenth of a millisecond, so that is likely enough if the
/// machine's own processors are taken away from it for that long.
const MISSED_TWICE: u64 = 1;
/// Packets that are run by one call.
const REPEAT: u32 = 2_000;

/// A datagram.
struct Datagram<A> {
    from: A,
    to: A,
    port: Port,
}

impl<A: Address> Datagram<A> {
    /// An Ethernet frame of it, which nobody answers: its checksums are nothing.
    fn frame(&self) -> Vec<u8> {
        let (from, to) = (bytes(self.from), bytes(self.to));
        let mut frame = vec![2; 12];
        if A::WORDS == 1 {
            frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0]);
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 17, 64]);
        }
        frame.extend(from.into_iter().chain(to));
        frame.extend([0x9c, 0x40]);
        frame.extend(self.port.number().to_be_bytes());
        frame.extend([0, 20, 0, 0]);
        frame.extend([0; 12]);
        frame
    }
}

fn bytes<A: Address>(addr: A) -> Vec<u8> {
    match addr.to_ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The agent's programs, run by hand.
struct Pod {
    program: SchedClassifier,
    device: u32,
}

impl Pod {
    /// What a pod of the stage sends by.
    fn of(stage: &Stage, kernel: &mut Kernel, device: &str) -> Self {
        stage.pod(device);
        served(stage, kernel);
        let (_, programs) = SchedClassifier::query_tcx(device, TcAttachType::Ingress).unwrap();
        let [program] = <[_; 1]>::try_from(programs).expect("one program at the hook");
        let program = SchedClassifier::from_program_info(program, "from_pod".into()).unwrap();
        Self { program, device: index(device) }
    }

    fn send(&self, frame: &[u8]) {
        const IFINDEX: usize = 40;
        let mut context = [0; 192];
        context[IFINDEX..IFINDEX + 4].copy_from_slice(&self.device.to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            repeat: REPEAT,
            ..TestRunOptions::default()
        };
        self.program.test_run(options).unwrap();
    }
}

/// Runs the frames over and over while the agent makes its writes; gives how many packets ended for which reason.
fn contest(
    stage: &Stage,
    kernel: &mut Kernel,
    pod: &Pod,
    frames: &[Vec<u8>],
    mut write: impl FnMut(&mut Kernel) + Send,
) -> BTreeMap<Reason, u64> {
    let pinned = pins::open(&stage.settings.bpf_root).unwrap();
    let before: BTreeMap<_, _> = pinned.counters().unwrap().into_iter().collect();
    let (rounds, mut sent) = (AtomicU32::new(0), 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                write(kernel);
                rounds.store(round, Relaxed);
            }
        });
        for frame in frames.iter().cycle() {
            pod.send(frame);
            sent += u64::from(REPEAT);
            if rounds.load(Relaxed) == ROUNDS {
                break;
            }
        }
    });
    let counted = pinned.counters().unwrap().into_iter();
    let ended: BTreeMap<_, _> = counted
        .map(|(reason, count)| (reason, count - before[&reason]))
        .filter(|(_, count)| *count != 0)
        .collect();
    assert_eq!(ended.values().sum::<u64>(), sent, "{ended:?}");
    ended
}

/// Frontends in the map, which has room for no more: the fewer, the more often is each of them replaced.
const FRONTENDS: u16 = 128;

fn frontends<A: Address>(vip: A) -> Vec<(FrontendKey<A>, Frontend)> {
    let frontend = Frontend {
        service: ServiceId(1),
        generation: 1,
        // Ends with the decision, and makes no entry by which the next one would pass.
        rules: [ClientRule::LOCAL.with(ClientRule::DROP_IF_EMPTY); 3],
        flags: FrontendFlags::CLUSTER_IP,
        ..Frontend::default()
    };
    let wildcard = Frontend { flags: FrontendFlags::WILDCARD, ..Frontend::default() };
    let ports = (1..FRONTENDS).map(|port| (FrontendKey::new(vip, Port::new(port), Proto::UDP), frontend));
    ports.chain([(FrontendKey::wildcard(vip), wildcard)]).collect()
}

fn puts<F: Family>(vip: F::Addr) -> Vec<Write<F>> {
    frontends(vip).into_iter().map(|(key, value)| Write::PutFrontend { key, value }).collect()
}

fn ask<A: Address>(from: A, to: A) -> Vec<Vec<u8>> {
    (1..FRONTENDS).map(|port| Datagram { from, to, port: Port::new(port) }.frame()).collect()
}

#[test]
fn no_connection_is_refused_because_its_frontend_is_replaced_just_then() {
    on_a_node(|stage| {
        stage.settings.socket_road = SocketRoad::Off;
        stage.settings.sizes = Sizes { frontends: u32::from(FRONTENDS), ..stage.settings.sizes };
        let mut kernel = stage.open();
        let pod = Pod::of(stage, &mut kernel, "pod0");
        let plan = Plan { v4: puts::<V4>(v4(96, 1)), v6: puts::<V6>(v6(96, 1)), ..Plan::default() };
        for frames in [ask(v4(244, 7), v4(96, 1)), ask(v6(244, 7), v6(96, 1))] {
            assert!(kernel.apply(&plan).is_complete());
            let ended = contest(stage, &mut kernel, &pod, &frames, |kernel| {
                assert!(kernel.apply(&plan).is_complete());
            });
            let refused = ended.get(&Reason::UnknownPort).copied().unwrap_or_default();
            assert!(refused <= MISSED_TWICE, "{ended:?}");
            // What a refused packet becomes is what is left of its call.
            let left = ended.get(&Reason::NoPorts).copied().unwrap_or_default();
            let most = refused * u64::from(REPEAT);
            assert!(left <= most && ended[&Reason::NoLocalEndpoints] > most, "{ended:?}");
            let expected = [Reason::NoPorts, Reason::UnknownPort, Reason::NoLocalEndpoints];
            assert!(ended.keys().all(|reason| expected.contains(reason)), "{ended:?}");
        }
    });
}

/// Questions that the agent, or `proxyctl`, asks while another writes.
const QUESTIONS: u32 = 1_000_000;

#[test]
fn who_asks_by_a_call_finds_what_is_replaced_just_then() {
    on_a_node(|stage| {
        stage.settings.sizes = Sizes { frontends: 64, ..stage.settings.sizes };
        let kernel = stage.open();
        let (table, entries) = (&kernel.maps().v4.frontends, &frontends(v4(96, 1))[..64]);
        let write = || entries.iter().for_each(|(key, value)| table.put(key, value).unwrap());
        write();
        let is_asked = AtomicBool::new(true);
        let missed = thread::scope(|scope| {
            scope.spawn(|| {
                while is_asked.load(Relaxed) {
                    write();
                }
            });
            let ask = entries.iter().cycle().take(QUESTIONS as usize);
            let missed = ask.filter(|(key, _)| !matches!(table.get(key), Ok(Some(_)))).count();
            is_asked.store(false, Relaxed);
            missed
        });
        assert_eq!(missed, 0, "of {QUESTIONS}");
    });
}

/// What the programs read.
fn word(stage: &Stage) -> Array<MapData, u32> {
    let pin = Pins::below(&stage.settings.bpf_root).map("replacing");
    Array::try_from(Map::Array(MapData::from_pin(pin).unwrap())).unwrap()
}

#[test]
fn the_programs_are_told_until_nobody_runs_any_more_who_could_have_missed_something() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let settled = || eventually("settled", || (word(stage).get(&0, 0).unwrap() == 0).then_some(()));
        settled();
        assert!(kernel.apply(&Plan { v4: puts::<V4>(v4(96, 1)), ..Plan::default() }).is_complete());
        settled();
        drop(kernel);
        // As an agent leaves it that is ended in the middle of a write.
        word(stage).set(0, 3, 0).unwrap();
        drop(stage.open());
        settled();
    });
}

fn v4(net: u8, last: u8) -> Addr4 {
    Ipv4Addr::new(10, net, 0, last).into()
}

fn v6(net: u16, last: u16) -> Addr6 {
    Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, last).into()
}
