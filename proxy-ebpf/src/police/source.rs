//! Whose address a pod may send with: its own. Otherwise it would be judged as another, or not at all.

use proxy_common::DeviceKind;

use crate::maps::{DEVICES, policy::PolicyTables};

/// The address is a policed pod's, and that is behind another device; or the device is a policed pod's, and the address
/// is not.
#[inline(always)]
pub fn is_forged<F: PolicyTables>(addr: &F::Addr, device: u32) -> bool {
    // SAFETY: an element without preallocation is freed only after the program is done.
    match unsafe { F::policed().get(addr) } {
        Some(policed) => policed.device != 0 && policed.device != device,
        None => is_policed(device),
    }
}

/// The pod behind the device is under a policy.
#[inline(always)]
pub fn is_policed(device: u32) -> bool {
    // SAFETY: as above.
    match unsafe { DEVICES.get(device) } {
        Some(kind) => kind.has(DeviceKind::POLICED),
        None => false,
    }
}
