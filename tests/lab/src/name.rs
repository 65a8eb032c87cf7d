//! Names and places of a lab on the machine: everything carries the lab's id, so that two labs never meet.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// Where labs keep their state.
pub const STATE_ROOT: &str = "/run/sluice-lab";
/// Where `ip netns` keeps namespaces.
pub const NETNS_ROOT: &str = "/run/netns";
/// Where the BPF file system is mounted.
pub const BPF_MOUNT: &str = "/sys/fs/bpf";

const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
const LENGTH: usize = 5;

/// Five letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LabId(String);

impl LabId {
    /// A new one, from the kernel's random numbers.
    ///
    /// # Errors
    /// There is no `/dev/urandom`.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; LENGTH];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut bytes))
            .context("reading /dev/urandom")?;
        Ok(Self(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()))
    }

    /// An id as the user writes it.
    ///
    /// # Errors
    /// It has not the form of one.
    pub fn parse(text: &str) -> Result<Self> {
        let fine = text.len() == LENGTH && text.bytes().all(|byte| ALPHABET.contains(&byte));
        ensure!(fine, "{text:?} is no lab id (five letters and digits; `lab status` lists them)");
        Ok(Self(text.to_owned()))
    }

    /// Name of the segment's namespace.
    #[must_use]
    pub fn segment_netns(&self) -> String {
        format!("sl{self}+segment")
    }

    /// Name of a node's or outside client's namespace.
    #[must_use]
    pub fn host_netns(&self, host: &str) -> String {
        format!("sl{self}-{host}")
    }

    /// Name of a pod's namespace. No node is called with a `+`, so no two names are equal.
    #[must_use]
    pub fn pod_netns(&self, node: &str, pod: &str) -> String {
        format!("sl{self}-{node}+{pod}")
    }

    /// Whether a namespace belongs to this lab.
    #[must_use]
    pub fn owns_netns(&self, netns: &str) -> bool {
        let rest = netns.strip_prefix("sl").and_then(|rest| rest.strip_prefix(self.0.as_str()));
        rest.is_some_and(|rest| rest.starts_with(['-', '+']))
    }

    /// Folder with the lab's state: sockets, logs, manifests.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        Path::new(STATE_ROOT).join(&self.0)
    }

    /// Folder of the lab in the BPF file system.
    #[must_use]
    pub fn bpf_dir(&self) -> PathBuf {
        Path::new(BPF_MOUNT).join(format!("sluice-lab-{self}"))
    }

    /// Folder of the lab among the cgroups.
    #[must_use]
    pub fn cgroup_dir(&self, mount: &Path) -> PathBuf {
        mount.join(format!("sluice-lab-{self}"))
    }
}

impl fmt::Display for LabId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_owns_its_namespaces_and_no_others() {
        let id = LabId::parse("abcde").unwrap();
        let owned = [id.segment_netns(), id.host_netns("node-1"), id.pod_netns("node-1", "web")];
        assert_eq!(owned, ["slabcde+segment", "slabcde-node-1", "slabcde-node-1+web"]);
        assert!(owned.iter().all(|name| id.owns_netns(name)));
        assert!(!id.owns_netns("slabcdf-node-1"));
        assert!(!id.owns_netns("slabcdefgh-x"));
    }

    #[test]
    fn random_ids_have_the_form_of_ids() {
        let id = LabId::random().unwrap();
        assert_eq!(LabId::parse(&id.to_string()).unwrap(), id);
        assert!(LabId::parse("../..").is_err());
    }
}
