//! Policies on packets: judges new connections by the rules of both ends, known ones again when the rules have changed, and
//! says whose a source address may be.
//!
//! Whoever has no policy in use pays one load of the epoch and a branch. It knows verdicts, not how they came about: the
//! agent has written them (`docs/decisions/0020-*`), and they are looked up in [`rule`].

mod again;
mod case;
mod connection;
mod end;
mod foreign;
mod group;
mod portless;
mod question;
mod recent;
mod rule;
mod source;

pub use again::judge_again;
pub use case::Case;
pub use connection::police;
pub use end::find_class;
pub use foreign::judge_foreign;
pub use portless::judge_portless;
pub use question::{Question, answer};
pub use rule::weigh;
pub use source::{Role, Whence, whence};

use proxy_common::{Flow, FlowKey, PolicyState, Reason, policy::PolicyFlags, reason::Outcome};

use crate::flow::{Found, Table};
use crate::maps::policy::POLICY;
use crate::packet::Packet;
use crate::packet::cursor::{Access, Frame};
use crate::road::{Direction, Hook, Side};
use crate::verified::police::Judging;

/// What is in use of policies.
#[inline(always)]
pub fn state() -> PolicyState {
    match POLICY.get(0) {
        Some(state) => *state,
        None => PolicyState::default(),
    }
}

/// Somebody listens to what ends.
#[inline(always)]
pub fn is_watched() -> bool {
    state().flags.has(PolicyFlags::WATCHED)
}

/// Counts changes of policies; zero: there is none.
#[inline(always)]
pub fn epoch() -> u32 {
    match POLICY.get(0) {
        Some(state) => state.epoch,
        None => 0,
    }
}

/// Tells whoever listens that the packet ends here, unless those did who have judged it.
#[inline(always)]
pub fn tell_end<F: Judging>(frame: &mut Frame, packet: &Packet<F::Addr>, reason: Reason) {
    let is_end = match reason.outcome() {
        Outcome::Reject | Outcome::Drop => true,
        Outcome::Pass | Outcome::Translate => false,
    };
    let is_told = matches!(reason, Reason::DeniedEgress | Reason::DeniedIngress | Reason::ForgedSource);
    // What is held comes again.
    if is_end && !is_told && reason != Reason::FragmentHeld && is_watched() {
        F::tell_end(frame, packet, reason);
    }
}

/// The same, outside of the packet's road.
#[inline(always)]
pub fn end<F: Judging>(frame: &Frame, key: &FlowKey<F::Addr>, reason: Reason) {
    let Some(case) = case::take::<F>() else { return };
    case.key = *key;
    case::tell::<F>(frame, case, reason);
}

/// A connection was judged by other rules than those of now, or a pod sends a packet of it that did not before.
#[inline(always)]
pub fn is_due<A>(flow: &Flow<A>, epoch: u32, frame: &impl Access, hook: Hook) -> bool {
    flow.epoch != epoch || epoch != 0 && hook.is_from_pod() && flow.origin != frame.device()
}

/// Whether policies have a say in what became of a packet without ports.
#[inline(always)]
pub fn concerns_portless(hook: Hook, reason: Reason) -> bool {
    hook.side == Side::Pod && matches!(reason, Reason::NoPorts | Reason::Fragment) && epoch() != 0
}

/// Whether policies have a say in what was found about a packet without an entry. What is not translated is judged at the
/// pods alone; a translated one where it is, because there only the client is known (policy item 38).
#[inline(always)]
pub fn concerns(hook: Hook, found: &Result<Found, Reason>) -> bool {
    match (found, hook.side) {
        (Ok(Found { table: Table::Neither, .. }), Side::Pod) => true,
        // What leaves by a wire and is translated there is the node's own.
        (Ok(Found { table: Table::Neither, .. }), Side::Wire) => hook.direction == Direction::Ingress,
        (Err(Reason::NotAService | Reason::MidStream), Side::Pod) => true,
        (Ok(_) | Err(_), _) => false,
    }
}
