//! Which addresses are behind a pod's device: those that the pod's end of the veth has. The kernel tells them across the
//! namespace (`IFA_TARGET_NETNSID`, rtnetlink(7)), whatever the CNI did with routes, bridges and neighbours, and before
//! anybody has told the API. Knows no pod by name.
//!
//! Only somebody with the capability over the pod's own network can give its device another address; ARP and neighbour
//! tables, which every process with a raw socket can fill, are not asked.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
};

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle,
    packet_route::{
        AddressFamily,
        address::{AddressAttribute, AddressMessage, AddressScope},
    },
};
use rustix::net::{
    AddressFamily as SocketFamily, RecvFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink,
    recv, socket_with,
};
use tokio::io::unix::AsyncFd;

use super::{error::Error, topology::Peer};

/// Groups of rtnetlink(7): addresses of both families.
const ADDRESSES: u32 = 1 << 4 | 1 << 8;
/// Bytes read at once. What does not fit is lost, and nobody reads it: that something came is enough.
const MESSAGE: usize = 4_096;

/// Asks for the addresses of pods' ends.
pub(super) struct Addresses {
    handle: Handle,
}

impl Addresses {
    /// A connection of its own: the kernel looks at the namespace only where it checks requests strictly, which would
    /// refuse those of others.
    pub(super) fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection_with_strict_check()
            .map_err(|source| Error::Netlink { verb: "ask for pods' addresses", source })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The global addresses of a device in another namespace; none if either is gone.
    pub(super) async fn of(&self, peer: Peer) -> Vec<IpAddr> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = self.handle.address().get();
            let message = request.message_mut();
            message.header.family = family;
            message.header.index = peer.index;
            message.attributes.push(AddressAttribute::TargetNetNsId(peer.namespace));
            match request.execute().try_collect::<Vec<_>>().await {
                Ok(messages) => found.extend(messages.iter().filter_map(global)),
                // The pod is being made, or on its way out.
                Err(error) => tracing::debug!(%error, ?peer, "a pod's addresses cannot be read"),
            }
        }
        found
    }
}

/// The address of a message, unless it is good on one link only.
fn global(message: &AddressMessage) -> Option<IpAddr> {
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    let one = |local: bool| {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the enum grows with the kernel; two arms matter")]
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) if local => Some(*ip),
            AddressAttribute::Address(ip) if !local => Some(*ip),
            _ => None,
        })
    };
    // On a point-to-point device `Address` is the peer's; IPv6 often has it alone.
    one(true).or_else(|| one(false))
}

/// Rings when addresses change in any namespace that this one has devices into.
pub(super) struct Bell {
    socket: AsyncFd<OwnedFd>,
}

impl Bell {
    pub(super) fn open() -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Netlink { verb: "follow pods' addresses", source };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // No protocol is NETLINK_ROUTE.
        let socket = socket_with(SocketFamily::NETLINK, SocketType::RAW, flags, None)
            .map_err(|error| failed(error.into()))?;
        listen_everywhere(&socket).map_err(failed)?;
        bind(&socket, &SocketAddrNetlink::new(0, ADDRESSES)).map_err(|error| failed(error.into()))?;
        // SAFETY: the socket is owned by what is made here, and closed only with it.
        let socket = unsafe { AsyncFd::register(socket) };
        Ok(Self { socket: socket.map_err(|error| failed(error.into()))? })
    }

    /// Until something has changed; what has changed together rings once.
    pub(super) async fn rung(&self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut any = false;
            loop {
                let mut message = [0_u8; MESSAGE];
                match recv(self.socket.get_ref(), &mut message[..], RecvFlags::empty()) {
                    // Messages that were lost have rung, too.
                    Ok(_) | Err(rustix::io::Errno::NOBUFS) => any = true,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if any {
                return Ok(());
            }
        }
    }
}

/// Messages of all namespaces that have a number in this one.
fn listen_everywhere(socket: &OwnedFd) -> io::Result<()> {
    let yes: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `yes`, which is its size, and nothing else.
    let result = unsafe {
        let value = (&raw const yes).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID, value, len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
