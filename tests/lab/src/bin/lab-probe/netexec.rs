//! The little of the protocol of `agnhost netexec` that tells which pod answered. Opens no sockets.

use std::net::SocketAddr;

use sluice_lab::wire::{Answer, Failure, Outcome, Protocol};

/// What to say to be told the host name; over TCP a line feed follows. HTTP/1.0, so that the end of the stream is the end of
/// the answer.
pub(crate) fn question(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp | Protocol::Sctp => "GET /hostname HTTP/1.0\r\n\r",
        Protocol::Udp | Protocol::Icmp => "hostname",
    }
}

/// Reads a whole answer. `peer` is the client's own address.
pub(crate) fn answer(protocol: Protocol, bytes: &[u8], peer: SocketAddr) -> Outcome {
    let text = String::from_utf8_lossy(bytes);
    let name = match protocol {
        Protocol::Tcp | Protocol::Sctp => {
            text.split_once("\r\n\r\n").filter(|(head, _)| head.contains(" 200 ")).map(|(_, body)| body)
        }
        Protocol::Udp | Protocol::Icmp => Some(text.as_ref()),
    };
    match name.map(str::trim).filter(|name| !name.is_empty() && !name.contains(char::is_whitespace)) {
        Some(name) => Outcome::Answered(Answer {
            at: name.to_owned(),
            name: name.to_owned(),
            peer,
            count: 1,
            echo: String::new(),
        }),
        None => Outcome::Failed(Failure::Garbled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_is_named_by_the_body_or_the_datagram_and_anything_else_is_garbled() {
        let peer: SocketAddr = "10.244.0.2:4000".parse().unwrap();
        let web = Outcome::Answered(Answer {
            at: "web-1".to_owned(),
            name: "web-1".to_owned(),
            peer,
            count: 1,
            echo: String::new(),
        });
        let garbled = Outcome::Failed(Failure::Garbled);
        let http = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nweb-1";
        assert_eq!(answer(Protocol::Tcp, http, peer), web);
        assert_eq!(answer(Protocol::Udp, b"web-1", peer), web);
        assert_eq!(
            answer(Protocol::Tcp, b"HTTP/1.0 404 Not Found\r\n\r\n404 page not found\n", peer),
            garbled
        );
        assert_eq!(answer(Protocol::Tcp, b"HTTP/1.0 200 OK\r\n\r\n", peer), garbled);
        assert_eq!(answer(Protocol::Udp, b"", peer), garbled);
    }
}
