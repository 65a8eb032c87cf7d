//! A running lab: brought up from a topology, found again by its id, taken down.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow};

use crate::agent::Agent;
use crate::binary::Program;
use crate::name::LabId;
use crate::objects::ManifestDir;
use crate::place::{Place, PlaceKind};
use crate::plan::{self, SpacePlan};
use crate::process::{ProcessId, in_cgroup, in_netns};
use crate::state::{Lifetime, State};
use crate::topology::{PodSpec, Topology};
use crate::{bpffs, cgroup, down, netns, parallel, ready, state};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ownership {
    /// Dropping the value takes the lab down.
    Own,
    /// Somebody else does.
    Borrowed,
}

/// A running lab. The process that brought it up owns it: dropping the value takes it down, unless it is held.
pub struct Lab {
    pub(crate) state: Mutex<State>,
    id: LabId,
    cgroup: PathBuf,
    ownership: Ownership,
    pub(crate) places: Mutex<BTreeMap<String, Place>>,
    pub(crate) children: Mutex<BTreeMap<String, Child>>,
    pub(crate) agents: Mutex<BTreeMap<String, Agent>>,
    probe: PathBuf,
    manifests: ManifestDir,
}

impl Lab {
    /// Brings a lab up. Labs whose owner has died are taken down first.
    ///
    /// # Errors
    /// Says which step failed; what was made until then is removed again.
    pub fn up(topology: &Topology) -> Result<Self> {
        Self::up_for(topology, Lifetime::Owner)
    }

    /// As [`Lab::up`], and says whether the lab outlives this process.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn up_for(topology: &Topology, lifetime: Lifetime) -> Result<Self> {
        let mut topology = topology.clone().checked()?;
        let pods = std::mem::take(&mut topology.pods);
        let probe = Program::Probe.find()?;
        let lock = state::lock()?;
        down::sweep();
        bpffs::ensure_mounted()?;
        drop(lock);
        let id = LabId::random()?;
        let cgroup = id.cgroup_dir(&cgroup::mount_point()?);
        let state = State {
            id: id.clone(),
            owner: ProcessId::own()?,
            lifetime,
            cgroup: cgroup.clone(),
            topology,
            links: Vec::new(),
        };
        // Written before anything is made, so that whatever follows can be swept.
        state.write()?;
        let ownership = if lifetime == Lifetime::Owner { Ownership::Own } else { Ownership::Borrowed };
        let lab = Self {
            state: Mutex::new(state),
            manifests: ManifestDir::open(&id.state_dir().join("manifests"))?,
            id,
            cgroup,
            ownership,
            places: Mutex::default(),
            children: Mutex::default(),
            agents: Mutex::default(),
            probe,
        };
        match lab.build(&pods) {
            Ok(()) => Ok(lab),
            Err(error) => {
                let id = lab.id.clone();
                let undone = lab.down();
                Err(error.context(match undone {
                    Ok(()) => format!("bringing lab {id} up"),
                    Err(second) => format!("bringing lab {id} up (and taking it down again: {second:#})"),
                }))
            }
        }
    }

    /// Finds a lab that another process has brought up. Dropping the value leaves the lab as it is.
    ///
    /// # Errors
    /// There is no such lab.
    pub fn open(id: &LabId) -> Result<Self> {
        let state = State::read(id)?;
        let lab = Self {
            id: id.clone(),
            cgroup: state.cgroup.clone(),
            ownership: Ownership::Borrowed,
            places: Mutex::default(),
            children: Mutex::default(),
            agents: Mutex::default(),
            probe: Program::Probe.find()?,
            manifests: ManifestDir::open(&id.state_dir().join("manifests"))?,
            state: Mutex::new(state.clone()),
        };
        let hosts = state.topology.nodes.iter().map(|node| (&node.name, PlaceKind::Node, &node.addresses));
        let outside =
            state.topology.outside.iter().map(|client| (&client.name, PlaceKind::Outside, &client.ips));
        let places: Vec<Place> =
            hosts.chain(outside).map(|(name, kind, ips)| lab.host_place(name, kind, ips)).collect();
        let pods = state.topology.pods.iter().map(|pod| {
            let link = state.links.iter().find(|link| link.name == pod.name).map_or(0, |link| link.link);
            lab.pod_place(pod, link)
        });
        let places = places.into_iter().chain(pods).map(|place| (place.name.clone(), place)).collect();
        *hold(&lab.places) = places;
        Ok(lab)
    }

    /// The lab's id.
    #[must_use]
    pub fn id(&self) -> &LabId {
        &self.id
    }

    /// The topology with the pods of the moment.
    #[must_use]
    pub fn topology(&self) -> Topology {
        hold(&self.state).topology.clone()
    }

    /// The folder from which agents read their objects by default.
    #[must_use]
    pub fn manifests(&self) -> &ManifestDir {
        &self.manifests
    }

    /// Creates or replaces objects in the lab's manifests folder, in order.
    ///
    /// # Errors
    /// An object has no name, or the folder is not writable.
    pub fn apply(&self, objects: &[serde_json::Value]) -> Result<()> {
        objects.iter().try_for_each(|object| self.manifests.put(object))
    }

    /// A node, pod or outside client by name.
    ///
    /// # Errors
    /// There is none.
    pub fn place(&self, name: &str) -> Result<Place> {
        hold(&self.places)
            .get(name)
            .cloned()
            .with_context(|| format!("lab {} has nothing called {name}", self.id))
    }

    /// A node by name.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&self, name: &str) -> Result<Place> {
        self.place(name).and_then(|place| match place.kind {
            PlaceKind::Node => Ok(place),
            PlaceKind::Pod { .. } | PlaceKind::Outside => Err(anyhow!("{name} is no node")),
        })
    }

    /// A pod by name.
    ///
    /// # Errors
    /// There is none.
    pub fn pod(&self, name: &str) -> Result<Place> {
        self.place(name).and_then(|place| match place.kind {
            PlaceKind::Pod { .. } => Ok(place),
            PlaceKind::Node | PlaceKind::Outside => Err(anyhow!("{name} is no pod")),
        })
    }

    /// All places of the moment.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        hold(&self.places).values().cloned().collect()
    }

    /// The cgroup of a node, in which the agent attaches its hooks.
    #[must_use]
    pub fn node_cgroup(&self, node: &str) -> PathBuf {
        self.cgroup.join(node)
    }

    /// The folder of a node in the BPF file system.
    #[must_use]
    pub fn node_bpf_root(&self, node: &str) -> PathBuf {
        self.id.bpf_dir().join(node)
    }

    /// Takes the lab down and removes every trace of it.
    ///
    /// # Errors
    /// Names what did not go.
    pub fn down(mut self) -> Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<()> {
        self.ownership = Ownership::Borrowed;
        let state = hold(&self.state).clone();
        let result = down::take_down(&state);
        let agents = std::mem::take(&mut *hold(&self.agents)).into_values().map(Agent::into_child);
        for mut child in std::mem::take(&mut *hold(&self.children)).into_values().chain(agents) {
            // Killed with its cgroup; only the table entry is left.
            let _ = child.wait();
        }
        result
    }

    fn build(&self, pods: &[PodSpec]) -> Result<()> {
        let topology = self.topology();
        let mut spaces =
            vec![(self.id.segment_netns(), plan::segment(&topology, |host| self.id.host_netns(host)))];
        spaces.extend(
            topology.nodes.iter().map(|node| (self.id.host_netns(&node.name), plan::node(&topology, node))),
        );
        spaces.extend(
            topology
                .outside
                .iter()
                .map(|client| (self.id.host_netns(&client.name), plan::outside(&topology, client))),
        );
        create_spaces(spaces.iter().map(|(name, space)| (name, space)))?;
        let (segment, hosts) = spaces.split_first().context("a lab has a segment")?;
        // The segment makes everybody's eth0.
        netns::ip(&segment.0, &segment.1.lines)?;
        parallel::for_each(hosts, |(name, space)| netns::ip(name, &space.lines))?;
        let nodes = topology.nodes.iter().map(|node| (&node.name, PlaceKind::Node, &node.addresses));
        let outside = topology.outside.iter().map(|client| (&client.name, PlaceKind::Outside, &client.ips));
        let places: Vec<Place> =
            nodes.chain(outside).map(|(name, kind, ips)| self.host_place(name, kind, ips)).collect();
        for node in &topology.nodes {
            cgroup::create(&self.node_cgroup(&node.name).join("agent"))?;
            fs::create_dir_all(self.node_bpf_root(&node.name))
                .context("making a folder in the BPF file system")?;
        }
        parallel::for_each(&places, |place| self.start_probe(place))?;
        ready::wait(ready::hosts(&topology, &places))?;
        self.pods_add(pods)
    }

    /// Starts the probe process of a place and makes the place known. Its socket exists before it does, so it can be asked
    /// at once.
    pub(crate) fn start_probe(&self, place: &Place) -> Result<()> {
        cgroup::create(&place.cgroup)?;
        if let Some(dir) = place.socket.parent() {
            fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        let listener = UnixListener::bind(&place.socket)
            .with_context(|| format!("binding {}", place.socket.display()))?;
        let mut command = Command::new(&self.probe);
        command.arg("daemon");
        if self.ownership == Ownership::Own {
            command.args(["--owner", &std::process::id().to_string()]);
        }
        command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(self.log("probe.log")?);
        in_netns(&mut command, &netns::path(&place.netns))?;
        in_cgroup(&mut command, &place.cgroup)?;
        // Ctrl-C in the owner's terminal is for the owner, who then takes the lab down in order.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("starting {}", self.probe.display()))?;
        hold(&self.children).insert(place.name.clone(), child);
        hold(&self.places).insert(place.name.clone(), place.clone());
        Ok(())
    }

    /// Opens a log of the lab for appending.
    pub(crate) fn log(&self, name: &str) -> Result<fs::File> {
        let path = self.log_path(name);
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))
    }

    /// Where a log of the lab is.
    #[must_use]
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.id.state_dir().join(name)
    }

    fn host_place(&self, name: &str, kind: PlaceKind, ips: &[IpAddr]) -> Place {
        let cgroup = match kind {
            PlaceKind::Node => self.node_cgroup(name).join("probe"),
            PlaceKind::Pod { .. } | PlaceKind::Outside => self.cgroup.join("+outside").join(name),
        };
        self.make_place(name, kind, ips, self.id.host_netns(name), cgroup)
    }

    pub(crate) fn pod_place(&self, pod: &PodSpec, link: u32) -> Place {
        let cgroup = self.node_cgroup(&pod.node).join("pods").join(&pod.name);
        let kind = PlaceKind::Pod { node: pod.node.clone(), link };
        self.make_place(&pod.name, kind, &pod.ips, self.id.pod_netns(&pod.node, &pod.name), cgroup)
    }

    fn make_place(
        &self,
        name: &str,
        kind: PlaceKind,
        ips: &[IpAddr],
        netns: String,
        cgroup: PathBuf,
    ) -> Place {
        let folder = if matches!(kind, PlaceKind::Pod { .. }) { "pods" } else { "hosts" };
        let socket = socket_path(&self.id.state_dir(), folder, name);
        Place { name: name.to_owned(), kind, ips: ips.to_vec(), netns, cgroup, socket }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.ownership == Ownership::Own
            && let Err(error) = self.take_down()
        {
            eprintln!("lab {} was not taken down: {error:#}", self.id);
        }
    }
}

/// Unix socket addresses end after 107 bytes; long pod names are shortened by what makes them unique least.
fn socket_path(dir: &Path, folder: &str, name: &str) -> PathBuf {
    let short = if name.len() <= 60 {
        name.to_owned()
    } else {
        let sum = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{}~{sum:016x}", &name[..40])
    };
    dir.join(folder).join(short)
}

pub(crate) fn create_spaces<'a>(spaces: impl Iterator<Item = (&'a String, &'a SpacePlan)>) -> Result<()> {
    let list: Vec<(String, &[(String, &'static str)])> =
        spaces.map(|(name, space)| (name.clone(), space.sysctls.as_slice())).collect();
    netns::create(&list)
}

/// What a lab guards by these locks is written in single steps, so it is whole also after a panic of another thread.
pub(crate) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
