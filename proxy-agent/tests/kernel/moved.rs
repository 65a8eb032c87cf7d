//! UDP clients are moved when their backend is gone: entries of flows go, and connected sockets are closed, those of
//! this node and those of pods (items 101–105).

use std::{
    io::{BufRead, BufReader, Write as _},
    net::Ipv4Addr,
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
};

use proxy_agent::kernel::{Kernel, LetGo};
use proxy_common::{
    Addr4, Backend, BackendFlags, Flow, FlowFlags, FlowKey, Frontend, FrontendKey, Port, Proto, Segment,
    ServiceId, V4, V6,
};
use proxy_model::{Moved, Plan, Write};

use crate::stage::{Stage, on_a_node, run};

const PORT: Port = Port::new(8_080);

fn ip(host: u8) -> Addr4 {
    Ipv4Addr::new(127, 0, 0, host).into()
}

/// Service `id` at 127.0.0.`id`:53 leads to 127.0.0.`backend`:8080.
fn serve(kernel: &mut Kernel, id: u32, backend: u8) {
    let mut plan = Plan::default();
    plan.v4
        .push(Write::Slots { start: id, slots: vec![Backend::new(ip(backend), PORT, BackendFlags::LOCAL)] });
    let cluster = Segment { start: id, len: 1 };
    let value = Frontend { service: ServiceId(id), cluster, ..Frontend::default() };
    plan.v4
        .push(Write::PutFrontend { key: FrontendKey::new(ip(id as u8), Port::new(53), Proto::UDP), value });
    assert!(kernel.apply(&plan).is_complete());
}

/// A shell below the cgroup root with a connected UDP socket. It prints its peer's state when told to.
struct Client {
    shell: Child,
    tell: ChildStdin,
}

impl Client {
    /// `words` run the shell, in whatever namespace.
    fn connect(stage: &Stage, words: &[&str], service: u32) -> Self {
        let procs = stage.settings.cgroup_root.join("cgroup.procs");
        let script = format!(
            "echo $$ > {} && exec 3<>/dev/udp/127.0.0.{service}/53 && echo connected && read && echo hello >&3",
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

    /// Whether its socket can still send.
    fn sends(mut self) -> bool {
        writeln!(self.tell).unwrap();
        self.shell.wait().unwrap().success()
    }
}

fn moved(service: u32, servers: &[u8]) -> Moved<V4> {
    let servers: Arc<[_]> = servers.iter().map(|host| (ip(*host), PORT)).collect();
    [(ServiceId(service), servers)].into()
}

#[test]
fn connected_sockets_of_a_backend_that_is_gone_are_closed_in_every_namespace() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        for service in [1, 2] {
            serve(&mut kernel, service, 200);
        }
        let pod = stage.peer();
        let netns = format!("--net=/run/netns/{pod}");
        run(&["nsenter", &netns, "ip", "link", "set", "lo", "up"]);
        let (here, there): (&[&str], &[&str]) = (&["env"], &["nsenter", &netns]);
        let of_node = Client::connect(stage, here, 1);
        let of_pod = Client::connect(stage, there, 1);
        let of_other_service = Client::connect(stage, there, 2);

        let stays = kernel.let_go(&moved(1, &[200, 201]), &Moved::<V6>::new());
        assert_eq!(stays.0, LetGo::default(), "the backend still serves");
        stays.1.unwrap();

        let (gone, result) = kernel.let_go(&moved(1, &[201]), &Moved::<V6>::new());
        result.unwrap();
        assert_eq!(gone, LetGo { sockets: 2, ..LetGo::default() });
        assert_eq!([of_node, of_pod, of_other_service].map(Client::sends), [false, false, true]);
    });
}

/// Both entries of a flow of client 127.0.1.`client`.
fn flow(client: u8, proto: Proto, service: u32, backend: u8) -> [(FlowKey<Addr4>, Flow<Addr4>); 2] {
    let from: Addr4 = Ipv4Addr::new(127, 0, 1, client).into();
    let forward = FlowKey::new(from, Port::new(4_000), ip(service as u8), Port::new(53), proto);
    let reply = FlowKey::new(ip(backend), PORT, from, Port::new(4_000), proto);
    let (src, dst, sport, dport) = (from, ip(backend), Port::new(4_000), PORT);
    let value = Flow { src, dst, sport, dport, service: ServiceId(service), ..Flow::default() };
    [(forward, value), (reply, Flow { flags: FlowFlags::REPLY, ..value.twin(&forward) })]
}

/// Upstream: `TestCleanStaleEntries` and its neighbours, by what an entry is and where it leads.
#[test]
fn entries_of_udp_flows_go_at_once_with_their_backend_and_no_others() {
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

        let (gone, result) = kernel.let_go(&moved(1, &[201, 202]), &Moved::<V6>::new());
        result.unwrap();
        assert_eq!(gone, LetGo { flows: 3, half_open: 2, sockets: 0 });
        let kept = cases.into_iter().filter(|(.., gone)| !gone);
        let mut kept: Vec<_> = kept
            .flat_map(|(client, proto, service, backend, _)| flow(client, proto, service, backend))
            .map(|(key, _)| key)
            .collect();
        kept.sort();
        for table in [&maps.flows, &maps.half_open] {
            let mut left: Vec<_> = table.entries().unwrap().into_iter().map(|(key, _)| key).collect();
            left.sort();
            assert_eq!(left, kept);
        }
    });
}
