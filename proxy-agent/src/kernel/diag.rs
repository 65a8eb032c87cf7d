//! Connected UDP sockets of a network namespace, and closing them: sock_diag(7). Numbers and layouts are those of `linux/inet_diag.h` and `linux/sock_diag.h`. Knows no Services.

use std::{io, net::IpAddr, os::fd::OwnedFd};

use proxy_common::{Addr4, Addr6, Address, Port, Proto};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Types of messages, and their flags.
mod message {
    pub(super) const ERROR: u16 = 2;
    pub(super) const DONE: u16 = 3;
    pub(super) const BY_FAMILY: u16 = 20;
    pub(super) const DESTROY: u16 = 21;
    pub(super) const REQUEST: u16 = 1;
    pub(super) const ACK: u16 = 4;
    pub(super) const DUMP: u16 = 0x300;
}

/// `TCP_ESTABLISHED`, which is also the state of a connected datagram socket.
const ESTABLISHED: u8 = 1;

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

/// `inet_diag_sockid`: what names a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Id {
    source_port: u16,
    remote_port: u16,
    source: [u32; 4],
    remote: [u32; 4],
    device: u32,
    cookie: [u32; 2],
}

/// `inet_diag_req_v2`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Request {
    family: u8,
    proto: u8,
    extensions: u8,
    pad: u8,
    states: u32,
    id: Id,
}

/// `inet_diag_msg`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Answer {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    id: Id,
    /// Timers, queues, owner and inode.
    rest: [u32; 5],
}

/// A connected UDP socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connected {
    family: u8,
    id: Id,
}

impl Connected {
    /// The kernel's number of the socket, as `bpf_get_socket_cookie` gives it.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        let [low, high] = self.id.cookie;
        u64::from(high) << 32 | u64::from(low)
    }

    /// Whom it is connected to. An IPv6 socket that talks IPv4 shows the IPv4 address.
    #[must_use]
    pub fn remote(&self) -> (IpAddr, Port) {
        let addr = if i32::from(self.family) == libc::AF_INET {
            Addr4::from_word(self.id.remote[0]).to_ip()
        } else {
            Addr6::from_words(self.id.remote).to_ip().to_canonical()
        };
        (addr, Port::from_wire(self.id.remote_port))
    }
}

/// A conversation with the kernel about the sockets of the namespace that it was opened in.
#[derive(Debug)]
pub struct Socket {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens one in the namespace of the calling thread.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
        Ok(Self { socket, buffer: vec![0; 1 << 16] })
    }

    /// All connected UDP sockets.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn connected(&mut self) -> io::Result<Vec<Connected>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let request = request(family as u8, Id::default());
            self.ask(message::BY_FAMILY, message::DUMP, request.as_bytes(), |answer| {
                let answer = Answer::read_from_prefix(answer);
                found.extend(answer.map(|(Answer { family, id, .. }, _)| Connected { family, id }));
            })?;
        }
        Ok(found)
    }

    /// Closes a socket: whoever waits on it gets `ECONNABORTED`, and it is connected to nobody. False if it was gone.
    ///
    /// # Errors
    /// As the kernel gives them; `EOPNOTSUPP` without `CONFIG_INET_DIAG_DESTROY`.
    pub fn close(&mut self, one: &Connected) -> io::Result<bool> {
        let request = request(one.family, one.id);
        match self.ask(message::DESTROY, message::ACK, request.as_bytes(), |_| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends a request, and gives every answer but the last to `each`.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let len = (size_of::<Header>() + body.len()) as u32;
        let header = Header { len, kind, flags: message::REQUEST | flags, sequence: 1, sender: 0 };
        send(&self.socket, &[header.as_bytes(), body].concat(), SendFlags::empty())?;
        loop {
            let (len, _) = recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty())?;
            let mut rest = self.buffer.get(..len).unwrap_or_default();
            while let Some((kind, body, after)) = split(rest) {
                match kind {
                    message::DONE => return Ok(()),
                    message::ERROR => return verdict(body),
                    _ => each(body),
                }
                rest = after;
            }
        }
    }
}

fn request(family: u8, id: Id) -> Request {
    let Proto(proto) = Proto::UDP;
    Request { family, proto, extensions: 0, pad: 0, states: 1 << ESTABLISHED, id }
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
