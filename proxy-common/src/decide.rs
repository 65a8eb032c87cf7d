//! Decisions about packets: facts in, values out. No map and no packet is touched here, so the kernel
//! programs, the tests and the CLI's trace run the same functions.

use crate::addr::{Address, Port, Proto};
use crate::algorithm::ForwardingMode;
use crate::backend::{Backend, BackendFlags};
use crate::checksum;
use crate::flow::{Flow, FlowFlags, FlowKey};
use crate::frontend::{ClientClass, ClientRule, Frontend, FrontendFlags, Segment, ServiceId};
use crate::reason::Reason;

/// A segment to choose from and how to treat the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Not empty.
    pub segment: Segment,
    /// What to do with the source address.
    pub source: Source,
}

/// What the backend sees as the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The client's own address.
    Kept,
    /// An address of this node.
    Masqueraded,
    /// The client's own address, if the backend is on this node: its answers pass here anyway.
    KeptIfLocal,
    /// The client's own address: a backend of another node gets the packet in a tunnel, one of this node as it is.
    Tunnelled,
}

/// Which backends a client may use, or why it gets none (items 27–36, 50, 90–94).
#[inline(always)]
pub fn choose(frontend: &Frontend, class: ClientClass) -> Result<Choice, Reason> {
    if frontend.flags.has(FrontendFlags::WILDCARD) {
        return Err(Reason::UnknownPort);
    }
    let rule = frontend.rule(class);
    let segment = if rule.has(ClientRule::LOCAL) { frontend.local } else { frontend.cluster };
    if segment.is_empty() {
        return Err(if rule.has(ClientRule::DROP_IF_EMPTY) {
            Reason::NoLocalEndpoints
        } else {
            Reason::NoEndpoints
        });
    }
    let source = if !rule.has(ClientRule::MASQUERADE) {
        Source::Kept
    } else if frontend.mode == ForwardingMode::TUNNEL && matches!(class, ClientClass::Outside) {
        Source::Tunnelled
    } else if rule.has(ClientRule::KEEP_IF_LOCAL) {
        Source::KeptIfLocal
    } else {
        Source::Masqueraded
    };
    Ok(Choice { segment, source })
}

/// The slot for a random number: uniform over the segment without a division (item 35).
#[inline(always)]
pub const fn slot(segment: Segment, random: u32) -> u32 {
    segment.start + ((random as u64 * segment.len as u64) >> 32) as u32
}

/// Who the client is: `own` says whether its address is this node's, `pods` whether the detector takes it for a pod
/// (items 62, 63).
#[inline(always)]
pub const fn classify(own: Ownership, pods: Place) -> ClientClass {
    match (own, pods) {
        (Ownership::Node, Place::Inside | Place::Outside) => ClientClass::Node,
        (Ownership::Other, Place::Inside) => ClientClass::Pod,
        (Ownership::Other, Place::Outside) => ClientClass::Outside,
    }
}

/// Where an address or a device is, seen from the ranges or devices of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In one of them.
    Inside,
    /// In none.
    Outside,
}

/// Whose an address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ownership {
    /// An address of this node.
    Node,
    /// Anybody else's.
    Other,
}

/// A destination that is no frontend: drop what nobody owns in the ranges of ClusterIPs, pass the rest (item 53).
#[inline(always)]
pub const fn unowned(services: Place) -> Reason {
    match services {
        Place::Inside => Reason::UnallocatedAddress,
        Place::Outside => Reason::NotAService,
    }
}

/// What this backend sees: kept, masqueraded or tunnelled. One that answers the client's own address must see another one, or its
/// reply never leaves the pod (item 56).
#[inline(always)]
pub fn with_hairpin<A: Address>(source: Source, client: A, backend: &Backend<A>) -> Source {
    if client == backend.addr {
        return Source::Masqueraded;
    }
    match source {
        Source::KeptIfLocal | Source::Tunnelled if backend.flags.has(BackendFlags::LOCAL) => Source::Kept,
        Source::Tunnelled if backend.flags.has(BackendFlags::UNWRAPS) => Source::Tunnelled,
        // Nobody would take it from the tunnel.
        Source::KeptIfLocal | Source::Masqueraded | Source::Tunnelled => Source::Masqueraded,
        Source::Kept => Source::Kept,
    }
}

/// A new translated connection: what its first packet was and what it becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation<'a, A> {
    /// The client's packet as it arrived.
    pub packet: &'a FlowKey<A>,
    /// The chosen backend.
    pub backend: &'a Backend<A>,
    /// Source address that the backend sees.
    pub source: &'a A,
    /// Source port that the backend sees.
    pub source_port: Port,
    /// Whose connection it is; [`ServiceId::NONE`] if only the source is translated.
    pub service: ServiceId,
    /// Generation of the frontend that chose the backend.
    pub generation: u32,
}

impl<A: Address> Translation<'_, A> {
    /// The forward entry: its key is `packet`.
    #[inline(always)]
    pub fn forward(&self) -> Flow<A> {
        let (from, backend) = (self.packet, self.backend);
        Flow {
            src: *self.source,
            dst: backend.addr,
            sport: self.source_port,
            dport: backend.port,
            addr_delta: checksum::add(
                checksum::address_difference(from.src, *self.source),
                checksum::address_difference(from.dst, backend.addr),
            ),
            port_delta: checksum::add(
                checksum::port_difference(from.sport, self.source_port),
                checksum::port_difference(from.dport, backend.port),
            ),
            service: self.service,
            generation: self.generation,
            flags: self.masqueraded(),
            ..Flow::default()
        }
    }

    /// The key of the backend's answers.
    #[inline(always)]
    pub fn reply_key(&self) -> FlowKey<A> {
        FlowKey::new(self.backend.addr, self.backend.port, *self.source, self.source_port, self.packet.proto)
    }

    /// The reply entry: answers get the frontend as their source and the client as their destination.
    #[inline(always)]
    pub fn reply(&self) -> Flow<A> {
        self.forward().twin(self.packet)
    }

    #[inline(always)]
    fn masqueraded(&self) -> FlowFlags {
        if *self.source == self.packet.src && self.source_port == self.packet.sport {
            FlowFlags::default()
        } else {
            FlowFlags::MASQUERADED
        }
    }
}

/// The n-th source port to try for a masqueraded connection: first the client's own, so that a trace is
/// readable, then a walk from a random place through all the ports that are not privileged (item 59): attempts 1 to
/// [`SOURCE_PORTS`] meet each of them once.
#[inline(always)]
pub const fn source_port(client: Port, random: u32, attempt: u32) -> Port {
    if attempt == 0 && client.number() >= FIRST_SOURCE_PORT {
        return client;
    }
    // Multiply-shift spreads the random start without a division; an odd step visits every port.
    let start = ((random as u64 * SOURCE_PORTS as u64) >> 32) as u32;
    let offset = (start + attempt * SOURCE_PORT_STEP) % SOURCE_PORTS;
    Port::new((FIRST_SOURCE_PORT as u32 + offset) as u16)
}

/// Lowest source port of masqueraded connections: those below are privileged.
pub const FIRST_SOURCE_PORT: u16 = 1024;
/// How many source ports one address has towards one backend.
pub const SOURCE_PORTS: u32 = u16::MAX as u32 - FIRST_SOURCE_PORT as u32 + 1;
/// Coprime to the number of ports (64512 = 2^10 · 3^2 · 7), so that a walk meets each port once.
const SOURCE_PORT_STEP: u32 = 20_011;

/// Protocols that have ports to translate.
#[inline(always)]
pub const fn has_ports(proto: Proto) -> bool {
    matches!(proto, Proto::TCP | Proto::UDP | Proto::SCTP)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::addr::Addr4;
    use core::net::Ipv4Addr;
    use std::collections::BTreeSet;

    fn ip(last: u8) -> Addr4 {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn frontend() -> Frontend {
        Frontend {
            cluster: Segment { start: 10, len: 3 },
            service: ServiceId(7),
            generation: 4,
            rules: [
                ClientRule::CLUSTER,
                ClientRule::MASQUERADE,
                ClientRule::LOCAL.with(ClientRule::DROP_IF_EMPTY),
            ],
            flags: FrontendFlags::CLUSTER_IP,
            ..Frontend::default()
        }
    }

    #[test]
    fn each_class_of_clients_gets_its_own_rule() {
        let segment = frontend().cluster;
        let got = ClientClass::ALL.map(|class| choose(&frontend(), class));
        assert_eq!(
            got,
            [
                Ok(Choice { segment, source: Source::Kept }),
                Ok(Choice { segment, source: Source::Masqueraded }),
                Err(Reason::NoLocalEndpoints),
            ]
        );
    }

    #[test]
    fn an_empty_segment_rejects_and_a_wildcard_knows_no_port() {
        let empty = Frontend { cluster: Segment::EMPTY, ..frontend() };
        assert_eq!(choose(&empty, ClientClass::Pod), Err(Reason::NoEndpoints));
        let wildcard = Frontend { flags: FrontendFlags::WILDCARD, ..frontend() };
        assert_eq!(choose(&wildcard, ClientClass::Pod), Err(Reason::UnknownPort));
    }

    #[test]
    fn random_numbers_reach_each_slot_and_none_beyond() {
        let segment = Segment { start: 10, len: 3 };
        let slots: BTreeSet<_> =
            [0, 1, u32::MAX / 3 + 1, u32::MAX / 3 * 2 + 2, u32::MAX].map(|r| slot(segment, r)).into();
        assert_eq!(slots, BTreeSet::from([10, 11, 12]));
    }

    #[test]
    fn the_two_entries_of_a_connection_name_each_other() {
        let packet = FlowKey::new(ip(1), Port::new(4000), ip(96), Port::new(80), Proto::TCP);
        let backend = Backend::new(ip(2), Port::new(8080), BackendFlags::REMOTE);
        for source in [(ip(1), Port::new(4000)), (ip(9), Port::new(5000))] {
            let t = Translation {
                packet: &packet,
                backend: &backend,
                source: &source.0,
                source_port: source.1,
                service: ServiceId(7),
                generation: 4,
            };
            let (forward, reply) = (t.forward(), t.reply());
            assert_eq!(forward.other(Proto::TCP), t.reply_key());
            assert_eq!(reply.other(Proto::TCP), packet);
            assert_eq!(forward.flags.has(FlowFlags::MASQUERADED), source.0 != ip(1));
            let twin = reply.twin(&t.reply_key());
            let zero = |flow: Flow<Addr4>| Flow { addr_delta: 0, port_delta: 0, ..flow };
            assert_eq!(zero(twin), zero(forward), "either entry alone gives the other");
            for (a, b) in [(twin.addr_delta, forward.addr_delta), (twin.port_delta, forward.port_delta)] {
                assert_eq!(checksum::apply(0x1234, a), checksum::apply(0x1234, b));
            }
            assert_eq!((forward.dst, forward.dport, forward.src), (ip(2), Port::new(8080), source.0));
            assert_eq!(
                (reply.src, reply.sport, reply.dst, reply.dport),
                (ip(96), Port::new(80), ip(1), Port::new(4000))
            );
        }
    }

    #[test]
    fn the_search_for_a_source_port_starts_with_the_clients_and_meets_each_port_once() {
        assert_eq!(source_port(Port::new(40_000), 99, 0), Port::new(40_000));
        assert!(source_port(Port::new(80), 0, 0).number() >= FIRST_SOURCE_PORT);
        for client in [80, 40_000].map(Port::new) {
            for random in [0, 1, u32::MAX / 3, u32::MAX] {
                let all: BTreeSet<_> =
                    (1..=SOURCE_PORTS).map(|n| source_port(client, random, n).number()).collect();
                assert_eq!(all.len(), SOURCE_PORTS as usize, "{client} {random}");
                assert_eq!(all.first(), Some(&FIRST_SOURCE_PORT));
            }
        }
    }

    #[test]
    fn the_nodes_own_address_counts_before_what_the_detector_says() {
        let class = |own, pods| classify(own, pods);
        assert_eq!(class(Ownership::Node, Place::Inside), ClientClass::Node);
        assert_eq!(class(Ownership::Other, Place::Inside), ClientClass::Pod);
        assert_eq!(class(Ownership::Other, Place::Outside), ClientClass::Outside);
    }

    #[test]
    fn a_hairpin_is_always_masqueraded() {
        let at = |last, flags| Backend::new(ip(last), Port::new(80), flags);
        let (here, there) = (BackendFlags::LOCAL, BackendFlags::REMOTE);
        for source in [Source::Kept, Source::KeptIfLocal, Source::Masqueraded] {
            assert_eq!(with_hairpin(source, ip(1), &at(1, here)), Source::Masqueraded);
        }
        assert_eq!(with_hairpin(Source::Kept, ip(1), &at(2, there)), Source::Kept);
    }

    #[test]
    fn a_source_that_is_kept_for_local_backends_is_masqueraded_for_others() {
        let at = |flags| Backend::new(ip(2), Port::new(80), flags);
        let draining = BackendFlags::LOCAL.with(BackendFlags::TERMINATING);
        for (flags, expected) in [
            (BackendFlags::LOCAL, Source::Kept),
            (draining, Source::Kept),
            (BackendFlags::REMOTE, Source::Masqueraded),
        ] {
            assert_eq!(with_hairpin(Source::KeptIfLocal, ip(1), &at(flags)), expected);
            assert_eq!(with_hairpin(Source::Masqueraded, ip(1), &at(flags)), Source::Masqueraded);
        }
        let rule = ClientRule::MASQUERADE.with(ClientRule::KEEP_IF_LOCAL);
        let frontend = Frontend { rules: [rule; 3], ..frontend() };
        let choice = choose(&frontend, ClientClass::Outside);
        assert_eq!(choice.map(|choice| choice.source), Ok(Source::KeptIfLocal));
    }

    #[test]
    fn a_tunnel_leads_to_backends_whose_node_unwraps_and_to_no_others() {
        for (flags, expected) in [
            (BackendFlags::LOCAL, Source::Kept),
            (BackendFlags::REMOTE, Source::Masqueraded),
            (BackendFlags::UNWRAPS, Source::Tunnelled),
            (BackendFlags::UNWRAPS.with(BackendFlags::TERMINATING), Source::Tunnelled),
        ] {
            let backend = Backend::new(ip(2), Port::new(80), flags);
            assert_eq!(with_hairpin(Source::Tunnelled, ip(1), &backend), expected);
            assert_eq!(with_hairpin(Source::Tunnelled, ip(2), &backend), Source::Masqueraded);
        }
        let rules = [ClientRule::CLUSTER, ClientRule::MASQUERADE, ClientRule::MASQUERADE];
        let frontend = Frontend { mode: ForwardingMode::TUNNEL, rules, ..frontend() };
        let sources = ClientClass::ALL.map(|class| choose(&frontend, class).map(|choice| choice.source));
        assert_eq!(sources, [Ok(Source::Kept), Ok(Source::Masqueraded), Ok(Source::Tunnelled)]);
    }
}
