//! cgroup v2 folders: made, emptied by killing what is in them, removed. Knows nothing of labs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long killed processes may take to go.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where cgroup v2 is mounted.
///
/// # Errors
/// It is not.
pub fn mount_point() -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    find_mount(&text).context("cgroup2 is not mounted; mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified")
}

fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    let line = mountinfo.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

/// Makes a folder and those above it.
///
/// # Errors
/// The kernel refuses.
pub fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("making cgroup {}", path.display()))
}

/// Kills every process in the folder and below and waits until they are gone.
///
/// # Errors
/// They do not go.
pub fn kill(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    fs::write(path.join("cgroup.kill"), "1")
        .with_context(|| format!("killing what runs in {}", path.display()))?;
    let deadline = Instant::now() + PATIENCE;
    while is_populated(path) {
        if Instant::now() > deadline {
            bail!("processes in {} do not end", path.display());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn is_populated(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.events"))
        .is_ok_and(|text| text.lines().any(|line| line == "populated 1"))
}

/// Kills what runs in the folder and removes it with all below.
///
/// # Errors
/// Something in it does not go.
pub fn remove(path: &Path) -> Result<()> {
    kill(path)?;
    remove_tree(path).with_context(|| format!("removing cgroup {}", path.display()))
}

fn remove_tree(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_where_version_1_is_mounted_too() {
        let text = "33 32 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                    43 32 0:39 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(text), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(find_mount("22 1 0:1 / / rw - ext4 /dev/vda rw\n"), None);
    }
}
