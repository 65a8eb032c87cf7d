//! Connected UDP sockets of a network namespace, and closing them: sock_diag(7). Numbers and layouts are those of `linux/inet_diag.h` and `linux/sock_diag.h`. Knows no Services.

use std::{io, net::IpAddr};

use proxy_common::{Addr4, Addr6, Address, Port, Proto};
use rustix::net::netlink;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::talk::{Talk, flags};

/// Types of messages.
mod message {
    pub(super) const BY_FAMILY: u16 = 20;
    pub(super) const DESTROY: u16 = 21;
}

/// `TCP_ESTABLISHED`, which is also the state of a connected datagram socket.
const ESTABLISHED: u8 = 1;

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

    /// Where it sends from. An IPv6 socket that talks IPv4 shows the IPv4 address.
    #[must_use]
    pub fn local(&self) -> (IpAddr, Port) {
        (self.address(self.id.source), Port::from_wire(self.id.source_port))
    }

    /// Whom it is connected to, in the same way.
    #[must_use]
    pub fn remote(&self) -> (IpAddr, Port) {
        (self.address(self.id.remote), Port::from_wire(self.id.remote_port))
    }

    fn address(&self, words: [u32; 4]) -> IpAddr {
        if i32::from(self.family) == libc::AF_INET {
            Addr4::from_word(words[0]).to_ip()
        } else {
            Addr6::from_words(words).to_ip().to_canonical()
        }
    }
}

/// A conversation with the kernel about the sockets of the namespace that it was opened in.
#[derive(Debug)]
pub struct Socket {
    talk: Talk,
}

impl Socket {
    /// Opens one in the namespace of the calling thread.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn open() -> io::Result<Self> {
        Ok(Self { talk: Talk::open(netlink::SOCK_DIAG)? })
    }

    /// All connected UDP sockets.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn connected(&mut self) -> io::Result<Vec<Connected>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let request = request(family as u8, Id::default());
            self.talk.ask(message::BY_FAMILY, flags::DUMP, request.as_bytes(), |answer| {
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
        match self.talk.ask(message::DESTROY, flags::ACK, request.as_bytes(), |_| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn request(family: u8, id: Id) -> Request {
    let Proto(proto) = Proto::UDP;
    Request { family, proto, extensions: 0, pad: 0, states: 1 << ESTABLISHED, id }
}
