//! Packet programs on kernels before 6.6, which have no tcx: filters of the `clsact` qdisc. They stay when the agent
//! ends, and a restart replaces them at a fixed place; unlike a link, the replacement of a filter is found by
//! priority and handle.

use std::io;

use aya::{
    programs::{
        ProgramError, TcAttachType,
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
    },
    util::KernelVersion,
};

use super::{
    error::Error,
    hook::{Anchor, Hook, Side},
    load::Programs,
    remedy::Asked,
    topology::Role,
};

/// Our priority among the filters of a device: low, so that ours come first.
pub const PRIORITY: u16 = 0x51;
/// Our handle at that priority.
pub const HANDLE: u16 = 1;

/// tcx came with Linux 6.6.
#[must_use]
pub fn needed() -> bool {
    KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(6, 6, 0))
}

/// Puts our program into the filter of `device`, or makes the filter.
///
/// # Errors
/// [`Error::Attach`].
pub fn attach(hook: Hook, device: &str, programs: &mut Programs) -> Result<(), Error> {
    let asked = Asked::Hook;
    let failed = |verb| move |source| Error::Attach { verb, asked, hook, target: device.into(), source };
    let Anchor::Device(_, side) = hook.anchor() else {
        return Err(failed("attach")(io::ErrorKind::InvalidInput.into()));
    };
    let side = parent(side);
    match tc::qdisc_add_clsact(device) {
        Ok(()) | Err(TcError::AlreadyAttached) => {}
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(failed("add the clsact qdisc for")(io::Error::other(error))),
    }
    let other = |error: ProgramError| failed("attach")(io::Error::other(error));
    let handle = TcHandle::new(0, HANDLE);
    let classifier = programs.classifier(hook)?;
    let replaced = SchedClassifierLink::attached(device, side, PRIORITY, handle, None)
        .map_err(failed("find"))
        .and_then(|link| classifier.attach_to_link(link).map_err(other));
    let id = match replaced {
        Ok(id) => id,
        Err(_) => {
            let place = NlOptions { priority: PRIORITY, handle, classid: None };
            classifier.attach_with_options(device, side, TcAttachOptions::Netlink(place)).map_err(other)?
        }
    };
    // The filter belongs to the device from now on: dropping aya's link would remove it.
    std::mem::forget(classifier.take_link(id).map_err(other)?);
    Ok(())
}

/// Removes the filter of a hook from `device`; that there is none is no error.
pub fn detach(hook: Hook, device: &str) {
    if let Anchor::Device(_, side) = hook.anchor() {
        // It is found by the name of its program.
        let _ = tc::qdisc_detach_program(device, parent(side), hook.name());
    }
}

const fn parent(side: Side) -> TcAttachType {
    match side {
        Side::Ingress => TcAttachType::Ingress,
        Side::Egress => TcAttachType::Egress,
    }
}

/// Removes our filters from every device of this network namespace; the qdisc stays, others may use it.
pub fn detach_all() {
    for device in devices() {
        for (hook, _) in Hook::of_device(Role::Pod).chain(Hook::of_device(Role::Uplink)) {
            detach(hook, &device);
        }
    }
}

fn devices() -> Vec<String> {
    // SAFETY: if_nameindex gives an array that ends with index 0, or null.
    let list = unsafe { libc::if_nameindex() };
    if list.is_null() {
        return Vec::new();
    }
    let mut names = Vec::new();
    // SAFETY: `list` is that array; each name in it is a C string until it is freed, and copied before.
    unsafe {
        let mut entry = list;
        while (*entry).if_index != 0 {
            names.push(std::ffi::CStr::from_ptr((*entry).if_name).to_string_lossy().into_owned());
            entry = entry.add(1);
        }
        libc::if_freenameindex(list);
    }
    names
}
