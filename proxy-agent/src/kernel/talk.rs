//! A conversation with the kernel over netlink(7), a request at a time: for what no library of ours speaks. Knows headers, and
//! nothing of what is talked about.

use std::{io, os::fd::OwnedFd};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Types of messages that every protocol has, from `linux/netlink.h`.
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Flags of a request, from `linux/netlink.h`.
pub(super) mod flags {
    const REQUEST: u16 = 1;
    /// Says whether it was done.
    pub(in crate::kernel) const ACK: u16 = REQUEST | 4;
    /// Lists.
    pub(in crate::kernel) const DUMP: u16 = REQUEST | 0x300;
    /// Makes what is not there; an error if it is.
    pub(in crate::kernel) const CREATE: u16 = ACK | 0x200 | 0x400;
}

/// `nlmsghdr`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    len: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    sender: u32,
}

/// A conversation in the network namespace that it was opened in.
#[derive(Debug)]
pub(super) struct Talk {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Talk {
    /// Opens one in the namespace of the calling thread. No protocol is NETLINK_ROUTE.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub(super) fn open(protocol: impl Into<Option<Protocol>>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol.into())?;
        Ok(Self { socket, buffer: vec![0; 1 << 16] })
    }

    /// Sends a request, and gives every answer but the last to `each`.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub(super) fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let len = (size_of::<Header>() + body.len()) as u32;
        let header = Header { len, kind, flags, sequence: 1, sender: 0 };
        send(&self.socket, &[header.as_bytes(), body].concat(), SendFlags::empty())?;
        loop {
            let (len, _) = recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty())?;
            let mut rest = self.buffer.get(..len).unwrap_or_default();
            while let Some((kind, body, after)) = split(rest) {
                match kind {
                    DONE => return Ok(()),
                    ERROR => return verdict(body),
                    _ => each(body),
                }
                rest = after;
            }
        }
    }
}

/// The body of an error is its negative number, zero for none.
fn verdict(body: &[u8]) -> io::Result<()> {
    let (number, _) = i32::read_from_prefix(body).map_err(|_| io::ErrorKind::InvalidData)?;
    if number == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-number)) }
}

/// The first message: its type, its body, and what follows.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (header, _) = Header::read_from_prefix(bytes).ok()?;
    let len = header.len as usize;
    let body = bytes.get(size_of::<Header>()..len)?;
    Some((header.kind, body, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// The value of the first attribute of a kind.
pub(super) fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    /// Bits beside the kind: `NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`.
    const FLAGS: u16 = 0xc000;
    loop {
        let [a, b, c, d, ..] = *attributes else { return None };
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let value = attributes.get(4..len)?;
        if u16::from_ne_bytes([c, d]) & !FLAGS == kind {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}
