//! The names that a case uses, once per family.

use std::net::SocketAddr;

use proxy_common::Reason;
use proxy_common::decide::FIRST_SOURCE_PORT;
use tests::dataplane::{Run, code};
use tests::packet::Packet;

/// Addresses of one family. Ports are in the text: they differ where a rewrite should be seen.
pub(crate) struct Names {
    /// A pod of this node that is a client.
    pub(crate) client: &'static str,
    /// The same pod with port 80, which is privileged.
    pub(crate) low_client: &'static str,
    /// A client outside of the cluster.
    pub(crate) outside: &'static str,
    /// This node, port 40000.
    pub(crate) node: &'static str,
    /// The frontend's address, port 80.
    pub(crate) vip: &'static str,
    /// The frontend's address, a port that it does not have.
    pub(crate) vip_other_port: &'static str,
    /// In the range of Services, nobody's.
    pub(crate) unowned: &'static str,
    /// A backend, port 8080.
    pub(crate) backend: &'static str,
    /// Another backend.
    pub(crate) other_backend: &'static str,
    /// The client's own pod as a backend.
    pub(crate) own_backend: &'static str,
    /// A process of this node as a backend.
    pub(crate) host_backend: &'static str,
    /// Somebody who is no Service.
    pub(crate) stranger: &'static str,
}

/// Both families.
pub(crate) const FAMILIES: [Names; 2] = [
    Names {
        client: "10.244.1.2:40000",
        low_client: "10.244.1.2:80",
        outside: "203.0.113.9:40000",
        node: "192.168.0.1:40000",
        vip: "10.96.0.10:80",
        vip_other_port: "10.96.0.10:81",
        unowned: "10.96.7.7:80",
        backend: "10.244.2.3:8080",
        other_backend: "10.244.2.4:8080",
        own_backend: "10.244.1.2:8080",
        host_backend: "192.168.0.1:8080",
        stranger: "198.51.100.1:80",
    },
    Names {
        client: "[fd00:244:1::2]:40000",
        low_client: "[fd00:244:1::2]:80",
        outside: "[2001:db8::9]:40000",
        node: "[fd00:168::1]:40000",
        vip: "[fd00:96::10]:80",
        vip_other_port: "[fd00:96::10]:81",
        unowned: "[fd00:96::77]:80",
        backend: "[fd00:244:2::3]:8080",
        other_backend: "[fd00:244:2::4]:8080",
        own_backend: "[fd00:244:1::2]:8080",
        host_backend: "[fd00:168::1]:8080",
        stranger: "[2001:db8:1::1]:80",
    },
];

/// Through the stack, as this packet.
pub(crate) fn next(reason: Reason, packet: &Packet) -> Run {
    Run { reason, code: code::NEXT, bytes: packet.bytes() }
}

/// Gone; the bytes are as they came.
pub(crate) fn dropped(reason: Reason, packet: &Packet) -> Run {
    Run { reason, code: code::DROP, bytes: packet.bytes() }
}

/// Answered by a refusal.
pub(crate) fn rejected(reason: Reason, packet: &Packet) -> Run {
    Run { reason, code: code::REDIRECT, bytes: packet.refusal() }
}

/// The source of a packet that a program has translated: it has this one's address, and another port.
pub(crate) fn other_port(run: &Run, client: &str) -> String {
    let before: SocketAddr = client.parse().expect("an address and a port");
    let at = if before.is_ipv6() { 54 } else { 34 };
    let port = u16::from_be_bytes([run.bytes[at], run.bytes[at + 1]]);
    assert!(port >= FIRST_SOURCE_PORT && port != before.port(), "{port}");
    SocketAddr::new(before.ip(), port).to_string()
}
