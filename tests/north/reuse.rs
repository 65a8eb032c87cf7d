//! Clients that share the ports of one node address towards one backend, which closes first and so keeps each connection in
//! TIME-WAIT: the next client with the same port is asked by the backend what it wants, and must hear that.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use sluice_lab::{Family, SocketLb, netns};
use socket2::{Domain, Socket, Type};

use crate::objects;
use crate::stage::{PATIENCE, Stage, Until, WEB, at_node};

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

/// Connects, waits until the backend closes, and gives how long the first part took.
fn connect(from: SocketAddr, to: SocketAddr) -> Duration {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&from.into()).unwrap();
    let began = Instant::now();
    socket.connect_timeout(&to.into(), PATIENCE).unwrap();
    let took = began.elapsed();
    let mut stream = TcpStream::from(socket);
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    took
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
    for (index, family) in [Family::Ipv4, Family::Ipv6].into_iter().enumerate() {
        let mut slice = objects::slice("web", family, &[(stage.place("near").ips[index], "node-1")]);
        slice["ports"].as_array_mut().unwrap().iter_mut().for_each(|port| port["port"] = CLOSING.into());
        stage.lab.manifests().put(&slice).unwrap();
        let clients: Vec<String> = (0..CLIENTS).map(|number| client(family, number).to_string()).collect();
        let lines: Vec<String> = match family {
            Family::Ipv4 => clients.iter().map(|ip| format!("addr add {ip}/24 dev eth0")).collect(),
            Family::Ipv6 => clients.iter().map(|ip| format!("addr add {ip}/64 dev eth0 nodad")).collect(),
        };
        stage.ip("laptop", &lines.iter().map(String::as_str).collect::<Vec<_>>());
    }
    // Nobody listens at the new port yet.
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
                .map(|number| connect(SocketAddr::new(client(family, number), SHARED), to))
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
