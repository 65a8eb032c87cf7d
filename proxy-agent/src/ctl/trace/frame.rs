//! The frame that is traced: the first of a connection, as its sender would make it; and what it says at each hook. Pure.

use std::net::{IpAddr, SocketAddr};

use proxy_common::{Addr4, Addr6, Address, FlowKey, Port, Proto, V4, V6, checksum};

/// A packet's addresses, ports and protocol, as they stand in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::ctl) struct Tuple {
    pub(in crate::ctl) src: SocketAddr,
    pub(in crate::ctl) dst: SocketAddr,
    pub(in crate::ctl) proto: Proto,
}

/// The key of a tuple, in its family.
pub(super) enum Key {
    Four(FlowKey<Addr4>),
    Six(FlowKey<Addr6>),
}

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const HOPS: u8 = 64;

impl Tuple {
    /// The first frame of a connection, addressed to a device. Ends of different families make no frame.
    pub(in crate::ctl) fn frame(&self, device: [u8; 6]) -> Vec<u8> {
        let body = self.transport();
        let header = match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let length = u16::try_from(IPV4 + body.len()).unwrap_or(u16::MAX).to_be_bytes();
                let mut header = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, HOPS, self.proto.0, 0, 0];
                header.extend(src.octets());
                header.extend(dst.octets());
                let sum = checksum::of(&header, 0).to_ne_bytes();
                header[10..12].copy_from_slice(&sum);
                header
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
                let mut header = vec![0x60, 0, 0, 0, length[0], length[1], self.proto.0, HOPS];
                header.extend(src.octets());
                header.extend(dst.octets());
                header
            }
            (IpAddr::V4(_) | IpAddr::V6(_), _) => return Vec::new(),
        };
        let kind: [u8; 2] = if self.dst.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
        [&device[..], &[2, 0, 0, 0, 0, 1], &kind, &header, &body].concat()
    }

    /// A SYN, a datagram, an INIT, or an echo request.
    fn transport(&self) -> Vec<u8> {
        let [sport, dport] = [self.src.port(), self.dst.port()].map(u16::to_be_bytes);
        let ports = [sport[0], sport[1], dport[0], dport[1]];
        let (mut body, field) = match self.proto {
            Proto::TCP => {
                let rest = [0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];
                ([&ports[..], &rest].concat(), Some(16))
            }
            Proto::UDP => ([&ports[..], &[0, 12, 0, 0], b"ping"].concat(), Some(6)),
            // The CRC stays zero: programs change it with the ports, and nobody receives it.
            Proto::SCTP => {
                let init = [1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1];
                ([&ports[..], &[0; 8], &init].concat(), None)
            }
            Proto::ICMP6 => (vec![128, 0, 0, 0, sport[0], sport[1], 0, 1], Some(2)),
            _ => (vec![8, 0, 0, 0, sport[0], sport[1], 0, 1], Some(2)),
        };
        if let Some(at) = field {
            let start = if self.proto == Proto::ICMP { 0 } else { self.pseudo(body.len()) };
            let sum = checksum::of(&body, start).to_ne_bytes();
            body[at..at + 2].copy_from_slice(&sum);
        }
        body
    }

    /// The sum of the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1).
    fn pseudo(&self, length: usize) -> u32 {
        let octets = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        let words =
            [octets(self.src.ip()), octets(self.dst.ip()), vec![0, self.proto.0], length.to_vec()].concat();
        u32::from(!checksum::of(&words, 0))
    }

    /// What a frame says; `None` for one that is not of IP, or is cut.
    pub(in crate::ctl) fn of(frame: &[u8]) -> Option<Self> {
        let at = |from: usize, len: usize| frame.get(from..from + len);
        let six = |from: usize| Some(IpAddr::from(<[u8; 16]>::try_from(at(from, 16)?).ok()?));
        let four = |from: usize| Some(IpAddr::from(<[u8; 4]>::try_from(at(from, 4)?).ok()?));
        let (src, dst, proto, body) = match at(12, 2)? {
            [0x08, 0x00] => {
                let length = usize::from(at(ETHERNET, 1)?[0] & 0xf) * 4;
                (four(ETHERNET + 12)?, four(ETHERNET + 16)?, at(ETHERNET + 9, 1)?[0], ETHERNET + length)
            }
            [0x86, 0xdd] => {
                (six(ETHERNET + 8)?, six(ETHERNET + 24)?, at(ETHERNET + 6, 1)?[0], ETHERNET + IPV6)
            }
            _ => return None,
        };
        let half = |from: usize| Some(u16::from_be_bytes(at(from, 2)?.try_into().ok()?));
        let proto = Proto(proto);
        let (sport, dport) = match proto {
            Proto::TCP | Proto::UDP | Proto::SCTP => (half(body)?, half(body + 2)?),
            Proto::ICMP | Proto::ICMP6 => (half(body + 4)?, 0),
            _ => (0, 0),
        };
        Some(Self { src: SocketAddr::new(src, sport), dst: SocketAddr::new(dst, dport), proto })
    }

    /// Its key in the tables of connections.
    pub(super) fn key(&self) -> Option<Key> {
        key::<V4>(self).map(Key::Four).or_else(|| key::<V6>(self).map(Key::Six))
    }
}

fn key<F: proxy_common::Family>(tuple: &Tuple) -> Option<FlowKey<F::Addr>> {
    let (src, dst) = (F::Addr::from_ip(tuple.src.ip())?, F::Addr::from_ip(tuple.dst.ip())?);
    let port = |end: SocketAddr| Port::new(end.port());
    Some(FlowKey::new(src, port(tuple.src), dst, port(tuple.dst), tuple.proto))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_what_it_was_made_of_and_its_sums_are_right() {
        for (src, dst, proto) in [
            ("10.244.0.5:40000", "10.96.0.1:80", Proto::TCP),
            ("10.244.0.5:40000", "10.96.0.1:53", Proto::UDP),
            ("10.244.0.5:40000", "10.96.0.1:9", Proto::SCTP),
            ("10.244.0.5:7", "10.244.0.6:0", Proto::ICMP),
            ("[fd00::5]:40000", "[fd00::6]:80", Proto::TCP),
            ("[fd00::5]:40000", "[fd00::6]:53", Proto::UDP),
            ("[fd00::5]:7", "[fd00::6]:0", Proto::ICMP6),
        ] {
            let tuple = Tuple { src: src.parse().unwrap(), dst: dst.parse().unwrap(), proto };
            let frame = tuple.frame([2, 0, 0, 0, 0, 9]);
            assert_eq!(Tuple::of(&frame), Some(tuple));
            assert_eq!(frame[..6], [2, 0, 0, 0, 0, 9]);
            let (header, body) = if tuple.dst.is_ipv4() { (IPV4, 34) } else { (IPV6, 54) };
            if header == IPV4 {
                assert_eq!(checksum::of(&frame[ETHERNET..ETHERNET + IPV4], 0), 0, "{tuple:?}");
            }
            if proto != Proto::SCTP {
                let start = if proto == Proto::ICMP { 0 } else { tuple.pseudo(frame.len() - body) };
                assert_eq!(checksum::of(&frame[body..], start), 0, "{tuple:?}");
            }
            for cut in 0..body {
                assert_eq!(Tuple::of(&frame[..cut]), None, "cut at {cut}");
            }
        }
    }
}
