//! What becomes of each kind of connection when the node is left to netfilter: whole, what is in the maps then, and what in its table.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use proxy_agent::kernel::{
    cleanup::{Farewell, cleanup},
    conntrack::Conntrack,
    drain::Drained,
    family::{MapFamily, Maps},
    pins,
};
use proxy_common::{
    Address, Flow, FlowFlags, FlowKey, Frontend, FrontendKey, Port, Proto, Route, ServiceId, V4, V6,
};

use crate::{
    conntrack::{RULES, list},
    stage::{Stage, eventually, on_a_node},
};

/// Client, Service, node and backend.
const FOUR: [&str; 4] = ["10.0.0.1", "10.96.0.1", "172.18.0.11", "10.244.1.7"];
const SIX: [&str; 4] = ["fd00::1", "fd00:96::1", "fd00:18::11", "fd00:244::7"];

type Key<F> = FlowKey<<F as proxy_common::Family>::Addr>;
type Tuple<'a> = (&'a str, u16, &'a str, u16);

fn key<F: MapFamily>((src, sport, dst, dport): Tuple<'_>) -> Key<F> {
    let ip = |text: &str| F::Addr::from_ip(text.parse::<IpAddr>().unwrap()).unwrap();
    FlowKey::new(ip(src), Port::new(sport), ip(dst), Port::new(dport), Proto::TCP)
}

/// Both entries of a connection of a Service, or of none, that leaves as it does to the other tuple.
fn entries<F: MapFamily>(
    client: Tuple<'_>,
    backend: Tuple<'_>,
    service: u32,
) -> [(Key<F>, Flow<F::Addr>); 2] {
    let (there, onward) = (key::<F>(client), key::<F>(backend));
    let forward = Flow { flags: FlowFlags::default(), service: ServiceId(service), ..Flow::plain(&onward) };
    let reply = Flow { flags: FlowFlags::REPLY, service: forward.service, ..Flow::plain(&there.reversed()) };
    [(there, Flow { route: Route::PEER, ..forward }), (onward.reversed(), reply)]
}

/// What is in a map: tuples and flags.
fn held<F: MapFamily>(maps: &Maps<F>) -> BTreeMap<Key<F>, FlowFlags> {
    maps.flows.entries().unwrap().into_iter().map(|(key, flow)| (key, flow.flags)).collect()
}

/// Somebody's whom netfilter has noted with this tuple, and whom it answers at another port, if it says so.
fn noted<F: MapFamily>(packets: Tuple<'_>, at: u16) {
    let key = key::<F>(packets);
    let flow = Flow { sport: Port::new(at), ..Flow::plain(&key) };
    Conntrack::open().unwrap().put(&key, &flow, 3_600).unwrap();
}

fn line((src, sport, dst, dport): Tuple<'_>, (back, bport, to, tport): Tuple<'_>) -> String {
    format!(
        "tcp 6 N ESTABLISHED src={src} dst={dst} sport={sport} dport={dport} src={back} dst={to} sport={bport} \
         dport={tport} [ASSURED] mark=0 use=1"
    )
}

/// What netfilter has, whatever time is left.
fn table(family: &str) -> Vec<String> {
    let timeless = |line: &String| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words[2] = "N";
        words.join(" ")
    };
    let mut lines: Vec<String> = list(family).iter().map(timeless).collect();
    lines.sort();
    lines
}

/// Puts one connection of each kind there, as it was judged at `epoch`; zero: there are no policies.
fn begin<F: MapFamily>(maps: &Maps<F>, epoch: u32, [client, service, node, backend]: [&str; 4]) {
    let from = |port| (client, port, service, 80);
    let masqueraded = |port| (node, port, backend, 8_080);
    let mut all = Vec::new();
    all.extend(entries::<F>(from(4_000), masqueraded(5_000), 7));
    // The node's own to the same backend, from the same port: it leaves by another. Netfilter has noted it as it was.
    all.extend(entries::<F>(masqueraded(5_000), masqueraded(6_000), 0));
    noted::<F>(masqueraded(5_000), 5_000);
    // A process of the node: it passes the stack, where netfilter has changed its port.
    let [(there, flow), back] = entries::<F>(from(4_001), (client, 4_001, node, 8_080), 7);
    all.extend([(there, Flow { route: Route::STACK, ..flow }), back]);
    noted::<F>((client, 4_001, node, 8_080), 7_001);
    // Over; its port is somebody else's by now.
    let closed =
        |(key, flow): (Key<F>, Flow<F::Addr>)| (key, Flow { flags: flow.flags.with(FlowFlags::FIN), ..flow });
    all.extend(entries::<F>(from(4_002), masqueraded(5_002), 7).map(closed));
    noted::<F>(masqueraded(5_002), 5_002);
    // Over, and nobody has its port.
    all.extend(entries::<F>(from(4_003), masqueraded(5_003), 7).map(closed));
    // Its packets come in a tunnel.
    let [there, (back, reply)] = entries::<F>(from(4_004), (client, 4_004, backend, 8_080), 7);
    all.extend([there, (back, Flow { flags: reply.flags.with(FlowFlags::TUNNEL), ..reply })]);
    for (key, flow) in all {
        maps.flows.put(&key, &Flow { epoch, ..flow }).unwrap();
    }
    for (key, flow) in entries::<F>(from(4_005), masqueraded(5_005), 7) {
        maps.half_open.put(&key, &flow).unwrap();
    }
}

/// What is in the maps afterwards, where there are no policies.
fn left<F: MapFamily>([client, service, node, backend]: [&str; 4]) -> BTreeMap<Key<F>, FlowFlags> {
    let (there, back) = (FlowFlags::default(), FlowFlags::REPLY);
    let (plain, answers) = (FlowFlags::PLAIN, FlowFlags::PLAIN.with(FlowFlags::REPLY));
    let fin = FlowFlags::FIN;
    let from = |port| key::<F>((client, port, service, 80));
    let to = |port| key::<F>((node, port, backend, 8_080));
    let tunnelled = key::<F>((client, 4_004, backend, 8_080));
    [
        (from(4_000), plain),
        (to(5_000).reversed(), answers),
        (to(5_000), plain),
        (to(6_000).reversed(), answers),
        (from(4_001), plain),
        (key::<F>((node, 8_080, client, 4_001)), answers),
        (from(4_002), there.with(fin)),
        (to(5_002).reversed(), back.with(fin)),
        (from(4_003), there.with(fin)),
        (to(5_003).reversed(), back.with(fin)),
        (from(4_004), there),
        (tunnelled.reversed(), back.with(FlowFlags::TUNNEL)),
    ]
    .into()
}

/// What is there besides, where there are policies.
fn judged<F: MapFamily>([client, service, node, backend]: [&str; 4]) -> BTreeMap<Key<F>, FlowFlags> {
    let (plain, answers) = (FlowFlags::PLAIN, FlowFlags::PLAIN.with(FlowFlags::REPLY));
    let from = |port| key::<F>((client, port, service, 80));
    let host = key::<F>((client, 7_001, node, 8_080));
    [
        (from(4_000).reversed(), answers),
        (key::<F>((node, 6_000, backend, 8_080)), plain),
        (from(4_001).reversed(), answers),
        (host, plain),
        (host.reversed(), answers),
    ]
    .into()
}

/// What netfilter has afterwards.
fn handed([client, service, node, backend]: [&str; 4]) -> Vec<String> {
    let from = |port| (client, port, service, 80);
    let answers = |port| (backend, 8_080, node, port);
    let own = |port| (node, port, backend, 8_080);
    let mut lines = vec![
        line(from(4_000), answers(5_000)),
        line(own(5_000), answers(6_000)),
        line(from(4_001), (node, 8_080, client, 7_001)),
        line(own(5_002), answers(5_002)),
        line(own(5_003), answers(5_003)),
        line(own(5_005), answers(5_005)),
    ];
    lines.sort();
    lines
}

fn drain(stage: &Stage) -> Drained {
    let (bpf_root, run_root) = (&stage.settings.bpf_root, &stage.settings.run_root);
    cleanup(bpf_root, run_root, Farewell::Drain(Duration::ZERO)).unwrap().drained.unwrap()
}

#[test]
fn each_connection_is_handed_on_as_it_leaves_the_node_and_its_packets_are_let_be() {
    on_a_node(|stage| {
        assert!(Command::new("nft").arg(RULES).status().unwrap().success());
        let kernel = stage.open();
        begin::<V4>(&kernel.maps().v4, 0, FOUR);
        begin::<V6>(&kernel.maps().v6, 3, SIX);
        // Maps stay as long as somebody has them open.
        let maps = pins::open(&stage.settings.bpf_root).unwrap();
        drop(kernel);
        assert_eq!(drain(stage), Drained { ended: 2, handed: 6, cut: 2 });
        assert_eq!(held(&maps.v4), left::<V4>(FOUR));
        let mut wanted = left::<V6>(SIX);
        wanted.extend(judged::<V6>(SIX));
        assert_eq!(held(&maps.v6), wanted);
        assert_eq!(table("ipv4"), handed(FOUR));
        assert_eq!(table("ipv6"), handed(SIX));
    });
}

/// A command that waits for connections to end. In the end it is killed, and another one does not wait.
struct Waiting {
    process: Child,
    bpf_root: PathBuf,
}

impl Waiting {
    fn begin(bpf_root: &Path) -> Self {
        let process = Self::command(bpf_root).arg("--drain=1h").spawn().unwrap();
        Self { process, bpf_root: bpf_root.to_owned() }
    }

    fn command(bpf_root: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxy-agent"));
        command.args(["cleanup", "--log-level=warn", "--bpf-root"]).arg(bpf_root);
        command
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = Self::command(&self.bpf_root).stdout(Stdio::null()).status();
    }
}

#[test]
fn what_netfilter_would_not_translate_is_translated_here_until_it_would() {
    on_a_node(|stage| {
        let kernel = stage.open();
        let tuples = ((FOUR[0], 4_000, FOUR[1], 80), (FOUR[2], 5_000, FOUR[3], 8_080));
        let connection = entries::<V4>(tuples.0, tuples.1, 7);
        let maps = &kernel.maps().v4;
        connection.iter().for_each(|(key, flow)| maps.flows.put(key, flow).unwrap());
        let frontend = FrontendKey::new(connection[0].0.dst, Port::new(80), Proto::TCP);
        maps.frontends.put(&frontend, &Frontend::default()).unwrap();
        let maps = pins::open(&stage.settings.bpf_root).unwrap().v4;
        drop(kernel);
        let _waiting = Waiting::begin(&stage.settings.bpf_root);
        eventually("frontends are gone", || maps.frontends.entries().unwrap().is_empty().then_some(()));
        let translated: BTreeMap<_, _> = connection.map(|(key, flow)| (key, flow.flags)).into();
        assert_eq!(held(&maps), translated);
        assert_eq!(table("ipv4"), [""; 0]);
        assert!(Command::new("nft").arg(RULES).status().unwrap().success());
        eventually("netfilter has it", || {
            (table("ipv4") == [line(tuples.0, (FOUR[3], 8_080, FOUR[2], 5_000))]).then_some(())
        });
        eventually("its packets are let be", || {
            held(&maps).values().all(|flags| flags.has(FlowFlags::PLAIN)).then_some(())
        });
    });
}
