//! The BPF file system: mounted where it is missing, one folder per node, removed with all pins in it.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};

use crate::name::BPF_MOUNT;

/// `BPF_FS_MAGIC` of linux/magic.h.
const MAGIC: i64 = 0xcafe_4a11;

/// Mounts the BPF file system if nobody has.
///
/// # Errors
/// The kernel refuses.
pub fn ensure_mounted() -> Result<()> {
    let found = statfs(BPF_MOUNT).with_context(|| format!("looking at {BPF_MOUNT}"))?;
    if found.f_type == MAGIC {
        return Ok(());
    }
    mount("bpf", BPF_MOUNT, "bpf", MountFlags::empty(), None)
        .with_context(|| format!("mounting bpf on {BPF_MOUNT}"))
}

/// Removes a folder and every pin in it.
///
/// # Errors
/// Something in it does not go.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
