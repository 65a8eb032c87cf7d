//! UDP clients are moved when their backend is gone: entries of flows go, and connected sockets are closed, those of
//! this node and those of pods (items 101–105).

use std::{
    io::{BufRead, BufReader, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
};

use proxy_agent::kernel::{Caretaker, Kernel, LetGo, Maps, map::Table};
use proxy_common::{
    Addr4, Addr6, Address, Backend, BackendFlags, Family, Flow, FlowFlags, FlowKey, Frontend, FrontendFlags,
    FrontendKey, Port, Proto, Segment, ServiceId, V4, V6,
};
use proxy_model::{Moved, Plan, Write};

use crate::stage::{Stage, on_a_node, run};

const PORT: Port = Port::new(8_080);

fn ip(host: u8) -> Addr4 {
    Ipv4Addr::new(127, 0, 0, host).into()
}

/// Addresses of servers and Services: on the loopback device of every namespace, so that each can be connected to.
trait Host: Family {
    fn host(host: u8) -> Self::Addr;
    fn push(plan: &mut Plan, write: Write<Self>);
    fn maps(kernel: &Kernel) -> &Maps<Self>;
    /// Tells who was moved in this family, and nobody in the other.
    fn let_go(caretaker: &Caretaker, moved: &Moved<Self>) -> LetGo;
    /// The same of those that were carried.
    fn look_again(caretaker: &Caretaker, moved: &Moved<Self>) -> LetGo;
}

impl Host for V4 {
    fn host(host: u8) -> Addr4 {
        ip(host)
    }

    fn push(plan: &mut Plan, write: Write<Self>) {
        plan.v4.push(write);
    }

    fn maps(kernel: &Kernel) -> &Maps<Self> {
        &kernel.maps().v4
    }

    fn let_go(caretaker: &Caretaker, moved: &Moved<Self>) -> LetGo {
        let (gone, result) = caretaker.let_go(moved, &Moved::<V6>::new());
        result.unwrap();
        gone
    }

    fn look_again(caretaker: &Caretaker, moved: &Moved<Self>) -> LetGo {
        let (gone, result) = caretaker.let_go_of_carried(moved, &Moved::<V6>::new());
        result.unwrap();
        gone
    }
}

impl Host for V6 {
    fn host(host: u8) -> Addr6 {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into()).into()
    }

    fn push(plan: &mut Plan, write: Write<Self>) {
        plan.v6.push(write);
    }

    fn maps(kernel: &Kernel) -> &Maps<Self> {
        &kernel.maps().v6
    }

    fn let_go(caretaker: &Caretaker, moved: &Moved<Self>) -> LetGo {
        let (gone, result) = caretaker.let_go(&Moved::<V4>::new(), moved);
        result.unwrap();
        gone
    }

    fn look_again(caretaker: &Caretaker, moved: &Moved<Self>) -> LetGo {
        let (gone, result) = caretaker.let_go_of_carried(&Moved::<V4>::new(), moved);
        result.unwrap();
        gone
    }
}

/// Service `id` at host `id`, port 53, leads to host `backend`, port 8080.
fn serve<F: Host>(kernel: &mut Kernel, id: u32, backend: u8) {
    let mut plan = Plan::default();
    let slot = Backend::new(F::host(backend), PORT, BackendFlags::LOCAL);
    F::push(&mut plan, Write::Slots { start: id, slots: vec![slot] });
    let cluster = Segment { start: id, len: 1 };
    let value = Frontend { service: ServiceId(id), cluster, ..Frontend::default() };
    let key = FrontendKey::new(F::host(id as u8), Port::new(53), Proto::UDP);
    F::push(&mut plan, Write::PutFrontend { key, value });
    assert!(kernel.apply(&plan).is_complete());
}

/// A shell below the cgroup root with a connected UDP socket, which sends when it is told to.
struct Client {
    shell: Child,
    tell: ChildStdin,
}

impl Client {
    /// `words` run the shell, in whatever namespace.
    fn connect<F: Host>(stage: &Stage, words: &[&str], service: u8) -> Self {
        let procs = stage.settings.cgroup_root.join("cgroup.procs");
        let to = F::host(service).to_ip();
        let script = format!(
            "echo $$ > {} && exec 3<>/dev/udp/{to}/53 && echo connected && read && echo hello >&3",
            procs.display()
        );
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["bash", "-c", &script]);
        let mut shell =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "connected\n");
        let tell = shell.stdin.take().unwrap();
        Self { shell, tell }
    }

    /// Where its socket sends from.
    fn place<F: Host>(&self) -> (F::Addr, Port) {
        let netns = format!("--net=/proc/{}/ns/net", self.shell.id());
        let words = ["ss", "--udp", "--numeric", "--no-header", "state", "established"];
        // Queues, then addresses.
        let sockets = run(&[&["nsenter", &netns], &words[..]].concat());
        let place: SocketAddr = sockets.split_whitespace().nth(2).unwrap().parse().unwrap();
        (F::Addr::from_ip(place.ip()).unwrap(), Port::new(place.port()))
    }

    /// Whether its socket can still send.
    fn sends(mut self) -> bool {
        writeln!(self.tell).unwrap();
        self.shell.wait().unwrap().success()
    }
}

fn moved<F: Host>(service: u32, servers: &[u8]) -> Moved<F> {
    let servers: Arc<[_]> = servers.iter().map(|host| (F::host(*host), PORT)).collect();
    [(ServiceId(service), servers)].into()
}

/// The words that run a command in a pod's namespace, whose loopback device has the addresses of Services and servers.
fn pod(stage: &Stage) -> Vec<String> {
    let netns = format!("--net=/run/netns/{}", stage.peer());
    run(&["nsenter", &netns, "ip", "link", "set", "lo", "up"]);
    for command in [&["nsenter", netns.as_str(), "ip"][..], &["ip"]] {
        for host in [1, 2, 3, 200, 201] {
            let address = format!("{}/128", V6::host(host).to_ip());
            run(&[command, &["-6", "addr", "add", &address, "dev", "lo", "nodad"]].concat());
        }
    }
    vec!["nsenter".into(), netns]
}

fn in_every_namespace<F: Host>() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        for service in [1, 2] {
            serve::<F>(&mut kernel, service, 200);
        }
        let there = pod(stage);
        let there: Vec<&str> = there.iter().map(String::as_str).collect();
        let of_node = Client::connect::<F>(stage, &["env"], 1);
        let of_pod = Client::connect::<F>(stage, &there, 1);
        let of_other_service = Client::connect::<F>(stage, &there, 2);
        let caretaker = kernel.caretaker().unwrap();

        let stays = F::let_go(&caretaker, &moved::<F>(1, &[200, 201]));
        assert_eq!(stays, LetGo::default(), "the backend still serves");
        let gone = F::let_go(&caretaker, &moved::<F>(1, &[201]));
        assert_eq!(gone, LetGo { sockets: 2, ..LetGo::default() });
        assert_eq!([of_node, of_pod, of_other_service].map(Client::sends), [false, false, true]);
    });
}

#[test]
fn connected_ipv4_sockets_of_a_backend_that_is_gone_are_closed_in_every_namespace() {
    in_every_namespace::<V4>();
}

#[test]
fn connected_ipv6_sockets_of_a_backend_that_is_gone_are_closed_in_every_namespace() {
    in_every_namespace::<V6>();
}

/// Item 104: what began before there was a Service, or anybody behind it, recovers.
fn began_too_early<F: Host>() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let there = pod(stage);
        let there: Vec<&str> = there.iter().map(String::as_str).collect();
        let of_node = Client::connect::<F>(stage, &["env"], 3);
        let of_pod = Client::connect::<F>(stage, &there, 3);
        let of_nobody = Client::connect::<F>(stage, &there, 2);
        serve::<F>(&mut kernel, 3, 200);
        let gone = F::let_go(&kernel.caretaker().unwrap(), &moved::<F>(3, &[200]));
        assert_eq!(gone, LetGo { sockets: 2, ..LetGo::default() });
        assert_eq!([of_node, of_pod, of_nobody].map(Client::sends), [false, false, true]);
        let anew = Client::connect::<F>(stage, &there, 3);
        assert_eq!(F::let_go(&kernel.caretaker().unwrap(), &moved::<F>(3, &[200])), LetGo::default());
        assert!(anew.sends(), "it was given a backend");
    });
}

#[test]
fn item_104_ipv4_sockets_that_connected_before_their_service_was_known_are_closed() {
    began_too_early::<V4>();
}

#[test]
fn item_104_ipv6_sockets_that_connected_before_their_service_was_known_are_closed() {
    began_too_early::<V6>();
}

/// Both entries of a flow.
type Pair<F> = [(FlowKey<<F as Family>::Addr>, Flow<<F as Family>::Addr>); 2];

/// A flow to host `id`, port `port`, that is judged and not translated.
fn judged<F: Host>((addr, from): (F::Addr, Port), id: u8, port: u16) -> Pair<F> {
    let there = FlowKey::new(addr, from, F::host(id), Port::new(port), Proto::UDP);
    let back = there.reversed();
    let flags = FlowFlags::PLAIN.with(FlowFlags::REPLY);
    [(there, Flow::plain(&there)), (back, Flow { flags, ..Flow::plain(&back) })]
}

/// Item 104: what was judged before the Service was known is judged anew, and led to it.
fn judged_too_early<F: Host>() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        serve::<F>(&mut kernel, 3, 200);
        let maps = F::maps(&kernel);
        let ranges = FrontendKey::new(F::host(3), Port::new(54), Proto::UDP);
        let limited = Frontend { service: ServiceId(3), flags: FrontendFlags::RANGES, ..Frontend::default() };
        maps.frontends.put(&ranges, &limited).unwrap();
        let client = (F::host(9), Port::new(4_000));
        let early = judged::<F>(client, 3, 53);
        let others = [judged::<F>(client, 3, 54), judged::<F>(client, 3, 55), judged::<F>(client, 2, 53)];
        for table in [&maps.half_open, &maps.flows] {
            for (key, flow) in early.iter().chain(others.as_flattened()) {
                table.put(key, flow).unwrap();
            }
        }

        let gone = F::let_go(&kernel.caretaker().unwrap(), &moved::<F>(3, &[200]));
        assert_eq!(gone, LetGo { flows: 1, half_open: 1, ..LetGo::default() });
        let [_, (back, answer)] = early;
        let heard_out = (back, Flow { flags: answer.flags.with(FlowFlags::BRIEF), ..answer });
        let mut expected = [others.as_flattened(), &[heard_out]].concat();
        expected.sort_by_key(|(key, _)| *key);
        for table in [&maps.half_open, &maps.flows] {
            let mut left = table.entries().unwrap();
            left.sort_by_key(|(key, _)| *key);
            assert_eq!(left, expected);
        }
    });
}

#[test]
fn item_104_ipv4_flows_that_were_judged_before_their_service_was_known_end() {
    judged_too_early::<V4>();
}

#[test]
fn item_104_ipv6_flows_that_were_judged_before_their_service_was_known_end() {
    judged_too_early::<V6>();
}

/// Sockets of a time when the packet road served pods stay as long as it serves them: a request that is under way is answered.
fn carried<F: Host>() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let there = pod(stage);
        let there: Vec<&str> = there.iter().map(String::as_str).collect();
        let busy = Client::connect::<F>(stage, &there, 3);
        let (addr, port) = busy.place::<F>();
        serve::<F>(&mut kernel, 3, 200);
        // Connected by our hook, and of no concern to who looks at those that are carried.
        let noted = Client::connect::<F>(stage, &there, 3);
        let half_open = &F::maps(&kernel).half_open;
        let key = FlowKey::new(addr, port, F::host(3), Port::new(53), Proto::UDP);
        let flow = Flow { dst: F::host(200), dport: PORT, service: ServiceId(3), ..Flow::plain(&key) };
        half_open.put(&key, &Flow { flags: FlowFlags::default(), ..flow }).unwrap();

        let caretaker = kernel.caretaker().unwrap();
        let stays = LetGo { carried: 1, ..LetGo::default() };
        assert_eq!(F::let_go(&caretaker, &moved::<F>(3, &[200])), stays);
        assert_eq!(F::look_again(&caretaker, &moved::<F>(3, &[201])), stays);
        half_open.remove(&key).unwrap();
        let gone = LetGo { sockets: 1, ..LetGo::default() };
        assert_eq!(F::look_again(&caretaker, &moved::<F>(3, &[201])), gone);
        assert_eq!([busy, noted].map(Client::sends), [false, true]);
    });
}

#[test]
fn ipv4_sockets_that_the_packet_road_carries_are_closed_when_it_does_no_more() {
    carried::<V4>();
}

#[test]
fn ipv6_sockets_that_the_packet_road_carries_are_closed_when_it_does_no_more() {
    carried::<V6>();
}

/// Both entries of a flow of client 127.0.1.`client`.
fn flow(client: u8, proto: Proto, service: u32, backend: u8) -> Pair<V4> {
    let from: Addr4 = Ipv4Addr::new(127, 0, 1, client).into();
    let forward = FlowKey::new(from, Port::new(4_000), ip(service as u8), Port::new(53), proto);
    let reply = FlowKey::new(ip(backend), PORT, from, Port::new(4_000), proto);
    let (src, dst, sport, dport) = (from, ip(backend), Port::new(4_000), PORT);
    let value = Flow { src, dst, sport, dport, service: ServiceId(service), ..Flow::default() };
    [(forward, value), (reply, Flow { flags: FlowFlags::REPLY, ..value.twin(&forward) })]
}

/// Upstream: `TestCleanStaleEntries` and its neighbours, by what an entry is and where it leads.
#[test]
fn udp_flows_end_at_once_with_their_backend_and_no_others_but_late_answers_are_heard() {
    on_a_node(|stage| {
        let kernel = stage.open();
        // Client, protocol, Service, backend; gone?
        let cases = [
            (1, Proto::UDP, 1, 200, true),
            (2, Proto::UDP, 1, 201, false),
            // Item 105.
            (3, Proto::TCP, 1, 200, false),
            (4, Proto::SCTP, 1, 200, false),
            // Items 76 and 102: nothing is known of this Service, it is gone or has nobody.
            (5, Proto::UDP, 2, 200, false),
            (6, Proto::UDP, 0, 200, false),
        ];
        let maps = &kernel.maps().v4;
        for (client, proto, service, backend, _) in cases {
            for (key, value) in flow(client, proto, service, backend) {
                maps.flows.put(&key, &value).unwrap();
                maps.half_open.put(&key, &value).unwrap();
            }
        }
        // Half a flow is judged by what it says itself.
        let [_, (half, value)] = flow(7, Proto::UDP, 1, 200);
        maps.flows.put(&half, &value).unwrap();

        let caretaker = kernel.caretaker().unwrap();
        let gone = V4::let_go(&caretaker, &moved::<V4>(1, &[201, 202]));
        assert_eq!(gone, LetGo { flows: 1, half_open: 1, ..LetGo::default() });
        // Answers that are on their way are still translated: their entries stay, and are marked.
        let entries = cases.into_iter().flat_map(|(client, proto, service, backend, gone)| {
            let [forward, (key, reply)] = flow(client, proto, service, backend);
            let marked = Flow { flags: reply.flags.with(FlowFlags::BRIEF), ..reply };
            if gone { vec![(key, marked)] } else { vec![forward, (key, reply)] }
        });
        let mut expected: Vec<_> = entries.collect();
        expected.sort_by_key(|(key, _)| *key);
        let left = |table: &Table<FlowKey<Addr4>, Flow<Addr4>>| {
            let mut left = table.entries().unwrap();
            left.sort_by_key(|(key, _)| *key);
            left
        };
        assert_eq!(left(&maps.half_open), expected);
        expected.push((half, Flow { flags: value.flags.with(FlowFlags::BRIEF), ..value }));
        expected.sort_by_key(|(key, _)| *key);
        assert_eq!(left(&maps.flows), expected);
        // Once is enough.
        assert_eq!(V4::let_go(&caretaker, &moved::<V4>(1, &[201, 202])), LetGo::default());
    });
}
