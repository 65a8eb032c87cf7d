//! Builds ICMP errors for tests: who says it, to whom, what is wrong, and what it quotes.

use std::net::IpAddr;

use crate::packet::{Link, Packet, checksum, ethernet, header4, header6, pseudo_header};

/// What is wrong, the same in both families.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// Nobody has the port.
    Port,
    /// No way to the host.
    Host,
    /// Larger than this.
    TooLarge(u16),
    /// Too many routers.
    TimeExceeded,
    /// The header is not understood.
    Parameter,
}

/// An ICMP error.
#[derive(Clone, Debug)]
pub struct IcmpError {
    /// Ethernet addresses.
    pub link: Link,
    /// Who says it.
    pub from: IpAddr,
    /// To whom.
    pub to: IpAddr,
    /// What is wrong.
    pub wrong: Wrong,
    /// The packet that did not arrive.
    pub about: Packet,
    /// Bytes of it that are quoted, from its network header on.
    pub quoted: usize,
    /// Routers it may still pass.
    pub hops: u8,
    /// Precedence: what makes the error itself different from others.
    pub service: u8,
}

impl IcmpError {
    /// An error about a packet, told to whoever sent it; all of the packet is quoted.
    ///
    /// # Panics
    /// If `from` is no address.
    #[must_use]
    pub fn new(wrong: Wrong, from: &str, about: &Packet) -> Self {
        let from = from.parse().unwrap_or_else(|_| panic!("{from} is no address"));
        Self {
            link: Link { to: [0; 6], from: [2, 0, 0, 0, 0, 1] },
            from,
            to: about.from.ip(),
            wrong,
            about: about.clone(),
            quoted: about.bytes().len() - 14,
            hops: 64,
            service: 0,
        }
    }

    /// The whole frame.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let is_v4 = self.from.is_ipv4();
        let (kind, word) = match (self.wrong, is_v4) {
            (Wrong::Port, true) => ([3, 3], 0),
            (Wrong::Port, false) => ([1, 4], 0),
            (Wrong::Host, true) => ([3, 1], 0),
            (Wrong::Host, false) => ([1, 3], 0),
            (Wrong::TooLarge(size), true) => ([3, 4], u32::from(size)),
            (Wrong::TooLarge(size), false) => ([2, 0], u32::from(size)),
            (Wrong::TimeExceeded, true) => ([11, 0], 0),
            (Wrong::TimeExceeded, false) => ([3, 0], 0),
            (Wrong::Parameter, true) => ([12, 0], 0),
            (Wrong::Parameter, false) => ([4, 0], 40),
        };
        let quote = &self.about.bytes()[14..14 + self.quoted];
        let mut message = [&kind[..], &[0, 0], &word.to_be_bytes(), quote].concat();
        let pseudo = if is_v4 { Vec::new() } else { pseudo_header(self.from, self.to, 58, message.len()) };
        let sum = checksum(&[&pseudo[..], &message].concat());
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let header = if is_v4 {
            header4(self.from, self.to, 1, self.service, self.hops, 0, &[], message.len())
        } else {
            header6(self.from, self.to, 58, self.hops, message.len())
        };
        [ethernet(self.link, is_v4), header, message].concat()
    }
}
