//! The one table of reasons: what a hook did with a packet or a socket call, and why.
//!
//! Counters are indexed by it, the CLI and `docs/reasons.md` print it. Numbers are never reused: retire a
//! reason, do not renumber.

/// What becomes of the packet or the call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// Goes on as it came: not ours.
    Pass,
    /// Goes on translated.
    Translate,
    /// The client is told at once: RST or ICMP port unreachable, `ECONNREFUSED` on the socket road.
    Reject,
    /// Gone without a word, or `EHOSTUNREACH` on the socket road.
    Drop,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal => $outcome:ident, $text:literal;)+) => {
        /// Why. Index of the `counters` map.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $name = $number,)+ }

        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// What becomes of the packet.
            #[inline(always)]
            pub const fn outcome(self) -> Outcome {
                match self { $(Self::$name => Outcome::$outcome,)+ }
            }

            /// One name in `kebab-case` for counters, metrics and filters.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What it means, from the doc comment.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

reasons! {
    /// Neither IPv4 nor IPv6, or a family that is not served.
    NotIp = 0 => Pass, "not-ip";
    /// To no frontend, and of no flow.
    NotAService = 1 => Pass, "not-a-service";
    /// In the middle of a TCP connection of which nothing is known: it belongs to the stack.
    MidStream = 2 => Pass, "mid-stream";
    /// A protocol without ports.
    NoPorts = 3 => Pass, "no-ports";
    /// A new connection was given a backend.
    ServiceNew = 4 => Translate, "service-new";
    /// A packet of a known flow, from the client.
    FlowForward = 5 => Translate, "flow-forward";
    /// A packet of a known flow, from the backend.
    FlowReply = 6 => Translate, "flow-reply";
    /// The Service has no usable backend anywhere (item 50).
    NoEndpoints = 7 => Reject, "no-endpoints";
    /// The address is a ClusterIP, the port is not one of its ports (item 52).
    UnknownPort = 8 => Reject, "unknown-port";
    /// Backends exist, but none on this node under a Local policy (items 50, 94).
    NoLocalEndpoints = 9 => Drop, "no-local-endpoints";
    /// In the range of ClusterIPs, but no Service owns the address (item 53).
    UnallocatedAddress = 10 => Drop, "unallocated-address";
    /// Every source port that the connection could have towards the backend is taken.
    NoSourcePort = 11 => Drop, "no-source-port";
    /// A flow table has no room for another connection.
    FlowTableFull = 12 => Drop, "flow-table-full";
    /// The packet ends before its headers do.
    Malformed = 13 => Drop, "malformed";
    /// The kernel refused a rewrite of the packet.
    RewriteFailed = 14 => Drop, "rewrite-failed";
    /// No address of this node is known to masquerade with.
    NoNodeAddress = 15 => Drop, "no-node-address";
    /// A socket was connected to a backend.
    SocketConnect = 16 => Translate, "socket-connect";
    /// A datagram of an unconnected socket was sent to a backend.
    SocketSend = 17 => Translate, "socket-send";
    /// The sender of a datagram was shown as the frontend.
    SocketReceive = 18 => Translate, "socket-receive";
    /// A frontend points at a slot outside of the array: a broken map.
    BadSegment = 19 => Drop, "bad-segment";
    /// A direct connection got another source port, because its replies would have been taken for a Service's.
    PortClash = 20 => Translate, "port-clash";
    /// The map that remembers a socket's peer has no room.
    SocketPeersFull = 21 => Drop, "socket-peers-full";
    /// The client is in none of the source ranges of the load balancer's address (item 81).
    SourceRange = 22 => Drop, "source-range";
    /// An ICMP error about a packet of a known flow: translated as the flow is, with the packet that it quotes (item 110).
    RelatedError = 23 => Translate, "related-error";
    /// A fragment of a datagram whose first fragment is not known, or is of no flow.
    Fragment = 24 => Pass, "fragment";
    /// A fragment came before its datagram's first, and is sent again when that has come (item 111).
    FragmentHeld = 25 => Drop, "fragment-held";
    /// Larger than the way to the backend or back takes, and not to be cut: the sender is told the size (RFC 1191, RFC 8201).
    TooLarge = 26 => Reject, "too-large";
    /// An echo request to a Service's address, answered as long as the Service has a backend (item 54).
    Echo = 27 => Translate, "echo";
    /// A socket bound to a loopback address, and a backend on another host: the backend could never answer (item 55).
    LoopbackSource = 28 => Drop, "loopback-source";
    /// The policies that the sending pod is under do not let it send this (policy items 2, 6).
    DeniedEgress = 29 => Drop, "denied-egress";
    /// The policies that the receiving pod is under do not let it get this (policy items 2, 6).
    DeniedIngress = 30 => Drop, "denied-ingress";
    /// A pod that a policy is about sends with an address that is not its own.
    ForgedSource = 31 => Drop, "forged-source";
    /// A new connection that is not translated was judged, and passes.
    Judged = 32 => Pass, "judged";
    /// A packet of a connection that was judged and is not translated.
    JudgedFlow = 33 => Pass, "judged-flow";
    /// In a tunnel to a Service of which packets come by tunnel, but sent by none of the cluster's nodes.
    ForeignTunnel = 34 => Drop, "foreign-tunnel";
    /// In a tunnel from another node, to an address that is no backend of the Service on this node.
    StrayTunnel = 35 => Drop, "stray-tunnel";
    /// The backend's node cannot be reached by a device, as a tunnel must, or the packet has no hop left for the way.
    NoTunnel = 36 => Drop, "no-tunnel";
    /// On its way into a pod, after a program of ours has seen it where it came in: nothing is left to do without policies.
    Seen = 37 => Pass, "seen";
    /// The program that a pod's packet was handed to was not there: its pin was removed while no agent ran.
    NotHandedOn = 38 => Drop, "not-handed-on";
    /// To or from a pod that a policy is about, and nobody could judge it: IP of a family that this node does not serve, or
    /// tags of VLANs within a tag.
    Unjudged = 39 => Drop, "unjudged";
    /// The backend has another connection with the client's address and port, maybe the client's own. The client does not
    /// get to reset it, and its next try gets another port.
    ForeignReset = 40 => Drop, "foreign-reset";
}

impl Reason {
    /// Number of reasons: the size of the `counters` map.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// Index of the `counters` map.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// The reason of a counter, if this version knows it.
    pub fn from_index(index: u32) -> Option<Self> {
        Self::ALL.get(index as usize).copied()
    }
}

const _: () = {
    let mut i = 0;
    while i < Reason::ALL.len() {
        assert!(Reason::ALL[i] as usize == i, "reasons must be dense and in order");
        i += 1;
    }
};

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|r| r.text()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::from_index(reason.index()), Some(*reason));
        }
        assert_eq!(Reason::from_index(Reason::COUNT), None);
    }
}
