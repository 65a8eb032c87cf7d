//! An attempt as a packet, and what the programs made of it as a verdict.

use std::net::{IpAddr, SocketAddr};

use proxy_common::{Port, Proto, reason::Outcome};
use tests::{
    dataplane::Run,
    packet::{Packet, Transport, flags},
};

use crate::reference::{Attempt, Seen, Verdict};
use crate::stage::Stage;

/// What became of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It went there, and came from there.
    Backend {
        to: (IpAddr, Port),
        from: IpAddr,
    },
    Reject,
    Drop,
    Pass,
}

impl Stage {
    /// Opens the connection from this port, at the hook where such a client's packets are seen first.
    pub fn ask(&mut self, attempt: &Attempt, port: u16, locals: &[IpAddr]) -> Answer {
        let transport = match attempt.proto {
            Proto::TCP => Transport::Tcp(flags::SYN),
            Proto::UDP => Transport::Udp,
            _ => Transport::Sctp,
        };
        let from = SocketAddr::new(attempt.client, port);
        let to = SocketAddr::new(attempt.addr, attempt.port.number());
        let packet = Packet::new(transport, &from.to_string(), &to.to_string());
        let run = self.dataplane.run(hook(attempt.client, locals), &packet.bytes());
        answer(&run, attempt.addr.is_ipv4())
    }
}

fn hook(client: IpAddr, locals: &[IpAddr]) -> &'static str {
    let is_pod = match client {
        IpAddr::V4(ip) => ip.octets()[..2] == [10, 0],
        IpAddr::V6(ip) => ip.segments()[..2] == [0xfd00, 0x10],
    };
    if locals.contains(&client) {
        "to_wire"
    } else if is_pod {
        "from_pod"
    } else {
        "from_wire"
    }
}

fn answer(run: &Run, is_v4: bool) -> Answer {
    match run.reason.outcome() {
        Outcome::Reject => Answer::Reject,
        Outcome::Drop => Answer::Drop,
        Outcome::Pass => Answer::Pass,
        Outcome::Translate => {
            let bytes = &run.bytes[14..];
            let (from, to, rest): (IpAddr, IpAddr, _) = if is_v4 {
                let ip = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap().into();
                (ip(12), ip(16), &bytes[20..])
            } else {
                let ip = |at: usize| <[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap().into();
                (ip(8), ip(24), &bytes[40..])
            };
            Answer::Backend { to: (to, Port::new(u16::from_be_bytes([rest[2], rest[3]]))), from }
        }
    }
}

impl Answer {
    /// The contract allows it.
    pub fn is_one_of(self, verdict: &Verdict, attempt: &Attempt, locals: &[IpAddr]) -> bool {
        match (self, verdict) {
            (Self::Backend { to, from }, Verdict::Backends(backends)) => match backends.get(&to) {
                Some(Seen::Client) => from == attempt.client,
                Some(Seen::Node) => locals.contains(&from),
                None => false,
            },
            (Self::Reject, Verdict::Reject) | (Self::Drop, Verdict::Drop) | (Self::Pass, Verdict::Pass) => {
                true
            }
            (Self::Backend { .. } | Self::Reject | Self::Drop | Self::Pass, _) => false,
        }
    }
}
