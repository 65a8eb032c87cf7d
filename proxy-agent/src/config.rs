//! What the agent was told by flags, variables and a file, checked once and typed. Knows nothing of the kernel: what
//! `auto` comes to is decided where it is looked up.

pub mod file;
mod merge;
mod shown;
mod value;
mod watched;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use ipnet::IpNet;
use proxy_common::Algorithm;
use proxy_model::{
    TableSize,
    settings::{LocalSource, Serving},
};

use crate::cli::{DsrArg, IpFamilyArg, PolicyArgs, RootArgs, SocketLbArg, Switch, XdpArg};
use crate::source::kube::{Nodes, Policies, Watching};
use file::FileError;

pub use watched::Watched;

/// Everything that a run is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of this node as `endpoints[].nodeName` has it (items 15, 122).
    pub node_name: String,
    /// The node's primary address, where it is not the first in the Node's status (items 122, 143).
    pub bind_address: Option<IpAddr>,
    /// Whose Services are served: those without the label, or those where it has this value (items 1, 145).
    pub service_proxy_name: Option<String>,
    /// Where the objects come from.
    pub source: SourceConfig,
    /// Where the API server is asked, in place of what the source says; empty: there.
    pub api_servers: Vec<Uri>,
    /// Where the kernel's part is kept.
    pub roots: Roots,
    /// Which sockets are translated.
    pub socket_lb: SocketLb,
    /// How pods are told from other clients (item 62).
    pub detect_local: DetectLocal,
    /// Pod ranges of the whole cluster; empty: [`DetectLocal::ClusterCidr`] tells nobody.
    pub cluster_cidrs: Vec<IpNet>,
    /// Whether pods' connections to ClusterIPs are masqueraded (item 48).
    pub masquerade: Masquerade,
    /// What a backend of this node sees of an external client.
    pub local_source: LocalSource,
    /// How packets from outside reach backends of other nodes.
    pub dsr: DsrArg,
    /// How a backend is chosen for a Service that does not say.
    pub algorithm: Algorithm,
    /// How long Maglev tables are.
    pub table_size: TableSize,
    /// Whether new connections are counted by Service.
    pub service_metrics: Switch,
    /// Whether policies are enforced, and on which connections.
    pub policy: PolicyArgs,
    /// Ranges of ClusterIPs (item 53).
    pub service_cidrs: Vec<IpNet>,
    /// Which node addresses have node ports (items 65–67).
    pub nodeport_addresses: NodePortAddresses,
    /// Whether the node's own processes find node ports at the loopback address (item 68).
    pub localhost_nodeports: LocalhostNodePorts,
    /// Whether `externalIPs` of Services are served.
    pub external_ips: Serving,
    /// Devices of the outside world.
    pub uplinks: Uplinks,
    /// Whether uplinks are served in their drivers.
    pub xdp: XdpArg,
    /// Families served.
    pub families: Families,
    /// Sizes of the maps.
    pub tables: TableSizes,
    /// Health server, if any.
    pub healthz: Option<SocketAddr>,
    /// Metrics server, if any.
    pub metrics: Option<SocketAddr>,
    /// How long a change may take that cannot be written at once: twice as long is unhealthy (items 113, 131).
    pub sync_period: Duration,
    /// Least time between two writes to the kernel.
    pub min_sync_period: Duration,
    /// Time between two comparisons of the kernel with what it should hold.
    pub audit_period: Duration,
    /// What the kernel is told of this process, if anything (item 143).
    pub oom_score_adj: Option<i16>,
    /// What was said that is not followed, and why: for the log.
    pub notes: Vec<String>,
    /// The file that was read, to be noticed when it changes (item 143).
    pub file: Option<Watched>,
}

/// Where the objects come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceConfig {
    /// Files of a directory.
    Manifests(PathBuf),
    /// The API server of a kubeconfig file.
    Kubeconfig(PathBuf),
    /// The API server of the pod's own cluster.
    InCluster,
}

/// Where the kernel's part is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Directory of pins.
    pub bpf: PathBuf,
    /// The cgroup whose sockets are served.
    pub cgroup: PathBuf,
}

/// Which sockets are translated when they connect or send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketLb {
    /// Every socket where the hooks can be attached, else none.
    Auto,
    /// Every socket under the cgroup root.
    On,
    /// None.
    Off,
    /// Those of the node's own network namespace.
    Host,
}

/// Which connections to ClusterIPs get the node's address as their source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masquerade {
    /// Only those whose reply would not find back.
    WhereNeeded,
    /// All of them (item 48).
    All,
}

/// Which node addresses have node ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The node's primary address of each family.
    Primary,
    /// Every node address in one of the ranges; a family without a range has all of its addresses (item 66).
    Ranges(Vec<IpNet>),
}

/// How pods are told from other clients (item 62).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DetectLocal {
    /// By the ranges of pods of the whole cluster.
    ClusterCidr,
    /// By the ranges in this Node's spec.
    NodeCidr,
    /// By this bridge and its ports.
    Bridge(String),
    /// By devices whose names begin like this.
    Prefix(String),
}

/// Whether the node's own processes find node ports at the loopback address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalhostNodePorts {
    /// They do.
    Served,
    /// They find what listens there.
    Left,
}

impl From<Option<bool>> for Masquerade {
    /// Only where it is needed, unless somebody says otherwise.
    fn from(all: Option<bool>) -> Self {
        match all {
            None | Some(false) => Self::WhereNeeded,
            Some(true) => Self::All,
        }
    }
}

impl From<Option<bool>> for LocalhostNodePorts {
    /// They do, unless somebody says that they do not.
    fn from(said: Option<bool>) -> Self {
        match said {
            None | Some(true) => Self::Served,
            Some(false) => Self::Left,
        }
    }
}

/// Devices of the outside world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uplinks {
    /// Those with a default route or the node's address.
    Auto,
    /// These.
    Named(Vec<String>),
}

/// Address families served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// Those that the node has addresses of.
    Auto,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Both.
    Dual,
}

/// Entries of the maps whose size is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSizes {
    /// `flows4`, `flows6`.
    pub flows: u32,
    /// `frontends4`, `frontends6`.
    pub frontends: u32,
    /// `backends4`, `backends6`.
    pub backends: u32,
    /// `verdicts`.
    pub verdicts: u32,
    /// `peers4`, `peers6`.
    pub peers: u32,
}

/// A flag that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that cannot be read.
    #[error("{place}: {value:?} is not {expected}")]
    Value {
        /// The flag, or the file and its field.
        place: String,
        /// What was given.
        value: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// A flag of kube-proxy that cannot be left aside.
    #[error("--{flag} is kube-proxy's: {instead}")]
    Refused {
        /// Name of the flag.
        flag: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// The file that `--config` names.
    #[error(transparent)]
    File(#[from] FileError),
    /// More ranges than there is room for.
    #[error("{place}: {number} ranges of one family; at most {most} are told apart")]
    TooMany {
        /// The flag, or the field of the file.
        place: String,
        /// How many were given.
        number: usize,
        /// How many are possible.
        most: usize,
    },
    /// Neither of the sources, and not in a pod.
    #[error("no source of objects: give --manifests DIR or --kubeconfig FILE, or run in a pod of a cluster")]
    NoSource,
    /// No cgroup2 mount.
    #[error(
        "no cgroup2 file system is mounted: mount one (mount -t cgroup2 none /sys/fs/cgroup) or give --cgroup-root DIR"
    )]
    NoCgroup,
    /// The node has no name.
    #[error("the host has no usable name: give --node-name NAME")]
    NoNodeName,
}

impl Config {
    /// For whom an API server is watched.
    #[must_use]
    pub fn watching(&self) -> Watching {
        Watching {
            node_name: self.node_name.clone(),
            service_proxy_name: self.service_proxy_name.clone(),
            policies: match self.policy.network_policy {
                Switch::On => Policies::Read,
                Switch::Off => Policies::Left,
            },
            nodes: match self.dsr {
                DsrArg::Off => Nodes::Own,
                DsrArg::Ipip => Nodes::All,
            },
        }
    }
}

impl Roots {
    /// Looks up the cgroup2 mount if no directory was given.
    pub fn from_args(args: RootArgs) -> Result<Self, ConfigError> {
        let cgroup = match args.cgroup_root {
            Some(dir) => dir,
            None => std::fs::read_to_string("/proc/self/mountinfo")
                .ok()
                .and_then(|text| cgroup2_mount(&text))
                .ok_or(ConfigError::NoCgroup)?,
        };
        Ok(Self { bpf: args.bpf_root, cgroup })
    }
}

impl From<SocketLbArg> for SocketLb {
    fn from(arg: SocketLbArg) -> Self {
        match arg {
            SocketLbArg::Auto => Self::Auto,
            SocketLbArg::On => Self::On,
            SocketLbArg::Off => Self::Off,
            SocketLbArg::Host => Self::Host,
        }
    }
}

impl From<IpFamilyArg> for Families {
    fn from(arg: IpFamilyArg) -> Self {
        match arg {
            IpFamilyArg::Auto => Self::Auto,
            IpFamilyArg::Ipv4 => Self::Ipv4,
            IpFamilyArg::Ipv6 => Self::Ipv6,
            IpFamilyArg::Dual => Self::Dual,
        }
    }
}

/// The first cgroup2 mount of a `mountinfo` (proc_pid_mountinfo(5)): field 5 is the mount point, the field after
/// ` - ` the type.
fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        if right.split(' ').next() != Some("cgroup2") {
            return None;
        }
        left.split(' ').nth(4).map(|path| Path::new(path).to_path_buf())
    })
}

#[cfg(test)]
mod tests;
