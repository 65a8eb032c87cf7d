//! Whose address a pod may send with: its own. Otherwise it would be judged as another, or not at all.

use proxy_common::{DeviceKind, decide::Ownership, end::Facts};

use super::{Case, end};
use crate::lookup::owner;
use crate::maps::policy::PolicyTables;
use crate::packet::cursor::Frame;
use crate::packet::{Packet, ethernet};
use crate::verified::device;
use crate::verified::police::Judging;

/// Which end of a case's connection has sent the packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its client.
    Client,
    /// Its server: the packet is an answer.
    Server,
}

/// The sender's address is a policed pod's, and that is behind another device; or the device is a policed pod's, and the
/// address is not. What is known of a client stands in the case.
#[inline(always)]
pub fn is_forged<F: PolicyTables>(case: &mut Case<F::Addr>, device: u32, role: Role) -> bool {
    let addr = match role {
        Role::Client => &case.key.src,
        Role::Server => &case.key.dst,
    };
    let Some(end) = end::of::<F>(addr, case.writes) else { return true };
    if role == Role::Client {
        case.note_sender(end);
    }
    if end.facts.has(Facts::POLICED) {
        return end.device != 0 && end.device != device;
    }
    if end.facts.has(Facts::FREE_BEHIND) && end.device == device {
        return false;
    }
    if is_policed(device) {
        return true;
    }
    end.note_free_behind(device);
    false
}

/// The packet is the node's own, at a hook where packets leave. No device that it came by tells; but the fragments that the
/// kernel makes anew of an IPv6 packet that it forwards came by none, either, and an extension header is what those have.
#[inline(always)]
pub fn is_the_nodes<F: Judging>(frame: &Frame, packet: &Packet<F::Addr>) -> bool {
    frame.is_from_here()
        && (packet.transport == ethernet::LENGTH + size_of::<F::Header>()
            || owner::ownership::<F>(packet.key.src) == Ownership::Node)
}

/// The pod behind the device is under a policy.
#[inline(always)]
pub fn is_policed(device: u32) -> bool {
    device::kind(device).is_some_and(|kind| kind.has(DeviceKind::POLICED))
}

/// A pod is behind the device.
#[inline(always)]
pub fn is_pod(device: u32) -> bool {
    device::kind(device).is_some_and(|kind| kind.role() == DeviceKind::POD)
}
