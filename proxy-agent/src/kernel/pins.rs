//! The pins of one `--bpf-root`: where they are, and reading them without an agent.
//!
//! ```text
//! <bpf-root>/v2/maps/<map>                 one per entry of the table of maps
//! <bpf-root>/v2/links/<hook>-cgroup        one per cgroup hook
//! <bpf-root>/v2/links/<hook>-<ifindex>     one per device and side
//! <bpf-root>/v2/onward/<program>           where the program at a pod's device finds the one behind it (`onward`)
//! <bpf-root>/v2/abi                        how the maps are laid out, for agents of other versions
//! <bpf-root>/v2/coming                     there while what another version holds moves here (`handover`)
//! <bpf-root>/v2/ferry/<hook>-<ifindex>     the same, one per device and side
//! ```
//! The number is the version of all layouts together: an agent of another version opens these only to take over.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use proxy_common::{
    AffinityKey, AffinityValue, Backend, DeviceKind, Reason, Segment, V4, V6,
    maps::{LAYOUT_VERSION, MapKind, MapSpec, SPECS, spec},
};

use super::{
    counts::Counts,
    error::Error,
    family::{MapFamily, Maps, table},
    hook::Hook,
    hooked::Hooked,
    map::{PerCpu, Table},
    memory::Outside,
    parties::Parties,
    shape::{Difference, Shape},
    sys::{self, Access, RawMap},
    topology::IfIndex,
    verdicts::Verdicts,
};

/// The paths of one root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pins {
    root: PathBuf,
    version: u32,
}

/// What a link hangs on, as its pin says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// The cgroup root.
    Cgroup,
    /// A device.
    Device(IfIndex),
}

/// A pinned link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PinnedLink {
    /// Which program.
    pub hook: Hook,
    /// On what.
    pub target: Target,
    /// Where.
    pub path: PathBuf,
}

impl Pins {
    /// The pins below `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { root: root.into(), version: LAYOUT_VERSION }
    }

    /// Those of other layout versions that have maps, in the order of their numbers.
    #[must_use]
    pub fn others(&self) -> Vec<Self> {
        let all = Self::all(&self.root).into_iter();
        all.filter(|pins| pins.version != self.version && pins.maps_dir().exists()).collect()
    }

    /// Those of every layout version that has a directory below `root`, in the order of their numbers.
    #[must_use]
    pub fn all(root: &Path) -> Vec<Self> {
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        let version = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix('v')?.parse().ok();
        let mut versions: Vec<u32> = entries.filter_map(version).collect();
        versions.sort_unstable();
        versions.into_iter().map(|version| Self { root: root.into(), version }).collect()
    }

    /// The layout version.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The root itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Everything of this layout version.
    #[must_use]
    pub fn version_dir(&self) -> PathBuf {
        self.root.join(format!("v{}", self.version))
    }

    /// Directory of maps.
    #[must_use]
    pub fn maps_dir(&self) -> PathBuf {
        self.version_dir().join("maps")
    }

    /// Directory of links.
    #[must_use]
    pub fn links_dir(&self) -> PathBuf {
        self.version_dir().join("links")
    }

    /// The description of the layout.
    #[must_use]
    pub fn abi(&self) -> PathBuf {
        self.version_dir().join("abi")
    }

    /// There while another version's content moves here.
    #[must_use]
    pub fn coming(&self) -> PathBuf {
        self.version_dir().join("coming")
    }

    /// Directory of the links that take connections across meanwhile.
    #[must_use]
    pub fn ferry_dir(&self) -> PathBuf {
        self.version_dir().join("ferry")
    }

    /// Pin of a map.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps_dir().join(name)
    }

    /// Pin of a link.
    #[must_use]
    pub fn link(&self, hook: Hook, target: Target) -> PathBuf {
        self.links_dir().join(pin_name(hook, target))
    }

    /// Every pinned link, in the order of the pins' names. Without the directory there is none.
    ///
    /// # Errors
    /// [`Error::Path`] when the directory cannot be read.
    pub fn links(&self) -> Result<Vec<PinnedLink>, Error> {
        let dir = self.links_dir();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::Path { verb: "list", path: dir, source }),
        };
        let mut links: Vec<_> = entries.flatten().filter_map(|entry| parse(&entry.path())).collect();
        links.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(links)
    }

    /// Opens a pinned map of the table and checks that it is one; any number of entries will do.
    ///
    /// # Errors
    /// [`Error::Path`] without a pin, [`Error::Shape`] when it is of another version.
    ///
    /// # Panics
    /// For a name that is not in the table of maps.
    pub fn open(&self, name: &'static str, access: Access) -> Result<RawMap, Error> {
        #[expect(
            clippy::expect_used,
            reason = "every caller names a map of the table; the tests open them all"
        )]
        let spec = spec(name).expect("a map of the table");
        let fd = self.open_fd(spec, access)?;
        let failed = |source| Error::Map { verb: "read the layout of", map: name, source };
        let found = Shape::of_map(fd.as_fd()).map_err(failed)?;
        let wanted = Shape::of_spec(spec, found.entries);
        if let Some(difference @ Difference::Layout { .. }) = found.difference(wanted) {
            return Err(Error::Shape { name, difference });
        }
        let per_cpu = matches!(spec.kind, MapKind::PerCpuArray | MapKind::PerCpuHash);
        let copies = if per_cpu { cpus()? } else { 1 };
        RawMap::new(fd, copies).map_err(failed)
    }

    fn open_fd(&self, spec: &MapSpec, access: Access) -> Result<OwnedFd, Error> {
        let path = self.map(spec.name);
        sys::open_pin(&path, access).map_err(Error::path("open the pinned map", path))
    }
}

/// Name of a link's pin.
pub(super) fn pin_name(hook: Hook, target: Target) -> String {
    match target {
        Target::Cgroup => format!("{hook}-cgroup"),
        Target::Device(IfIndex(index)) => format!("{hook}-{index}"),
    }
}

fn parse(path: &Path) -> Option<PinnedLink> {
    let (hook, target) = path.file_name()?.to_str()?.rsplit_once('-')?;
    let target = match target {
        "cgroup" => Target::Cgroup,
        index => Target::Device(IfIndex(index.parse().ok()?)),
    };
    Some(PinnedLink { hook: Hook::named(hook)?, target, path: path.into() })
}

/// CPUs that the kernel keeps per-CPU values for: all possible ones.
pub(super) fn cpus() -> Result<usize, Error> {
    aya::util::nr_cpus().map_err(|(path, source)| Error::Path { verb: "read", path: path.into(), source })
}

/// The pinned maps of one root, opened for reading: everything that can be known with no agent running.
#[derive(Debug)]
pub struct Pinned {
    /// Where they are.
    pub pins: Pins,
    /// IPv4.
    pub v4: Maps<V4>,
    /// IPv6.
    pub v6: Maps<V6>,
    /// Clients and the backends that they used last.
    pub affinity: Table<AffinityKey, AffinityValue>,
    /// What the devices are.
    pub devices: Table<u32, DeviceKind>,
    /// Where what comes in is seen.
    pub(super) hooked: Hooked,
    /// Whose packets connections may have.
    pub parties: Parties,
    /// What is counted by Service.
    pub counts: Counts,
    /// What is not by family of the policies.
    pub policy: Verdicts,
    counters: PerCpu<u64>,
    early: PerCpu<u64>,
}

/// How full a map is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Occupancy {
    /// Name of the map.
    pub map: &'static str,
    /// Entries in it, counted; `None` where counting means nothing (arrays, socket storage).
    pub used: Option<usize>,
    /// Most entries.
    pub size: u32,
    /// Bytes that the kernel has reserved for it.
    pub memory: Option<u64>,
    /// The kernel's number of the map.
    pub id: u32,
}

fn named(map: &'static str, counters: &PerCpu<u64>) -> Result<Vec<(Reason, u64)>, Error> {
    let sums = counters.sums().map_err(|source| Error::Map { verb: "read", map, source })?;
    let named = |(index, sum): (usize, u64)| Some((Reason::from_index(index as u32)?, sum));
    Ok(sums.into_iter().enumerate().filter_map(named).collect())
}

/// Opens the pinned maps of `bpf_root` for reading.
///
/// # Errors
/// [`Error::Path`] when something is not pinned, [`Error::Shape`] when it is of another version.
pub fn open(bpf_root: &Path) -> Result<Pinned, Error> {
    Pinned::open(Pins::below(bpf_root), Access::Read)
}

impl Pinned {
    pub(super) fn open(pins: Pins, access: Access) -> Result<Self, Error> {
        let sums = |map: &'static str| {
            PerCpu::new(pins.open(map, Access::Read)?, cpus()?).map_err(|source| Error::Map {
                verb: "read the layout of",
                map,
                source,
            })
        };
        Ok(Self {
            v4: V4::open(&pins, access)?,
            v6: V6::open(&pins, access)?,
            affinity: table(&pins, "affinity", access)?,
            devices: table(&pins, "devices", access)?,
            hooked: Hooked::open(&pins, access)?,
            parties: Parties::open(&pins, access)?,
            counts: Counts::open(&pins, access)?,
            policy: Verdicts::open(&pins, cpus()?, access)?,
            counters: sums("counters")?,
            early: sums("early")?,
            pins,
        })
    }

    /// Packets and calls by reason, summed over the CPUs. Reasons that this version does not know are left out.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn counters(&self) -> Result<Vec<(Reason, u64)>, Error> {
        named("counters", &self.counters)
    }

    /// Those of the packets that ended in a driver.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn early(&self) -> Result<Vec<(Reason, u64)>, Error> {
        named("early", &self.early)
    }

    /// How full each map is. Reads every entry of every hash.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn occupancy(&self) -> Result<Vec<Occupancy>, Error> {
        SPECS.iter().map(|spec| self.occupancy_of(spec)).collect()
    }

    fn occupancy_of(&self, spec: &MapSpec) -> Result<Occupancy, Error> {
        let failed = |source| Error::Map { verb: "read", map: spec.name, source };
        let fd = self.pins.open_fd(spec, Access::Read)?;
        let info = sys::map_info(fd.as_fd()).map_err(failed)?;
        let used = match spec.name {
            "frontends4" => Some(self.v4.frontends.count()),
            "frontends6" => Some(self.v6.frontends.count()),
            "ranges4" => Some(self.v4.ranges.count()),
            "ranges6" => Some(self.v6.ranges.count()),
            "flows4" => Some(self.v4.flows.count()),
            "flows6" => Some(self.v6.flows.count()),
            "halfopen4" => Some(self.v4.half_open.count()),
            "halfopen6" => Some(self.v6.half_open.count()),
            "tunnels4" => Some(self.v4.tunnels.count()),
            "tunnels6" => Some(self.v6.tunnels.count()),
            "nodes4" => Some(self.v4.nodes.count()),
            "nodes6" => Some(self.v6.nodes.count()),
            "localaddrs4" => Some(self.v4.local_addrs.count()),
            "localaddrs6" => Some(self.v6.local_addrs.count()),
            "affinity" => Some(self.affinity.count()),
            "devices" => Some(self.devices.count()),
            "turns" => Some(self.counts.turns.count()),
            "loads" => Some(self.counts.loads.count()),
            "tallies" => Some(self.counts.tallies.count()),
            "policed4" => Some(self.v4.policed.count()),
            "policed6" => Some(self.v6.policed.count()),
            "peers4" => Some(self.v4.peers.count()),
            "peers6" => Some(self.v6.peers.count()),
            "verdicts" => Some(self.policy.verdicts.count()),
            "denials" => Some(self.policy.denials.sums().map(|sums| sums.len())),
            _ => None,
        };
        let used = used.transpose().map_err(failed)?;
        let memory = memory_of(fd.as_fd());
        Ok(Occupancy { map: spec.name, used, size: info.max_entries, memory, id: info.id })
    }
}

impl<F: MapFamily> Maps<F> {
    /// The slots of a segment.
    ///
    /// # Errors
    /// [`Outside`]: a broken map.
    pub fn segment(&self, segment: Segment) -> Result<Vec<Backend<F::Addr>>, Outside> {
        self.backends.read(segment.start, segment.len as usize)
    }

    /// The backends of a segment, each once: a table has many slots for one.
    ///
    /// # Errors
    /// [`Outside`]: a broken map.
    pub fn members(&self, segment: Segment) -> Result<Vec<Backend<F::Addr>>, Outside> {
        let mut backends = self.segment(segment)?;
        backends.sort_unstable();
        backends.dedup();
        Ok(backends)
    }
}

/// `memlock` of the descriptor's facts: what the kernel accounts for the map.
fn memory_of(fd: std::os::fd::BorrowedFd<'_>) -> Option<u64> {
    use std::os::fd::AsRawFd;
    let facts = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    facts.lines().find_map(|line| line.strip_prefix("memlock:")).and_then(|bytes| bytes.trim().parse().ok())
}

/// Facts about a pinned link.
///
/// # Errors
/// [`Error::Path`] when the pin cannot be opened.
pub fn link_facts(link: &PinnedLink) -> Result<sys::LinkFacts, Error> {
    let opened = sys::open_pin(&link.path, Access::Write);
    let facts = opened.and_then(|fd| sys::link_facts(fd.as_fd()));
    facts.map_err(Error::path("read the pinned link", &link.path))
}
