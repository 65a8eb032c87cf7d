//! The packet road end to end: a node with two pods and an outside client, each a network namespace, the programs
//! attached to real devices with all their offloads, and real sockets.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};

use aya::programs::{LinkOrder, TcAttachType, tc::TcAttachOptions};
use proxy_common::{ClientRule, DeviceKind, Frontend, Proto, Reason};
use socket2::{Domain, Protocol, Socket, Type};
use tests::dataplane::{Dataplane, config, ip};
use tests::packet::addr;

/// How long anything may take that should happen at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// Enough for segmentation offload to make packets far above the MTU.
const BULK: usize = 1 << 20;

/// The addresses of one family.
struct Names {
    node: &'static str,
    gateway: &'static str,
    pod_a: &'static str,
    pod_b: &'static str,
    outside: &'static str,
    services: &'static str,
    /// To pod B.
    vip: &'static str,
    /// To pod A.
    hairpin: &'static str,
    /// To a process of the node.
    host: &'static str,
    /// To a process outside of the cluster.
    remote: &'static str,
    /// To nobody.
    empty: &'static str,
    host_bits: u8,
    link_bits: u8,
    /// Makes an address usable at once.
    nodad: &'static str,
}

const FAMILIES: [Names; 2] = [
    Names {
        node: "192.168.0.1",
        gateway: "10.244.1.1",
        pod_a: "10.244.1.2",
        pod_b: "10.244.1.3",
        outside: "192.168.0.2",
        services: "10.96.0.0/16",
        vip: "10.96.0.10:80",
        hairpin: "10.96.0.11:80",
        host: "10.96.0.12:80",
        remote: "10.96.0.14:80",
        empty: "10.96.0.13:80",
        host_bits: 32,
        link_bits: 24,
        nodad: "",
    },
    Names {
        node: "fd00:168::1",
        gateway: "fd00:244:1::1",
        pod_a: "fd00:244:1::2",
        pod_b: "fd00:244:1::3",
        outside: "fd00:168::2",
        services: "fd00:96::/64",
        vip: "[fd00:96::10]:80",
        hairpin: "[fd00:96::11]:80",
        host: "[fd00:96::12]:80",
        remote: "[fd00:96::14]:80",
        empty: "[fd00:96::13]:80",
        host_bits: 128,
        link_bits: 64,
        nodad: " nodad",
    },
];

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace: a thread that lives in it and does what it is told.
struct Namespace {
    jobs: Sender<Job>,
    thread: i32,
}

impl Namespace {
    fn new() -> Self {
        let (jobs, inbox) = channel::<Job>();
        let (report, thread) = channel();
        thread::spawn(move || {
            // SAFETY: only the namespace of this thread changes, no descriptor is shared or closed by it.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
                .expect("needs root");
            report.send(rustix::thread::gettid().as_raw_nonzero().get()).expect("the starter waits");
            for job in inbox {
                job();
            }
        });
        Self { jobs, thread: thread.recv().expect("the thread starts") }
    }

    /// Runs something in the namespace. A socket that it makes stays in there.
    fn run<R: Send + 'static>(&self, job: impl FnOnce() -> R + Send + 'static) -> R {
        let (result, done) = channel();
        self.jobs
            .send(Box::new(move || {
                let _ = result.send(job());
            }))
            .expect("the thread lives");
        done.recv().expect("the job does not panic")
    }

    fn ip(&self, words: String) {
        self.run(move || ip(&words));
    }
}

struct World {
    dataplane: Dataplane,
    names: &'static Names,
    pod_a: Namespace,
    pod_b: Namespace,
    outside: Namespace,
}

impl World {
    fn new(names: &'static Names) -> Self {
        let dataplane = Dataplane::new(config());
        for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{file}"), "1").expect("a namespace has its own switches");
        }
        let [pod_a, pod_b, outside] = [(); 3].map(|()| Namespace::new());
        let mut world = Self { dataplane, names, pod_a, pod_b, outside };
        world.add_pods();
        world.add_uplink();
        world.serve();
        world
    }

    fn add_pods(&mut self) {
        let Names { gateway, pod_a, pod_b, host_bits, nodad, .. } = self.names;
        for (name, index, addr, namespace) in [("a", 10, pod_a, &self.pod_a), ("b", 11, pod_b, &self.pod_b)] {
            ip(&format!(
                "link add host-{name} index {index} type veth peer name eth0 netns {}",
                namespace.thread
            ));
            ip(&format!("addr add {gateway}/{host_bits} dev host-{name}{nodad}"));
            ip(&format!("link set host-{name} up"));
            ip(&format!("route add {addr} dev host-{name}"));
            namespace.ip("link set lo up".to_owned());
            namespace.ip("link set eth0 up".to_owned());
            namespace.ip(format!("addr add {addr}/{host_bits} dev eth0{nodad}"));
            namespace.ip(format!("route add {gateway} dev eth0"));
            namespace.ip(format!("route add default via {gateway} dev eth0"));
            self.dataplane.add_device(index, DeviceKind::POD);
            attach(&mut self.dataplane, &format!("host-{name}"), "from_pod", "to_pod");
        }
    }

    fn add_uplink(&mut self) {
        let Names { node, outside, services, link_bits, nodad, .. } = self.names;
        ip(&format!("link add uplink index 20 type veth peer name eth0 netns {}", self.outside.thread));
        ip(&format!("addr add {node}/{link_bits} dev uplink{nodad}"));
        ip("link set uplink up");
        self.outside.ip("link set lo up".to_owned());
        self.outside.ip(format!("addr add {outside}/{link_bits} dev eth0{nodad}"));
        self.outside.ip("link set eth0 up".to_owned());
        self.outside.ip(format!("route add {services} via {node} dev eth0"));
        self.outside
            .ip(format!("route add {}/{} via {node} dev eth0", self.names.pod_a, self.names.host_bits));
        self.dataplane.add_device(20, DeviceKind::UPLINK);
        attach(&mut self.dataplane, "uplink", "from_wire", "to_wire");
    }

    fn serve(&mut self) {
        let Names { node, pod_a, pod_b, outside, vip, hairpin, host, remote, empty, .. } = self.names;
        let at = |ip: &str| format!("{}*", SocketAddr::new(ip.parse().expect("an address"), 8080));
        let elsewhere = at(outside).trim_end_matches('*').to_owned();
        let backends = [
            (vip, vec![at(pod_b)]),
            (hairpin, vec![at(pod_a)]),
            (host, vec![at(node)]),
            (remote, vec![elsewhere]),
            (empty, vec![]),
        ];
        for proto in [Proto::TCP, Proto::UDP] {
            for (frontend, backends) in &backends {
                let backends: Vec<&str> = backends.iter().map(String::as_str).collect();
                let rules = |frontend: &mut Frontend| {
                    frontend.rules = [ClientRule::CLUSTER, ClientRule::MASQUERADE, ClientRule::MASQUERADE];
                };
                self.dataplane.serve(proto, frontend, &backends, rules);
            }
        }
    }

    /// The counters that say that a packet was lost.
    fn losses(&self) -> Vec<(Reason, u64)> {
        use Reason::{FlowTableFull, Malformed, NoNodeAddress, NoSourcePort, RewriteFailed};
        let bad = [FlowTableFull, Malformed, NoNodeAddress, NoSourcePort, RewriteFailed];
        self.dataplane.counters().into_iter().filter(|(reason, _)| bad.contains(reason)).collect()
    }
}

fn attach(dataplane: &mut Dataplane, device: &str, ingress: &str, egress: &str) {
    for (name, kind) in [(ingress, TcAttachType::Ingress), (egress, TcAttachType::Egress)] {
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        dataplane
            .program(name)
            .attach_with_options(device, kind, options)
            .expect("the hook takes the program");
    }
}

/// Serves TCP: says who it sees, then sends back what it gets.
fn serve_tcp(at: IpAddr) {
    let listener = TcpListener::bind(SocketAddr::new(at, 8080)).expect("the port is free");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let seen = format!("{}\n", stream.peer_addr().expect("a peer").ip());
                let mut buffer = [0; 65_536];
                if stream.write_all(seen.as_bytes()).is_err() {
                    return;
                }
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Serves UDP: says who it sees.
fn serve_udp(at: IpAddr) {
    let socket = UdpSocket::bind(SocketAddr::new(at, 8080)).expect("the port is free");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
        }
    });
}

fn serve_both(at: &str) {
    let at: IpAddr = at.parse().expect("an address");
    serve_tcp(at);
    serve_udp(at);
}

/// Connects, from a port if one is given.
fn connect(to: &str, from_port: Option<u16>) -> std::io::Result<TcpStream> {
    let to = addr(to);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(port) = from_port {
        socket.set_reuse_address(true)?;
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let mut from = addr(any);
        from.set_port(port);
        socket.bind(&from.into())?;
    }
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads whom the server sees.
fn greeting(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        stream.read_exact(&mut byte).expect("the server greets");
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).trim().to_owned()
}

/// Sends a lot both ways; gives whom the server saw.
fn bulk(to: &str) -> String {
    let mut stream = connect(to, None).unwrap_or_else(|error| panic!("{to}: {error}"));
    let seen = greeting(&mut stream);
    let sent: Vec<u8> = (0..BULK).map(|index| (index * 31 >> 3) as u8).collect();
    let mut writer = stream.try_clone().expect("a second handle");
    let data = sent.clone();
    let writing = thread::spawn(move || writer.write_all(&data));
    let mut got = vec![0; BULK];
    stream.read_exact(&mut got).expect("all of it comes back");
    writing.join().expect("no panic").expect("all of it is sent");
    assert!(got == sent, "what comes back is what was sent");
    seen
}

/// Asks by UDP; gives whom the server saw.
fn ask(to: &str) -> std::io::Result<String> {
    let any = if addr(to).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(addr(to))?;
    socket.send(b"who am I?")?;
    let mut buffer = [0; 128];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

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

/// Makes the kernel sum packets before it hands them to the device.
fn disable_checksum_offload(device: &str) {
    const SIOCETHTOOL: u64 = 0x8946;
    const ETHTOOL_STXCSUM: u32 = 0x17;
    let mut value = [ETHTOOL_STXCSUM, 0];
    // SAFETY: `ifreq` is plain data, all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the request names a device and points to the two words that this command reads.
    let result = unsafe { libc::ioctl(fd, SIOCETHTOOL, &raw mut request) };
    assert_eq!(result, 0, "{device}: {}", std::io::Error::last_os_error());
}

/// Segments and datagrams of the thread's namespace that were thrown away for their checksum.
fn checksum_errors() -> u64 {
    let names = ["/proc/thread-self/net/snmp", "/proc/thread-self/net/snmp6"];
    let [snmp, snmp6] = names.map(|name| std::fs::read_to_string(name).expect("procfs is mounted"));
    let tables: Vec<Vec<&str>> = snmp.lines().map(|line| line.split(' ').collect()).collect();
    let in_tables = tables.chunks(2).flat_map(|table| table[0].iter().zip(&table[1]));
    let in_lines = snmp6.lines().filter_map(|line| line.split_once(char::is_whitespace));
    in_tables
        .map(|(name, count)| (*name, *count))
        .chain(in_lines)
        .filter(|(name, _)| name.ends_with("InCsumErrors"))
        .map(|(_, count)| count.trim().parse::<u64>().expect("a number"))
        .sum()
}

#[test]
fn a_service_without_backends_is_refused_at_once() {
    for names in &FAMILIES {
        let world = World::new(names);
        for client in [&world.pod_a, &world.outside] {
            let start = std::time::Instant::now();
            let udp = client.run(|| ask(names.empty)).expect_err("nobody is there");
            assert_eq!(udp.kind(), ErrorKind::ConnectionRefused);
            let tcp = client.run(|| connect(names.empty, None)).expect_err("nobody is there");
            assert_eq!(tcp.kind(), ErrorKind::ConnectionRefused);
            // A second later the client would ask again.
            assert!(start.elapsed() < Duration::from_secs(1), "not by a time-out: {:?}", start.elapsed());
        }
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
            assert_eq!(greeting(&mut backend), names.node, "told apart by another source");
            for round in 0..3_u8 {
                echo(&mut service, &[b's', round]);
                echo(&mut backend, &[b'b', round]);
            }
        });
        assert_eq!(world.losses(), []);
        assert_eq!(world.dataplane.counters()[&Reason::PortClash], 1);
    }
}
