//! One agent per `--bpf-root`. The kernel lets the lock go when the process ends, however it ends.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use super::{error::Error, record};

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    #[expect(dead_code, reason = "holding the file open is what locks")]
    file: File,
}

impl Lock {
    /// Takes the lock file of `bpf_root` in `dir`, and writes our process id into it for whoever comes second.
    ///
    /// # Errors
    /// [`Error::Locked`] with the holder's process id, [`Error::Lock`] when there is no place for the file.
    pub fn take(dir: &Path, bpf_root: &Path) -> Result<Self, Error> {
        let file = path(dir);
        let failed = |source| Error::Lock { file: file.clone(), source };
        record::make(dir).map_err(failed)?;
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&file)
            .map_err(failed)?;
        match patiently(&file) {
            Ok(()) => {
                let write = |file: &mut File| -> io::Result<()> {
                    file.set_len(0)?;
                    file.rewind()?;
                    write!(file, "{}", std::process::id())
                };
                write(&mut file).map_err(failed)?;
                Ok(Self { file })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(Error::Locked { root: bpf_root.into(), pid: holder(&mut file) })
            }
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// Tries for half a second: an agent that was just killed holds its lock until the kernel has torn it down, and a
/// process that was forked from it until it has become another program.
fn patiently(file: &File) -> rustix::io::Result<()> {
    let mut result = flock(file, FlockOperation::NonBlockingLockExclusive);
    for _ in 0..10 {
        if result != Err(rustix::io::Errno::WOULDBLOCK) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        result = flock(file, FlockOperation::NonBlockingLockExclusive);
    }
    result
}

fn path(dir: &Path) -> PathBuf {
    dir.join("lock")
}

fn holder(file: &mut File) -> i32 {
    let mut text = String::new();
    let read = file.read_to_string(&mut text);
    read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_holds_the_lock() {
        let dir = std::env::temp_dir().join(format!("sluice-lock-{}", std::process::id()));
        let root = Path::new("/sys/fs/bpf/x");
        let first = Lock::take(&dir, root).unwrap();
        let refused = Lock::take(&dir, root).unwrap_err().to_string();
        let pid = std::process::id();
        assert_eq!(
            refused,
            format!(
                "another agent (pid {pid}) serves /sys/fs/bpf/x: stop it, or give this one another --bpf-root"
            )
        );
        drop(first);
        Lock::take(&dir, root).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
