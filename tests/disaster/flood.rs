//! Packets as nobody's kernel sends them: with addresses of others, and as many openings as a device takes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use sluice_lab::netns;
use socket2::{Domain, Socket, Type};
use tests::packet::{Packet, flags};

use crate::loads::Flows;
use crate::objects::{DNS, HTTP, HTTP_TARGET};
use crate::stage::{NODE, SERVERS, Stage, WEB, closing, pod};

/// `IPPROTO_RAW`: whoever sends writes the header, too.
const RAW: i32 = 255;
/// Openings of one kind in one round, and rounds. Together they are many times what the tables of half-open connections hold.
const OPENINGS: u32 = 20_000;
const ROUNDS: u32 = 6;
/// Packets with somebody else's address.
const FORGED: u32 = 250;

/// Sends packets from a place, each with its header as it is; gives how many the kernel took.
fn send(stage: &Stage, place: &str, packets: impl Iterator<Item = Packet> + Send) -> u64 {
    let netns = stage.lab.place(place).unwrap().netns;
    let sent = netns::inside(&netns, || {
        let socket = |domain| Socket::new(domain, Type::RAW, Some(RAW.into()));
        let (four, six) = (socket(Domain::IPV4)?, socket(Domain::IPV6)?);
        let mut taken = 0;
        for packet in packets {
            let (socket, to) = match packet.to.ip() {
                IpAddr::V4(_) => (&four, packet.to),
                // The port of a raw socket's peer would be a protocol.
                IpAddr::V6(ip) => (&six, SocketAddr::new(ip.into(), 0)),
            };
            // A queue that is full is part of a flood.
            taken += u64::from(socket.send_to(&packet.bytes()[14..], &to.into()).is_ok());
        }
        Ok(taken)
    });
    sent.unwrap()
}

/// Some number of the host part of an address, and a port, that differ from one packet to the next.
fn scattered(number: u32) -> (u32, u16) {
    let mixed = number.wrapping_mul(0x9e37_79b9);
    (mixed >> 8, 1_024 + (mixed & 0x7fff) as u16)
}

/// Openings and datagrams to `demo/web`, each from another client of a range that nobody has.
fn flood(round: u32) -> impl Iterator<Item = Packet> {
    (0..OPENINGS).map(move |number| {
        let (host, port) = scattered(round * OPENINGS + number);
        let [_, a, b, c] = host.to_be_bytes();
        let (from, to) = match number % 4 < 2 {
            true => (format!("10.{}.{b}.{c}:{port}", 128 | a >> 1), WEB[0].to_owned()),
            false => (format!("[fd00:bad::{a:x}:{b:x}{c:02x}]:{port}"), format!("[{}]", WEB[1])),
        };
        match number % 2 {
            0 => Packet::tcp(flags::SYN, &from, &format!("{to}:{HTTP}")),
            _ => Packet::udp(&from, &format!("{to}:{DNS}")).with_payload(b"?"),
        }
    })
}

fn count(stage: &Stage, reason: &str) -> u64 {
    let counters = stage.ask(&["counter", "list"]);
    let row = counters.as_array().unwrap().iter().find(|row| row["reason"] == reason);
    row.and_then(|row| row["count"].as_u64()).unwrap()
}

/// Connections that were answered keep their entries, whoever opens however many others; and what a flood's backends have
/// answered leaves room soon, because nobody acknowledges it.
#[test]
fn established_connections_outlive_floods_of_openings_and_datagrams_and_new_ones_come_back() {
    let stage = Stage::begin(&["--flow-table-size=16384"]);
    let flows = Flows::open(&stage);
    let opened = count(&stage, "service-new");
    let mut sent = 0;
    let mut fullest = BTreeMap::new();
    for round in 0..ROUNDS {
        sent += send(&stage, "outside", flood(round));
        fill(&stage, &mut fullest);
        flows.still_stand();
    }
    let seen = count(&stage, "service-new") - opened;
    println!("{sent} openings and datagrams sent, {seen} of them were given a backend; 4 connections stand");
    assert!(sent > u64::from(ROUNDS * OPENINGS) * 9 / 10, "{sent} were sent");
    // More than all tables have room for: otherwise nothing was at stake.
    let room: u64 = ["flows4", "flows6"].map(|map| size(&stage, map)).iter().sum();
    assert!(seen > room / 2, "{seen} of {sent} arrived, room for {room}");
    let [full, ports] = ["flow-table-full", "no-source-port"].map(|reason| count(&stage, reason));
    println!(
        "{full} found the tables full, {ports} no source port; at their fullest, in percent: {fullest:?}"
    );
    // The programs themselves say that the tables were under pressure: without it, nothing of this would mean anything.
    assert!(full > 0, "no table was ever full: {fullest:?}");
    flows.still_stand();
    stage.reaches(&WEB, &SERVERS);
    flows.still_stand();
}

/// Notes of each table of connections how full it has been, in percent.
fn fill(stage: &Stage, fullest: &mut BTreeMap<String, u64>) {
    let maps = stage.ask(&["map", "list"]);
    for row in maps.as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        if ["flows4", "flows6", "halfopen4", "halfopen6"].contains(&name) {
            let percent = 100 * row["used"].as_u64().unwrap() / row["size"].as_u64().unwrap();
            let before = fullest.entry(name.to_owned()).or_default();
            *before = percent.max(*before);
        }
    }
}

fn size(stage: &Stage, map: &str) -> u64 {
    let maps = stage.ask(&["map", "list"]);
    let row = maps.as_array().unwrap().iter().find(|row| row["name"] == map).cloned();
    row.unwrap_or(Value::Null)["size"].as_u64().unwrap()
}

/// A pod under a policy sends as nobody else, and nobody else sends as that pod.
#[test]
fn packets_with_the_address_of_another_pod_are_dropped_and_counted() {
    let stage = Stage::begin(&[]);
    let ips = |name: &str| stage.lab.pod(name).unwrap().ips;
    stage.put(&pod("client", &ips("client")));
    closing("client").iter().for_each(|object| stage.put(object));
    stage.until("the policy is in force", || stage.ask(&["status"])["policies"]["addresses"] == 2);
    let before = count(&stage, "forged-source");
    let forged = |from: &[IpAddr], to: &[IpAddr]| -> Vec<Packet> {
        let pairs = from.iter().zip(to).cycle().take(FORGED as usize).zip(20_000_u16..);
        let packet = |((from, to), port): ((&IpAddr, &IpAddr), u16)| {
            let [from, to] =
                [SocketAddr::new(*from, port), SocketAddr::new(*to, HTTP_TARGET)].map(|at| at.to_string());
            Packet::tcp(flags::SYN, &from, &to)
        };
        pairs.map(packet).collect()
    };
    // As somebody else, and as the pod under the policy.
    let taken = send(&stage, "client", forged(&ips("web-1"), &ips("web-2")).into_iter())
        + send(&stage, "web-3", forged(&ips("client"), &ips("web-2")).into_iter());
    assert_eq!(taken, u64::from(2 * FORGED));
    stage.until("all are counted", || count(&stage, "forged-source") - before == taken);
    println!("{taken} packets with an address of somebody else: {taken} dropped");
    stage.reaches(&WEB, &SERVERS);
    assert!(stage.lab.node(NODE).is_ok());
}
