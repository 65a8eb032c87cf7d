//! Whose address a pod may send with: its own. Otherwise it would be judged as another, or not at all.

use proxy_common::{DeviceKind, end::Facts};

use super::{Case, end};
use crate::maps::policy::PolicyTables;
use crate::packet::cursor::Frame;
use crate::packet::ethernet;
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

/// Who has sent a packet that is on its way into a pod.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Whence {
    /// A device has brought it.
    Elsewhere,
    /// The node itself.
    Node,
    /// Our own programs, which have told the pod something, or the pod, whose own question has come back to it.
    Turned,
}

/// Who has sent the packet that the case is about. What came by no device is the node's own; but the fragments that the kernel makes
/// anew of an IPv6 packet that it forwards came by none, either, and an extension header is what those have.
#[inline(always)]
pub fn whence<F: Judging>(frame: &Frame, transport: u32, case: &Case<F::Addr>) -> Whence {
    if frame.has_turned() {
        return Whence::Turned;
    }
    if !frame.is_from_here() {
        return Whence::Elsewhere;
    }
    let is_plain = transport as usize == ethernet::LENGTH + size_of::<F::Header>();
    if is_plain || F::local_addrs().get_ptr(&case.key.src).is_some() {
        Whence::Node
    } else {
        Whence::Elsewhere
    }
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
