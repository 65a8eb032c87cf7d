//! Mounts a BPF file system on a node that has none, for an init container. Knows nothing of what is pinned there.

use std::{ffi::CStr, fs, path::Path};

use rustix::{
    fs::statfs,
    mount::{MountFlags, mount},
};

use super::{super::error::Error, BPF_FS};

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// One was there.
    Mounted,
    /// None was there, and one is now.
    Missing,
}

/// Mounts one at `at`, unless there is one.
///
/// # Errors
/// [`Error::Path`] when the directory cannot be made or nothing may be mounted there.
pub fn mount_at(at: &Path) -> Result<Found, Error> {
    const NONE: Option<&CStr> = None;
    fs::create_dir_all(at).map_err(Error::path("make", at))?;
    if statfs(at).is_ok_and(|fs| fs.f_type as u32 == BPF_FS) {
        return Ok(Found::Mounted);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
    mount(c"bpf", at, c"bpf", flags, NONE)
        .map_err(|error| Error::path("mount a BPF file system at", at)(error.into()))?;
    Ok(Found::Missing)
}
