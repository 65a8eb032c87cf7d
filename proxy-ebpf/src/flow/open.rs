//! A packet that opens a connection: to a frontend it gets a backend; to anything else it goes on, unless the
//! answers would be taken for those of a translated connection.

use proxy_common::{
    Address, Backend, BackendFlags, ClientClass, FlowFlags, FlowKey, Frontend, FrontendFlags, FrontendKey,
    Port, Proto, Reason, ServiceId,
    affinity::ClientKind,
    decide::{self, Ownership, Source},
};

use super::source::{self, Connection};
use super::{Entry, Found, table};
use crate::family::Wired;
use crate::lookup::backend;
use crate::packet::Packet;
use crate::packet::cursor::Frame;
use crate::road::{Direction, Place, Service, jiffies};

/// Makes the entries of a new connection.
#[inline(always)]
pub fn open<F: Wired, P: Place>(
    frame: &Frame,
    packet: &Packet<F::Addr>,
) -> Result<Entry<F::Addr>, Reason> {
    let key = &packet.key;
    if P::service() == Service::FlowsOnly {
        return match P::DIRECTION {
            // Nobody here is a client of a translated connection that could be mistaken for another.
            Direction::Ingress => Err(Reason::NotAService),
            // The node's own ports are shared with masqueraded connections.
            Direction::Egress => direct::<F>(frame, key),
        };
    }
    let asked = FrontendKey::new(key.dst, key.dport, key.proto);
    // SAFETY: an element without preallocation is freed only after the program is done.
    match unsafe { F::frontends().get(asked) } {
        Some(frontend) => serve::<F, P>(frame, key, frontend),
        None => {
            refuse_unowned::<F>(key.dst)?;
            direct::<F>(frame, key)
        }
    }
}

/// Rejects an unknown port of a cluster address, drops what nobody owns in the range of cluster addresses
/// (items 52, 53). One comparison for everybody else's packets.
#[inline(always)]
fn refuse_unowned<F: Wired>(dst: F::Addr) -> Result<(), Reason> {
    let Some(node) = F::node().get(0) else { return Ok(()) };
    if !node.may_be_cluster_address(dst) {
        return Ok(());
    }
    // SAFETY: as in `open`.
    if let Some(owner) = unsafe { F::frontends().get(FrontendKey::wildcard(dst)) }
        && owner.flags.has(FrontendFlags::WILDCARD)
    {
        return Err(Reason::UnknownPort);
    }
    match decide::unowned(node, dst) {
        Reason::NotAService => Ok(()),
        reason => Err(reason),
    }
}

/// Gives a connection to a frontend its backend.
#[inline(always)]
fn serve<F: Wired, P: Place>(
    frame: &Frame,
    key: &FlowKey<F::Addr>,
    frontend: &Frontend,
) -> Result<Entry<F::Addr>, Reason> {
    let node = F::node().get(0).ok_or(Reason::NoNodeAddress)?;
    let class = match P::DIRECTION {
        Direction::Ingress => decide::classify(node, key.src, ownership::<F>(key.src)),
        // The packet has a socket of this node.
        Direction::Egress => ClientClass::Node,
    };
    let choice = decide::choose(frontend, class)?;
    let client = key.src.to_words();
    let backend = backend::choose::<F>(frontend, choice.segment, ClientKind::ADDRESS, client)?;
    let source = match decide::with_hairpin(choice.source, key.src, backend.addr) {
        // A process of this node would answer a node address without leaving the node: no hook would see it.
        Source::Masqueraded if is_on_host::<F>(&backend) => Source::Kept,
        source => source,
    };
    let connection = Connection::<F> {
        key,
        backend,
        service: frontend.service,
        generation: frontend.generation,
        node: &node.address,
        now: jiffies(),
        context: frame.context(),
    };
    let source = source::find(&connection, source)?;
    enter(&connection, source, Reason::ServiceNew).into()
}

#[inline(always)]
fn ownership<F: Wired>(addr: F::Addr) -> Ownership {
    if F::local_addrs().get_ptr(addr).is_some() { Ownership::Node } else { Ownership::Other }
}

#[inline(always)]
fn is_on_host<F: Wired>(backend: &Backend<F::Addr>) -> bool {
    backend.flags.has(BackendFlags::LOCAL) && ownership::<F>(backend.addr) == Ownership::Node
}

/// Straight to its destination. If the answers have the tuple of a translated connection's answers, that one is
/// forgotten when it is over; else the new one is told apart by another source.
///
/// The second lookup is for TCP alone, which pays once per connection; each datagram would.
#[inline(always)]
fn direct<F: Wired>(frame: &Frame, key: &FlowKey<F::Addr>) -> Result<Entry<F::Addr>, Reason> {
    let answers = key.reversed();
    if let Some(old) = table::answered::<F>(&answers) {
        if !old.flags.has(FlowFlags::REPLY) || table::forget_if_over::<F>(&answers, old) {
            return Err(Reason::NotAService);
        }
        return tell_apart::<F>(frame, key);
    }
    if key.proto == Proto::TCP
        && let Some(old) = table::unanswered::<F>(&answers)
    {
        if !old.flags.has(FlowFlags::REPLY) || table::forget_if_refused::<F>(&answers, old) {
            return Err(Reason::NotAService);
        }
        return tell_apart::<F>(frame, key);
    }
    Err(Reason::NotAService)
}

#[inline(always)]
fn tell_apart<F: Wired>(frame: &Frame, key: &FlowKey<F::Addr>) -> Result<Entry<F::Addr>, Reason> {
    let node = F::node().get(0).ok_or(Reason::NoNodeAddress)?;
    let connection = Connection::<F> {
        key,
        backend: Backend::new(key.dst, key.dport, BackendFlags::REMOTE),
        service: ServiceId::NONE,
        generation: 0,
        node: &node.address,
        now: jiffies(),
        context: frame.context(),
    };
    let source = source::find(&connection, Source::Masqueraded)?;
    enter(&connection, source, Reason::PortClash).into()
}

#[inline(never)]
fn enter<F: Wired>(connection: &Connection<'_, F>, source: (F::Addr, Port), reason: Reason) -> Found<F::Addr> {
    let mut forward = connection.translation(source).forward();
    forward.seen = connection.now;
    table::enter::<F>(connection.key, &forward).map(|flow| Entry { flow, reason }).into()
}
