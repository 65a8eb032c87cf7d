//! Asking a Service in every way there is, from one place, until the answers are what they should be. Knows sockets and host
//! names; nothing of objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sluice_lab::{Dialect, Failure, Place, Probe, Protocol, Tally, UdpStyle};

/// A change has to arrive within this time; it usually takes a tenth of a second, on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// Where the Services of the story are asked.
pub(crate) const TCP_PORT: u16 = 80;
const UDP_PORT: u16 = 81;

/// Every way to ask: all addresses, TCP, UDP with a connected and an unconnected socket.
pub(crate) fn every_way(addresses: &[IpAddr], count: u32) -> Vec<Probe> {
    let ask = |protocol, ip, port, udp| Probe {
        dialect: Dialect::Netexec,
        udp,
        tries: 1,
        // An ICMPv6 error that comes while connect() still holds the socket is soft (tcp_v6_err in net/ipv6/tcp_ipv6.c): TCP over
        // IPv6 may be refused only when the SYN is repeated, after a second.
        timeout: Duration::from_millis(2500),
        ..Probe::new(protocol, SocketAddr::new(ip, port)).times(count)
    };
    let ways = |ip: &IpAddr| {
        [
            ask(Protocol::Tcp, *ip, TCP_PORT, UdpStyle::Connected),
            ask(Protocol::Udp, *ip, UDP_PORT, UdpStyle::Connected),
            ask(Protocol::Udp, *ip, UDP_PORT, UdpStyle::Unconnected),
        ]
    };
    addresses.iter().flat_map(ways).collect()
}

/// Waits until each way to ask is answered under all of these host names and no other, every time.
pub(crate) fn await_answers(place: &Place, addresses: &[IpAddr], names: &BTreeSet<String>) {
    eventually("all backends answer and nobody else", || {
        all(place, &every_way(addresses, 60), |_, tally| {
            tally.failures() == 0 && tally.answered.keys().eq(names)
        })
    });
}

/// Waits until each way to ask fails in just this manner, every time.
pub(crate) fn await_failure(place: &Place, addresses: &[IpAddr], failure: impl Fn(Protocol) -> Failure) {
    let count = 4;
    eventually("every connection fails as it should", || {
        all(place, &every_way(addresses, count), |question, tally| {
            tally.answers() == 0 && tally.failed == BTreeMap::from([(failure(question.protocol), count)])
        })
    });
}

/// Does the same for several places at once: most of the time is spent waiting.
pub(crate) fn at_each<'a>(places: impl IntoIterator<Item = &'a Place>, work: impl Fn(&Place) + Sync) {
    std::thread::scope(|scope| {
        for place in places {
            let work = &work;
            scope.spawn(move || work(place));
        }
    });
}

/// Asks, and says which answers are wrong.
fn all(place: &Place, questions: &[Probe], holds: impl Fn(&Probe, &Tally) -> bool) -> Result<(), String> {
    let tallies = place.probe(questions).unwrap();
    let wrong = questions.iter().zip(&tallies).filter(|(question, tally)| !holds(question, tally));
    let say = |(question, tally): (&Probe, &Tally)| {
        format!("{} -> {} {:?} {}: {tally}", place.name, question.protocol, question.udp, question.to)
    };
    let wrong: Vec<String> = wrong.map(say).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Polls until the answer is `Ok`; the last `Err` says what was seen instead.
pub(crate) fn eventually<T, E: Display>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => {
                assert!(Instant::now() < deadline, "{what}: not after {PATIENCE:?}; last seen:\n{seen}")
            }
        }
        std::thread::sleep(POLL);
    }
}
