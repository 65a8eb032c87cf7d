//! Who runs at a device's hook, in which order: our programs and those of others. Reads only.

use std::{collections::BTreeMap, io};

use aya_obj::generated::bpf_cmd;

use super::{hook::Hook, sys, topology::IfIndex};

/// Programs at one hook; a node has a handful.
const MOST: usize = 64;

/// A program of anybody's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resident {
    /// The kernel's number of it.
    pub id: u32,
    /// Its name, as far as the kernel keeps it; empty without.
    pub name: String,
}

/// The programs on the side of `device` that `hook` is on, the first to see a packet first.
///
/// # Errors
/// `EINVAL` where the kernel has no such lists (before Linux 6.6), or `hook` is not one of tc.
pub fn at(device: IfIndex, hook: Hook, names: &BTreeMap<u32, String>) -> io::Result<Vec<Resident>> {
    let mut ids = [0_u32; MOST];
    let mut attr = sys::attr();
    attr.query.__bindgen_anon_1.target_ifindex = device.0;
    attr.query.attach_type = hook.attach_type();
    attr.query.prog_ids = ids.as_mut_ptr() as u64;
    attr.query.__bindgen_anon_2.prog_cnt = MOST as u32;
    sys::bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    // SAFETY: the command uses the query member, whose count the kernel has written.
    let count = unsafe { attr.query.__bindgen_anon_2.prog_cnt } as usize;
    let resident = |id: &u32| Resident { id: *id, name: names.get(id).cloned().unwrap_or_default() };
    Ok(ids.iter().take(count).map(resident).collect())
}

/// The names of all programs by their numbers, as far as they may be read.
#[must_use]
pub fn names() -> BTreeMap<u32, String> {
    let named =
        |info: aya::programs::ProgramInfo| (info.id(), info.name_as_str().unwrap_or_default().to_owned());
    aya::programs::loaded_programs().flatten().map(named).collect()
}
