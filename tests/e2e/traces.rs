//! What a cluster could leave on the machine: namespaces, pins, cgroups, files, processes. All of them carry the lab's id.

use std::fs;

use sluice_lab::{LabId, cgroup, netns};
use tests::cluster::Cluster;

/// The traces of one cluster, to be looked for when it is gone.
pub(crate) struct Traces {
    id: LabId,
}

impl Traces {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self { id: cluster.lab().id().clone() }
    }

    /// Everything that is there now.
    pub(crate) fn left(&self) -> Vec<String> {
        let mount = cgroup::mount_point().unwrap();
        let folders = [self.id.state_dir(), self.id.bpf_dir(), self.id.cgroup_dir(&mount)];
        let folders = folders.into_iter().filter(|path| path.exists()).map(|path| path.display().to_string());
        let spaces = netns::list().unwrap().into_iter().filter(|name| self.id.owns_netns(name));
        folders.chain(spaces).chain(self.processes()).collect()
    }

    /// Processes that were started for the cluster: the id is in their cgroup, or in the paths on their command line.
    fn processes(&self) -> Vec<String> {
        let id = format!("{}", self.id);
        let process = |entry: fs::DirEntry| {
            let read = |file| fs::read(entry.path().join(file)).unwrap_or_default();
            let words = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let place = String::from_utf8_lossy(&read("cgroup")).into_owned();
            let is_ours = words.contains(&format!("/{id}/"))
                || words.contains(&format!("sl{id}-"))
                || place.contains(&id);
            is_ours.then_some(words)
        };
        let numbered = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().parse::<u32>().is_ok();
        fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(numbered).filter_map(process).collect()
    }
}
