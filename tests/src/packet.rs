//! Builds packets for tests, from addresses to bytes with right checksums. Written apart from the programs: it
//! shares no arithmetic with them, so that a mistake is not made twice.

use std::net::{IpAddr, SocketAddr};

/// Who an Ethernet frame is from and for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Destination address.
    pub to: [u8; 6],
    /// Source address.
    pub from: [u8; 6],
}

/// What the packet carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP with these flags.
    Tcp(u8),
    /// UDP.
    Udp,
    /// UDP whose sender has not summed it, which IPv4 allows.
    UdpUnsummed,
    /// SCTP, with its CRC.
    Sctp,
    /// SCTP whose CRC the device is to fill in.
    SctpUnsummed,
    /// What a later fragment of a UDP datagram has: data.
    UdpRest,
    /// ICMP echo request of the family.
    Echo,
    /// ICMP echo reply of the family.
    EchoReply,
}

/// TCP flags.
pub mod flags {
    /// Opens.
    pub const SYN: u8 = 0x02;
    /// Answers an opening.
    pub const SYN_ACK: u8 = 0x12;
    /// Everything in between.
    pub const ACK: u8 = 0x10;
    /// Closes.
    pub const FIN: u8 = 0x11;
    /// Aborts.
    pub const RST: u8 = 0x14;
}

/// One packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Ethernet addresses.
    pub link: Link,
    /// Source.
    pub from: SocketAddr,
    /// Destination, of the same family.
    pub to: SocketAddr,
    /// Protocol.
    pub transport: Transport,
    /// Routers it may still pass.
    pub hops: u8,
    /// IPv4: offset in units of 8 bytes and "more fragments" in the top bit. IPv6: adds a fragment header.
    pub fragment: Option<Fragment>,
    /// IPv4: routers may cut it into fragments.
    pub may_be_cut: bool,
    /// TCP options, a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// IPv4 options, or whole IPv6 extension headers with the numbers of their kinds; multiples of 4 or 8 bytes.
    pub extra: Vec<Extra>,
    /// Data.
    pub payload: Vec<u8>,
}

/// Which part of a datagram the packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fragment {
    /// The first: it has the ports.
    First,
    /// The last, this many bytes in.
    Later(u16),
    /// One in between, this many bytes in.
    Middle(u16),
}

/// IPv4 options or one IPv6 extension header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extra {
    /// Kind of an IPv6 extension header.
    pub kind: u8,
    /// Bytes; an extension header's first byte is overwritten by the kind of the next.
    pub bytes: Vec<u8>,
}

/// An address and port, as people write them.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address with a port"))
}

impl Packet {
    /// A packet that a pod sends, without data.
    #[must_use]
    pub fn new(transport: Transport, from: &str, to: &str) -> Self {
        Self {
            link: Link { to: [0; 6], from: [2, 0, 0, 0, 0, 1] },
            from: addr(from),
            to: addr(to),
            transport,
            hops: 64,
            fragment: None,
            may_be_cut: false,
            options: Vec::new(),
            extra: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// TCP.
    #[must_use]
    pub fn tcp(flags: u8, from: &str, to: &str) -> Self {
        Self::new(Transport::Tcp(flags), from, to)
    }

    /// UDP with some data of odd length.
    #[must_use]
    pub fn udp(from: &str, to: &str) -> Self {
        Self { payload: b"query".to_vec(), ..Self::new(Transport::Udp, from, to) }
    }

    /// The same packet with other data.
    #[must_use]
    pub fn with_payload(self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self }
    }

    /// The same packet between other endpoints: what a translation should make of it.
    #[must_use]
    pub fn between(&self, from: &str, to: &str) -> Self {
        Self { from: addr(from), to: addr(to), ..self.clone() }
    }

    /// The same packet with other Ethernet addresses, one router further on.
    #[must_use]
    pub fn forwarded(self, link: Link) -> Self {
        Self { link, hops: self.hops - 1, ..self }
    }

    /// The whole frame.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [self.ethernet(), self.network(), self.transport_bytes()].concat()
    }

    /// The answer to this packet that says "nobody is here": ICMP port unreachable, to the sender, from the
    /// address that was asked, with the Ethernet addresses swapped.
    #[must_use]
    pub fn port_unreachable(&self) -> Vec<u8> {
        let start = match self.transport {
            Transport::Tcp(_) => 20,
            Transport::UdpRest => 0,
            Transport::Udp
            | Transport::UdpUnsummed
            | Transport::Sctp
            | Transport::SctpUnsummed
            | Transport::Echo
            | Transport::EchoReply => 8,
        };
        let quote = [&self.network()[..], &self.transport_bytes()[..start]].concat();
        let kind = if self.is_v4() { [3, 3] } else { [1, 4] };
        let mut message = [&kind[..], &[0; 6], &quote].concat();
        let (from, to) = (self.to.ip(), self.from.ip());
        let pseudo = if self.is_v4() { Vec::new() } else { pseudo_header(from, to, 58, message.len()) };
        let sum = checksum(&[&pseudo[..], &message].concat());
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let link = Link { to: self.link.from, from: self.link.to };
        let header = if self.is_v4() {
            header4(from, to, 1, 0xc0, 64, 0, &[], message.len())
        } else {
            header6(from, to, 58, 64, message.len())
        };
        [ethernet(link, self.is_v4()), header, message].concat()
    }

    /// The answer that refuses this packet: a RST to a bare SYN, "port unreachable" to everything else.
    #[must_use]
    pub fn refusal(&self) -> Vec<u8> {
        let bare = self.payload.is_empty() && self.extra.is_empty() && self.fragment.is_none();
        if bare && matches!(self.transport, Transport::Tcp(_)) {
            self.reset()
        } else {
            self.port_unreachable()
        }
    }

    /// RFC 9293 section 3.10.7.1: sequence 0, acknowledges the SYN, from the address that was asked.
    fn reset(&self) -> Vec<u8> {
        let (from, to) = (self.to.ip(), self.from.ip());
        let ports = [self.to.port().to_be_bytes(), self.from.port().to_be_bytes()].concat();
        let mut bytes = [&ports[..], &[0, 0, 0, 0, 0, 0, 0, 10, 0x50, flags::RST, 0, 0, 0, 0, 0, 0]].concat();
        let sum = checksum(&[pseudo_header(from, to, 6, bytes.len()), bytes.clone()].concat());
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        let link = Link { to: self.link.from, from: self.link.to };
        let header = if self.is_v4() {
            header4(from, to, 6, 0, 64, 0, &[], bytes.len())
        } else {
            header6(from, to, 6, 64, bytes.len())
        };
        [ethernet(link, self.is_v4()), header, bytes].concat()
    }

    fn is_v4(&self) -> bool {
        self.from.is_ipv4()
    }

    fn proto(&self) -> u8 {
        match self.transport {
            Transport::Tcp(_) => 6,
            Transport::Udp | Transport::UdpUnsummed | Transport::UdpRest => 17,
            Transport::Sctp | Transport::SctpUnsummed => 132,
            Transport::Echo | Transport::EchoReply if self.is_v4() => 1,
            Transport::Echo | Transport::EchoReply => 58,
        }
    }

    fn ethernet(&self) -> Vec<u8> {
        ethernet(self.link, self.is_v4())
    }

    /// The network header with options or extension headers.
    fn network(&self) -> Vec<u8> {
        let (from, to, length) = (self.from.ip(), self.to.ip(), self.transport_bytes().len());
        if self.is_v4() {
            let fragment = match self.fragment {
                None if self.may_be_cut => 0,
                None => 0x4000,
                Some(Fragment::First) => 0x2000,
                Some(Fragment::Later(bytes)) => bytes / 8,
                Some(Fragment::Middle(bytes)) => 0x2000 | (bytes / 8),
            };
            let options: Vec<u8> = self.extra.iter().flat_map(|extra| extra.bytes.clone()).collect();
            return header4(from, to, self.proto(), 0, self.hops, fragment, &options, length);
        }
        let mut extras = self.extra.clone();
        if let Some(fragment) = self.fragment {
            let field: u16 = match fragment {
                Fragment::First => 1,
                Fragment::Later(bytes) => bytes & !7,
                Fragment::Middle(bytes) => bytes & !7 | 1,
            };
            let bytes = [&[0, 0][..], &field.to_be_bytes(), &[0, 0, 0, 7]].concat();
            extras.push(Extra { kind: 44, bytes });
        }
        let kinds: Vec<u8> = extras.iter().map(|extra| extra.kind).chain([self.proto()]).collect();
        let mut chain = Vec::new();
        for (extra, next) in extras.iter().zip(&kinds[1..]) {
            chain.push(*next);
            chain.extend_from_slice(&extra.bytes[1..]);
        }
        [header6(from, to, kinds[0], self.hops, chain.len() + length), chain].concat()
    }

    fn transport_bytes(&self) -> Vec<u8> {
        let ports = [self.from.port().to_be_bytes(), self.to.port().to_be_bytes()].concat();
        let (mut bytes, at) = match self.transport {
            Transport::Tcp(flags) => {
                let words = 5 + self.options.len() as u8 / 4;
                let rest = [0, 0, 0, 9, 0, 0, 0, 8, words << 4, flags, 0x20, 0, 0, 0, 0, 0];
                ([&ports[..], &rest, &self.options, &self.payload].concat(), Some(16))
            }
            Transport::Udp | Transport::UdpUnsummed => {
                let length = (8 + self.payload.len() as u16).to_be_bytes();
                let at = (self.transport == Transport::Udp).then_some(6);
                ([&ports[..], &length, &[0, 0], &self.payload].concat(), at)
            }
            Transport::Sctp | Transport::SctpUnsummed => {
                let mut bytes = [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 0], &self.payload].concat();
                if self.transport == Transport::Sctp {
                    let crc = crc32c(&bytes).to_le_bytes();
                    bytes[8..12].copy_from_slice(&crc);
                }
                (bytes, None)
            }
            Transport::UdpRest => (self.payload.clone(), None),
            Transport::Echo | Transport::EchoReply => {
                let kind = match (self.transport, self.is_v4()) {
                    (Transport::Echo, true) => 8,
                    (Transport::Echo, false) => 128,
                    (_, true) => 0,
                    (_, false) => 129,
                };
                ([&[kind, 0, 0, 0, 0, 1, 0, 1][..], &self.payload].concat(), Some(2))
            }
        };
        if let Some(at) = at {
            let plain = self.proto() == 1;
            let pseudo = match plain {
                true => Vec::new(),
                false => pseudo_header(self.from.ip(), self.to.ip(), self.proto(), bytes.len()),
            };
            let sum = match checksum(&[&pseudo[..], &bytes].concat()) {
                // Zero on the wire says "not summed" (RFC 768).
                0 if self.transport == Transport::Udp => 0xffff,
                sum => sum,
            };
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }
}

pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(crate) fn ethernet(link: Link, is_v4: bool) -> Vec<u8> {
    let protocol = if is_v4 { [8, 0] } else { [0x86, 0xdd] };
    [&link.to[..], &link.from, &protocol].concat()
}

#[expect(clippy::too_many_arguments, reason = "the fields of the header, in their order")]
pub(crate) fn header4(
    from: IpAddr,
    to: IpAddr,
    proto: u8,
    service: u8,
    hops: u8,
    fragment: u16,
    options: &[u8],
    length: usize,
) -> Vec<u8> {
    let own = 20 + options.len();
    let total = ((own + length) as u16).to_be_bytes();
    let [f0, f1] = fragment.to_be_bytes();
    let fixed = [0x40 | (own / 4) as u8, service, total[0], total[1], 0, 0, f0, f1, hops, proto, 0, 0];
    let mut bytes = [&fixed[..], &octets(from), &octets(to), options].concat();
    let sum = checksum(&bytes);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

pub(crate) fn header6(from: IpAddr, to: IpAddr, next: u8, hops: u8, length: usize) -> Vec<u8> {
    let length = (length as u16).to_be_bytes();
    [&[0x60, 0, 0, 0][..], &length, &[next, hops], &octets(from), &octets(to)].concat()
}

pub(crate) fn pseudo_header(from: IpAddr, to: IpAddr, proto: u8, length: usize) -> Vec<u8> {
    let length = (length as u32).to_be_bytes();
    [&octets(from)[..], &octets(to), &length, &[0, 0, 0, proto]].concat()
}

/// RFC 9260 appendix A, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |register: u32| (register >> 1) ^ if register & 1 == 1 { 0x82f6_3b78 } else { 0 };
    let fold =
        |register: u32, byte: &u8| (0..8).fold(register ^ u32::from(*byte), |register, _| step(register));
    !bytes.iter().fold(u32::MAX, fold)
}

/// RFC 1071, in the plainest way.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u64 =
        bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u64::from)).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
