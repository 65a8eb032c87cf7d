//! Flows of the packet road: two entries for a translated connection, one per direction.
//!
//! The *forward* entry is keyed by the packet as the client sends it, the *reply* entry by the packet as the
//! backend answers it. Each holds the tuple that its packets get, so each names the other: the key of the
//! other direction is the translated tuple turned round ([`Flow::other`]).
//!
//! A new connection lives in the small LRU `halfopen`; the first reply moves both entries to the hash
//! `flows`, which the kernel never evicts. So a SYN flood cannot push out an established connection; and what its
//! backends answer is collected soon, because no client acknowledges it ([`FlowFlags::BRIEF`]).

use core::fmt;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::addr::{Addr4, Addr6, Port, Proto};
use crate::frontend::ServiceId;
use crate::layout;

/// Key of the `flows` and `halfopen` maps: a packet's tuple as it arrives at the hook.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FlowKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub sport: Port,
    /// Destination port.
    pub dport: Port,
    /// Protocol.
    pub proto: Proto,
    /// Always zero.
    pub pad: [u8; 3],
}

impl<A: Copy> FlowKey<A> {
    /// A tuple.
    #[inline(always)]
    pub const fn new(src: A, sport: Port, dst: A, dport: Port, proto: Proto) -> Self {
        Self { src, dst, sport, dport, proto, pad: [0; 3] }
    }

    /// The tuple of the answer.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self::new(self.dst, self.dport, self.src, self.sport, self.proto)
    }
}

word! {
    /// How a packet of a flow leaves the hook once it is rewritten.
    pub struct Route(pub u8);
}

impl Route {
    /// On through the stack of the node.
    pub const STACK: Self = Self(0);
    /// Straight into the peer of the local pod's veth, with the entry's addresses in the Ethernet header.
    pub const PEER: Self = Self(1);
    /// Out of the device, with the entry's addresses in the Ethernet header.
    pub const DEVICE: Self = Self(2);
    /// Out of the device, neighbour resolved by the kernel for each packet.
    pub const NEIGHBOUR: Self = Self(3);
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::STACK => f.write_str("stack"),
            Self::PEER => f.write_str("peer"),
            Self::DEVICE => f.write_str("device"),
            Self::NEIGHBOUR => f.write_str("neighbour"),
            Self(other) => write!(f, "route {other}"),
        }
    }
}

word! {
    /// What is known of one direction of a flow.
    pub struct FlowFlags(pub u8);
}

impl FlowFlags {
    /// The entry of the backend's answers.
    pub const REPLY: Self = Self(1);
    /// This direction has sent its FIN. Without an answer, of both: the backend has another connection of these ports, and
    /// keeps it.
    pub const FIN: Self = Self(2);
    /// This direction has sent a RST.
    pub const RST: Self = Self(4);
    /// The source of the forward direction is replaced: by a node address, or by another port alone.
    pub const MASQUERADED: Self = Self(8);
    /// `route`, `ifindex` and the Ethernet addresses are filled in; without it the next packet looks them up.
    pub const ROUTED: Self = Self(16);
    /// Lives briefly. Of the answers of a UDP backend that the client was taken away from: what it still says is translated,
    /// and makes no connection. Of the packets of a TCP client that was answered: until it acknowledges anything, because
    /// whoever opens under somebody else's address never does.
    pub const BRIEF: Self = Self(32);
    /// Only judged: the packets stay as they are and go on through the stack. The tuple "after the rewrite" is the same.
    pub const PLAIN: Self = Self(64);
    /// In a `tunnels` map: packets go to the backend's node inside of another IP header, from `src` to `dst`, and the
    /// answers pass elsewhere. Of answers: the client's packets come that way, so they must be shorter.
    pub const TUNNEL: Self = Self(128);
}

bits!(FlowFlags);

impl fmt::Debug for FlowFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::REPLY, "reply"),
            (Self::FIN, "fin"),
            (Self::RST, "rst"),
            (Self::MASQUERADED, "masqueraded"),
            (Self::ROUTED, "routed"),
            (Self::BRIEF, "brief"),
            (Self::PLAIN, "plain"),
            (Self::TUNNEL, "tunnel"),
        ];
        let mut list = f.debug_set();
        for (flag, name) in names {
            if self.has(flag) {
                list.entry(&format_args!("{name}"));
            }
        }
        list.finish()
    }
}

/// Value of the `flows` and `halfopen` maps: all that an established packet needs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow<A> {
    /// A field that only the layout for tests has.
    #[cfg(feature = "layout-next")]
    pub room: [u32; 2],
    /// As without the feature, in another place.
    #[cfg(feature = "layout-next")]
    pub origin: u32,
    /// Source address after the rewrite.
    pub src: A,
    /// Destination address after the rewrite.
    pub dst: A,
    /// Source port after the rewrite.
    pub sport: Port,
    /// Destination port after the rewrite.
    pub dport: Port,
    /// Checksum difference of the addresses, as `bpf_csum_diff` would give it.
    pub addr_delta: u32,
    /// Checksum difference of the ports; zero if they stay as they are.
    pub port_delta: u32,
    /// Whose connection it is.
    pub service: ServiceId,
    /// Generation of the frontend that chose the backend.
    pub generation: u32,
    /// Low 32 bits of the kernel's jiffies when a packet was last seen, refreshed at most once a second.
    pub seen: u32,
    /// Device of [`Route::PEER`], [`Route::DEVICE`] and [`Route::NEIGHBOUR`].
    pub ifindex: u32,
    /// Ethernet destination of [`Route::PEER`] and [`Route::DEVICE`].
    pub eth_dst: [u8; 6],
    /// Ethernet source of [`Route::PEER`] and [`Route::DEVICE`].
    pub eth_src: [u8; 6],
    /// Direction and state.
    pub flags: FlowFlags,
    /// How the packet leaves.
    pub route: Route,
    /// Largest packet that the way takes, in bytes from the network header on; zero: not known. Not in network order.
    pub mtu: u16,
    /// [`crate::PolicyState::epoch`] at which the connection was judged last; zero: not yet.
    pub epoch: u32,
    /// Index of the pod's device that this direction comes in by; zero: not known. Another one is asked for at a pod's
    /// ingress hook only.
    #[cfg(not(feature = "layout-next"))]
    pub origin: u32,
}

impl<A: Copy> Flow<A> {
    /// The key of the other direction's entry: the translated tuple, turned round.
    #[inline(always)]
    pub const fn other(&self, proto: Proto) -> FlowKey<A> {
        FlowKey::new(self.dst, self.dport, self.src, self.sport, proto)
    }
}

impl<A: Copy + Default> Flow<A> {
    /// The forward entry of a connection that is only judged; its key is `key`, and its packets stay as they are.
    #[inline(always)]
    #[must_use]
    pub fn plain(key: &FlowKey<A>) -> Self {
        Self {
            src: key.src,
            dst: key.dst,
            sport: key.sport,
            dport: key.dport,
            flags: FlowFlags::PLAIN,
            ..Self::default()
        }
    }

    /// The other direction's entry as it was when the flow began; `key` is the key of this one.
    #[inline(always)]
    #[must_use]
    pub fn twin(&self, key: &FlowKey<A>) -> Self {
        let direction = (self.flags.0 ^ FlowFlags::REPLY.0) & FlowFlags::REPLY.0;
        Self {
            src: key.dst,
            dst: key.src,
            sport: key.dport,
            dport: key.sport,
            // In one's complement arithmetic the complement is the negative. Zero stays zero: unchanged ports.
            addr_delta: if self.flags.has(FlowFlags::PLAIN) { 0 } else { !self.addr_delta },
            port_delta: if self.port_delta == 0 { 0 } else { !self.port_delta },
            service: self.service,
            generation: self.generation,
            seen: self.seen,
            epoch: self.epoch,
            flags: FlowFlags(direction | self.flags.0 & (FlowFlags::MASQUERADED.0 | FlowFlags::PLAIN.0)),
            ..Self::default()
        }
    }
}

const _: () = assert!(size_of::<FlowKey<Addr4>>() == 16);
const _: () = assert!(size_of::<FlowKey<Addr6>>() == 40);
const _: () = assert!(size_of::<Flow<Addr4>>() == 60 + layout::NEXT * 8);
const _: () = assert!(size_of::<Flow<Addr6>>() == 84 + layout::NEXT * 8);
