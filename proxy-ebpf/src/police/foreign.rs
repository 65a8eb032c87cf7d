//! What no hook can read, at a pod's device: it would pass unjudged. It knows no addresses.

use proxy_common::{Reason, V4, V6};

use super::{epoch, source};
use crate::family::Wired as _;
use crate::packet::cursor::{Access as _, Frame};
use crate::packet::ethernet::Ethernet;

/// The tags of VLANs (IEEE 802.1Q, 802.1ad), network order.
const TAGS: [u16; 2] = [0x8100_u16.to_be(), 0x88a8_u16.to_be()];

/// IP of a family that is not served neither leaves nor enters a pod that policies are about. Nor does what has tags within a tag
/// leave or enter any pod while there are policies: if they name no VLAN the stack takes off all of them, one after the other, and
/// no hook sees what comes to light.
#[inline(always)]
pub fn judge_foreign(frame: &Frame) -> Reason {
    if epoch() == 0 {
        return Reason::NotIp;
    }
    let Some(header) = frame.read::<Ethernet>(0) else { return Reason::NotIp };
    let is_tagged_again = TAGS.contains(&header.protocol) && !frame.is_tagged();
    let is_ip = header.protocol == V4::ETHERTYPE || header.protocol == V6::ETHERTYPE;
    if is_tagged_again || is_ip && source::is_policed(frame.device()) {
        return Reason::Unjudged;
    }
    Reason::NotIp
}
