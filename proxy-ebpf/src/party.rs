//! Whose packets connections in the tables may have (`docs/decisions/0043-*`): a bit for each address, which whoever makes an entry
//! sets before it is there, and which nobody clears. Most pods of a node whose sockets are translated have none, and what they
//! send needs no lookup.

use proxy_common::{
    Address, Proto, Reason,
    party::{Parties, Party},
};

use crate::count;
use crate::family::Road;
use crate::maps::{constant, party::PARTIES};
use crate::packet::cursor::Frame;
use crate::packet::{self, Packet};
use crate::police;
use crate::verified::Verified;

/// From now on packets from addresses with this bit are looked up. One load, where they are already.
#[inline(always)]
pub fn name(party: Party) {
    let Some(word) = PARTIES.get_ptr_mut(party.word) else { return };
    // SAFETY: an element of an array lives as long as the map. Volatile, because others set bits meanwhile.
    if !party.is_in(unsafe { word.read_volatile() }) {
        count::set(word, party.bit);
    }
}

/// Connections may have packets from this address.
#[inline(always)]
fn is_one<A: Address>(addr: &A) -> bool {
    let party = Party::of(addr);
    match PARTIES.get_ptr(party.word) {
        // SAFETY: as in `name`.
        Some(word) => party.is_in(unsafe { word.read_volatile() }),
        None => true,
    }
}

/// Each source of an entry has its bit.
#[inline(always)]
fn are_named() -> bool {
    // SAFETY: as in `name`.
    PARTIES.get_ptr(Parties::WORD).is_some_and(|word| Parties::are_named(unsafe { word.read_volatile() }))
}

/// Whether the program of pods' packets is to look for strangers itself: nobody does ahead of it.
#[inline(always)]
pub fn is_first() -> bool {
    constant!(ahead) == 0
}

/// Whether strangers' packets may pass at once where pods send: nobody translates or judges what opens a connection there.
#[inline(always)]
pub fn may_be_strangers() -> bool {
    constant!(pod_packets) == 0 && police::epoch() == 0
}

/// What becomes of a pod's packet that no entry can be about: it passes for this reason, which is the one that it would pass for
/// after all lookups. `None`: it goes the long way.
pub struct Strangers;

impl Road for Strangers {
    type Frame = Frame;
    type Verdict = Option<Reason>;

    #[inline(always)]
    fn foreign(_frame: &Frame) -> Option<Reason> {
        None
    }

    #[inline(always)]
    fn travel<F: Verified>(frame: &mut Frame) -> Option<Reason> {
        if frame.is_tagged() || !are_named() {
            return None;
        }
        let mut packet = Packet::default();
        if packet::read::<F>(frame, &mut packet).is_some() || is_one(&packet.key.src) {
            return None;
        }
        let is_tcp = match packet.key.proto {
            Proto::TCP => true,
            Proto::UDP => false,
            // No hook has seen a socket of another protocol connect.
            _ => return None,
        };
        if is_tcp && !packet.tcp.concerns_setup() {
            return Some(Reason::MidStream);
        }
        // What is cut short is dropped, but not here.
        if !packet::is_whole::<F>(frame, &packet) {
            return None;
        }
        if is_tcp && !packet.tcp.opens() {
            return Some(Reason::MidStream);
        }
        // A frontend with source ranges waits for packets; and answers may look like those of another connection.
        if F::node().get(0)?.ranges != 0 || is_tcp && is_one(&packet.key.dst) {
            return None;
        }
        Some(Reason::NotAService)
    }
}
