//! Ports that a backend has a connection of already: of clients that share those of one node address and one that closes
//! first, so that the next client meets its TIME-WAIT; and of a client that speaks with the backend itself, too.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use sluice_lab::{Family, SocketLb, netns};
use socket2::{Domain, Socket, Type};

use crate::objects;
use crate::stage::{PATIENCE, Stage, Until, WEB, at_node, cluster_ips};

/// Where the backend listens that closes first.
const CLOSING: u16 = 9090;
/// The port that all clients have.
const SHARED: u16 = 45_000;
/// About every second one meets a TIME-WAIT that does not let it in: each pair of addresses has time stamps of its own.
const CLIENTS: u8 = 16;
/// What the kernel lets pass before it sends a SYN again by itself.
const SECOND_SYN: Duration = Duration::from_secs(1);

fn client(family: Family, number: u8) -> IpAddr {
    match family {
        Family::Ipv4 => format!("172.18.0.{}", 210 + number),
        Family::Ipv6 => format!("fd00:18::{}", 210 + u16::from(number)),
    }
    .parse()
    .unwrap()
}

/// Connects from this port, which may have other connections.
fn connect(from: SocketAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect_timeout(&to.into(), PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Connects, waits until the backend closes, and gives how long the first part took.
fn meet(from: SocketAddr, to: SocketAddr) -> Duration {
    let began = Instant::now();
    let mut stream = connect(from, to);
    let took = began.elapsed();
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    took
}

/// Sends back what two clients say, until both have closed.
fn echo(listener: &TcpListener) {
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (stream, _) = listener.accept().unwrap();
            scope.spawn(move || std::io::copy(&mut &stream, &mut &stream).unwrap());
        }
    });
}

/// Leads `demo/web` to another port of `place`, where nobody listens yet.
fn lead_to_closing(stage: &Stage, place: &str, node: &str) {
    for (index, family) in [Family::Ipv4, Family::Ipv6].into_iter().enumerate() {
        let mut slice = objects::slice("web", family, &[(stage.place(place).ips[index], node)]);
        slice["ports"].as_array_mut().unwrap().iter_mut().for_each(|port| port["port"] = CLOSING.into());
        stage.lab.manifests().put(&slice).unwrap();
    }
}

/// Closes each connection at once; gives whom it saw.
fn close_first(listener: &TcpListener) -> Vec<SocketAddr> {
    (0..CLIENTS).map(|_| listener.accept().unwrap().1).collect()
}

/// How often a namespace has turned a SYN away because of a connection in TIME-WAIT.
fn doubts() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().unwrap().split(' '), lines.next().unwrap().split(' '));
    let count = names.zip(values).find(|(name, _)| *name == "PAWSTimewait");
    count.map_or(0, |(_, value)| value.parse().unwrap())
}

#[test]
fn a_port_that_a_backend_has_not_forgotten_costs_the_next_client_no_second() {
    let stage = Stage::set("ptp", SocketLb::On).begin();
    lead_to_closing(&stage, "near", "node-1");
    for family in [Family::Ipv4, Family::Ipv6] {
        let clients: Vec<String> = (0..CLIENTS).map(|number| client(family, number).to_string()).collect();
        let lines: Vec<String> = match family {
            Family::Ipv4 => clients.iter().map(|ip| format!("addr add {ip}/24 dev eth0")).collect(),
            Family::Ipv6 => clients.iter().map(|ip| format!("addr add {ip}/64 dev eth0 nodad")).collect(),
        };
        stage.ip("laptop", &lines.iter().map(String::as_str).collect::<Vec<_>>());
    }
    stage.waits("laptop", &at_node(1, WEB), Until::Silent);
    for (index, family) in [Family::Ipv4, Family::Ipv6].into_iter().enumerate() {
        let near = stage.place("near");
        let at = SocketAddr::new(near.ips[index], CLOSING);
        let before = netns::inside(&near.netns, || Ok(doubts())).unwrap();
        let listener = netns::inside(&near.netns, || Ok(TcpListener::bind(at)?)).unwrap();
        let backend = std::thread::spawn(move || close_first(&listener));
        let to = at_node(1, WEB)[index];
        let took = netns::inside(&stage.place("laptop").netns, || {
            Ok((0..CLIENTS)
                .map(|number| meet(SocketAddr::new(client(family, number), SHARED), to))
                .collect::<Vec<_>>())
        })
        .unwrap();
        let seen = backend.join().unwrap();
        assert!(seen.iter().all(|peer| *peer == seen[0]), "the clients do not share a port: {seen:?}");
        let met = netns::inside(&near.netns, || Ok(doubts())).unwrap() - before;
        assert!(met > 0, "nobody has met a TIME-WAIT");
        // One may be slow because the machine is.
        let slow = took.iter().filter(|took| **took >= SECOND_SYN).count();
        assert!(slow <= 1, "{slow} of {CLIENTS} took a second, {met} met a TIME-WAIT: {took:?}");
    }
}

#[test]
fn a_connection_with_a_backend_itself_survives_one_to_its_service_from_the_same_port() {
    let stage = Stage::set("ptp", SocketLb::Off).begin();
    lead_to_closing(&stage, "far", "node-2");
    let vips = cluster_ips(WEB).map(|ip| SocketAddr::new(ip, objects::PORT));
    stage.waits("client", &vips, Until::Silent);
    let client = stage.place("client");
    for (index, vip) in vips.into_iter().enumerate() {
        let far = stage.place("far");
        let at = SocketAddr::new(far.ips[index], CLOSING);
        let listener = netns::inside(&far.netns, || Ok(TcpListener::bind(at)?)).unwrap();
        let backend = std::thread::spawn(move || echo(&listener));
        netns::inside(&client.netns, || {
            let from = SocketAddr::new(client.ips[index], SHARED);
            let speaks = |mut stream: &TcpStream| {
                stream.write_all(b"!")?;
                stream.read_exact(&mut [0])
            };
            let direct = connect(from, at);
            speaks(&direct)?;
            let service = connect(from, vip);
            for stream in [&service, &direct, &service, &direct] {
                speaks(stream)?;
            }
            Ok(())
        })
        .unwrap();
        backend.join().unwrap();
    }
}
