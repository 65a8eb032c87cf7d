//! What is written down of a lab, so that other processes find it and a crashed owner's lab can be taken down: one JSON
//! file below `/run/sluice-lab/ID/`.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::name::{LabId, STATE_ROOT};
use crate::process::ProcessId;
use crate::topology::Topology;

/// Who ends a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifetime {
    /// Its owner; when the owner has died, whoever comes next.
    Owner,
    /// Nobody but `lab down`.
    Held,
}

/// A pod and the device it hangs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodState {
    /// Name.
    pub name: String,
    /// Number of its device on the node.
    pub link: u32,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The lab's id.
    pub id: LabId,
    /// The process that brought it up.
    pub owner: ProcessId,
    /// Who ends it.
    pub lifetime: Lifetime,
    /// Its cgroup.
    pub cgroup: PathBuf,
    /// Nodes, outside clients and the pods of the moment.
    pub topology: Topology,
    /// Devices of the pods of the moment.
    pub links: Vec<PodState>,
}

impl State {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// The folder is not writable.
    pub fn write(&self) -> Result<()> {
        let dir = self.id.state_dir();
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let (new, file) = (dir.join(".lab.json"), dir.join("lab.json"));
        fs::write(&new, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&new, &file))
            .with_context(|| format!("writing {}", file.display()))
    }

    /// Reads the file of one lab.
    ///
    /// # Errors
    /// There is none, or it is not ours.
    pub fn read(id: &LabId) -> Result<Self> {
        let file = id.state_dir().join("lab.json");
        let text = fs::read(&file).with_context(|| format!("there is no lab {id} ({})", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("in {}", file.display()))
    }

    /// All labs there are, oldest first. A folder without a readable file is passed over.
    ///
    /// # Errors
    /// The folder of labs exists and cannot be read.
    pub fn all() -> Result<Vec<Self>> {
        let entries = match fs::read_dir(STATE_ROOT) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {STATE_ROOT}")),
        };
        let mut labs: Vec<Self> = entries
            .filter_map(|entry| LabId::parse(&entry.ok()?.file_name().to_string_lossy()).ok())
            .filter_map(|id| Self::read(&id).ok())
            .collect();
        labs.sort_by_key(|lab| (lab.owner.started, lab.id.clone()));
        Ok(labs)
    }

    /// Whether nobody will ever end this lab.
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        self.lifetime == Lifetime::Owner && !self.owner.is_alive()
    }
}

/// Lets one process at a time sweep and mount. Held until the value is dropped.
///
/// # Errors
/// The state folder is not writable.
pub fn lock() -> Result<fs::File> {
    fs::create_dir_all(STATE_ROOT).with_context(|| format!("making {STATE_ROOT}; are you root?"))?;
    let path = PathBuf::from(STATE_ROOT).join("lock");
    let file = fs::File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    flock(&file, FlockOperation::LockExclusive).with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}
