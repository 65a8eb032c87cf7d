//! The network namespaces whose sockets we serve: those that a process below the cgroup root is in. Knows no sockets.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{error::Error, settings::SocketRoad};

/// Where there are sockets that connect through our programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach<'a> {
    /// In the namespaces of all processes below this cgroup, and in the node's.
    Below(&'a Path),
    /// In the node's namespace.
    Node,
    /// Nowhere.
    Nowhere,
}

impl<'a> Reach<'a> {
    /// Where a road reaches.
    #[must_use]
    pub fn of(road: SocketRoad, cgroup_root: &'a Path) -> Self {
        match road {
            SocketRoad::Auto | SocketRoad::On => Self::Below(cgroup_root),
            SocketRoad::Host => Self::Node,
            SocketRoad::Off => Self::Nowhere,
        }
    }
}

/// Calls `each` in every namespace, on a thread made for it. A namespace that is gone when it is entered is skipped.
///
/// # Errors
/// [`Error::Path`] when the calling thread's own namespace cannot be opened, or no thread can be had.
pub fn in_each<T: Send>(reach: Reach<'_>, each: &(impl Fn() -> T + Sync)) -> Result<Vec<T>, Error> {
    let namespaces = open(reach)?;
    let visit = || -> Vec<T> {
        let enter = |namespace: &File| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).ok()
        };
        namespaces.iter().filter_map(|namespace| enter(namespace).map(|()| each())).collect()
    };
    // The namespace is a thread's own, and this one ends here: nobody else ever runs in a pod's.
    std::thread::scope(|scope| {
        let visitor = std::thread::Builder::new().name("namespaces".into()).spawn_scoped(scope, visit);
        let visitor = visitor.map_err(Error::path("start a thread to visit", "/proc/self/ns/net"))?;
        visitor.join().or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The namespaces of a reach, each once, the caller's first.
fn open(reach: Reach<'_>) -> Result<Vec<File>, Error> {
    const OWN: &str = "/proc/thread-self/ns/net";
    let below = match reach {
        Reach::Below(root) => processes(root),
        Reach::Node => Vec::new(),
        Reach::Nowhere => return Ok(Vec::new()),
    };
    let own = File::open(OWN).map_err(Error::path("open", OWN))?;
    let mut known: BTreeSet<(u64, u64)> = own.metadata().iter().map(identity).collect();
    let mut namespaces = vec![own];
    for pid in below {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        // A process that ended meanwhile has no file any more, and a zombie has no namespace.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if known.insert(identity(&metadata))
            && let Ok(namespace) = File::open(&path)
        {
            namespaces.push(namespace);
        }
    }
    Ok(namespaces)
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Processes in a cgroup and in all below. What cannot be read, because it ended, has none.
fn processes(root: &Path) -> Vec<u32> {
    let mut pids = Vec::new();
    let mut unread = vec![root.to_path_buf()];
    while let Some(cgroup) = unread.pop() {
        let list: io::Result<String> = fs::read_to_string(cgroup.join("cgroup.procs"));
        // A process of another pid namespace shows as 0.
        let read = list.unwrap_or_default();
        pids.extend(read.lines().filter_map(|pid| pid.parse::<u32>().ok()).filter(|pid| *pid > 0));
        for entry in fs::read_dir(&cgroup).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                unread.push(entry.path());
            }
        }
    }
    pids
}
