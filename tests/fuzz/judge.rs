//! What a frame is, by RFC 791, 8200, 9293, 768 and 9260; slow and plain.

use std::net::IpAddr;

/// Addresses and ports of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tuple {
    pub src: IpAddr,
    pub sport: u16,
    pub dst: IpAddr,
    pub dport: u16,
    pub proto: u8,
}

/// A packet with ports.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    pub tuple: Tuple,
    /// IPv4 header and transport sums are as they must be. Of a fragment only the header's can be told.
    pub sums: Sums,
}

/// Whether checksums are right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sums {
    Right,
    Wrong,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// A network packet without its link header and padding.
struct Network<'a> {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    payload: &'a [u8],
    header: Sums,
    part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    First,
}

/// The packet with ports that the frame is, if it is one.
pub fn judge(frame: &[u8]) -> Option<Judged> {
    let network = network(frame)?;
    let payload = network.payload;
    let shortest = match network.proto {
        TCP => 20,
        UDP => 8,
        SCTP => 12,
        _ => return None,
    };
    if payload.len() < shortest {
        return None;
    }
    let number = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    let tuple = Tuple {
        src: network.src,
        sport: number(0),
        dst: network.dst,
        dport: number(2),
        proto: network.proto,
    };
    let transport = match network.part {
        Part::First => Sums::Right,
        Part::Whole => transport_sum(&network),
    };
    let sums = if network.header == Sums::Right { transport } else { Sums::Wrong };
    Some(Judged { tuple, sums })
}

fn network(frame: &[u8]) -> Option<Network<'_>> {
    match frame.get(12..14)? {
        [0x08, 0x00] => ipv4(&frame[14..]),
        [0x86, 0xdd] => ipv6(&frame[14..]),
        _ => None,
    }
}

fn ipv4(packet: &[u8]) -> Option<Network<'_>> {
    let first = *packet.first()?;
    let header = usize::from(first & 15) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    if first >> 4 != 4 || header < 20 || total < header || packet.len() < total {
        return None;
    }
    let fragment = u16::from_be_bytes([packet[6], packet[7]]);
    if fragment & 0x1fff != 0 {
        return None;
    }
    let ip = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
    Some(Network {
        src: ip(12),
        dst: ip(16),
        proto: packet[9],
        payload: &packet[header..total],
        header: if sum(&packet[..header]) == 0xffff { Sums::Right } else { Sums::Wrong },
        part: if fragment & 0x2000 != 0 { Part::First } else { Part::Whole },
    })
}

fn ipv6(packet: &[u8]) -> Option<Network<'_>> {
    let length = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
    if packet[0] >> 4 != 6 || packet.len() < 40 + length {
        return None;
    }
    let ip = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
    let (src, dst) = (ip(8), ip(24));
    let (mut kind, mut rest, mut part) = (packet[6], &packet[40..40 + length], Part::Whole);
    loop {
        let skip = match kind {
            0 | 43 | 60 => 8 + usize::from(*rest.get(1)?) * 8,
            44 => {
                let field = u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]);
                if field & 0xfff8 != 0 {
                    return None;
                }
                part = if field & 1 != 0 { Part::First } else { part };
                8
            }
            51 => 8 + usize::from(*rest.get(1)?) * 4,
            _ => break,
        };
        kind = *rest.first()?;
        rest = rest.get(skip..)?;
    }
    Some(Network { src, dst, proto: kind, payload: rest, header: Sums::Right, part })
}

fn transport_sum(network: &Network<'_>) -> Sums {
    let bytes = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let payload = match network.proto {
        UDP => {
            let length = usize::from(u16::from_be_bytes([network.payload[4], network.payload[5]]));
            if network.payload[6..8] == [0, 0] {
                return if network.src.is_ipv4() { Sums::Right } else { Sums::Wrong };
            }
            match network.payload.get(..length) {
                Some(payload) => payload,
                None => return Sums::Wrong,
            }
        }
        TCP => network.payload,
        // Its checksum does not cover the addresses; ports are another test's.
        _ => return Sums::Wrong,
    };
    let length = (payload.len() as u32).to_be_bytes();
    let pseudo = [&bytes(network.src)[..], &bytes(network.dst), &length, &[0, 0, 0, network.proto]].concat();
    if sum(&[&pseudo[..], payload].concat()) == 0xffff { Sums::Right } else { Sums::Wrong }
}

/// RFC 1071, not yet inverted.
fn sum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u64::from);
    let mut sum: u64 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
