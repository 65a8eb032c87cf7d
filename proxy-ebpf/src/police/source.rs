//! Whose address a pod may send with: its own. Otherwise it would be judged as another, or not at all.

use proxy_common::{DeviceKind, Policed};

use crate::maps::{DEVICES, policy::PolicyTables};

/// The address is a policed pod's, and that is behind another device; or the device is a policed pod's, and the address
/// is not. `policed` is what was found under the address.
#[inline(always)]
pub fn is_forged(policed: Option<&Policed>, device: u32) -> bool {
    match policed {
        Some(policed) => policed.device != 0 && policed.device != device,
        None => is_policed(device),
    }
}

/// The entry of an address: one lookup.
#[inline(always)]
pub fn policed<F: PolicyTables>(addr: &F::Addr) -> Option<&'static Policed> {
    // SAFETY: an element without preallocation is freed only after the program is done.
    unsafe { F::policed().get(addr) }
}

/// The pod behind the device is under a policy.
#[inline(always)]
pub fn is_policed(device: u32) -> bool {
    // SAFETY: as in `policed`.
    match unsafe { DEVICES.get(device) } {
        Some(kind) => kind.has(DeviceKind::POLICED),
        None => false,
    }
}

/// A pod is behind the device.
#[inline(always)]
pub fn is_pod(device: u32) -> bool {
    // SAFETY: as in `policed`.
    unsafe { DEVICES.get(device) }.is_some_and(|kind| kind.role() == DeviceKind::POD)
}
