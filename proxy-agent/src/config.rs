//! What the agent was told, checked once and typed. Knows nothing of the kernel: what `auto` comes to is decided
//! where it is looked up.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::cli::{IpFamilyArg, RootArgs, RunArgs, SocketLbArg};

/// Port of the health server (item 131).
const HEALTHZ_PORT: u16 = 10256;
/// Port of the metrics server (item 133).
const METRICS_PORT: u16 = 10249;

/// Everything that a run is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of this node as `endpoints[].nodeName` has it (items 15, 122).
    pub node_name: String,
    /// Where the objects come from.
    pub source: SourceConfig,
    /// Where the kernel's part is kept.
    pub roots: Roots,
    /// Which sockets are translated.
    pub socket_lb: SocketLb,
    /// Pod ranges of the whole cluster; empty: no detector (item 62).
    pub cluster_cidrs: Vec<IpNet>,
    /// Whether pods' connections to ClusterIPs are masqueraded (item 48).
    pub masquerade: Masquerade,
    /// Ranges of ClusterIPs (item 53).
    pub service_cidrs: Vec<IpNet>,
    /// Which node addresses have node ports (items 65–67).
    pub nodeport_addresses: NodePortAddresses,
    /// Devices of the outside world.
    pub uplinks: Uplinks,
    /// Families served.
    pub families: Families,
    /// Sizes of the maps.
    pub tables: TableSizes,
    /// Health server, if any.
    pub healthz: Option<SocketAddr>,
    /// Metrics server, if any.
    pub metrics: Option<SocketAddr>,
    /// Least time between two writes to the kernel.
    pub min_sync_period: Duration,
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
}

/// A flag that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that cannot be read.
    #[error("--{flag}: {value:?} is not {expected}")]
    Value {
        /// Name of the flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What it should have been.
        expected: &'static str,
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
    /// Checks the flags and fills in what the machine knows: its name and its cgroup2 mount.
    pub fn from_args(args: RunArgs) -> Result<Self, ConfigError> {
        let source = match (args.manifests, args.kubeconfig) {
            (Some(dir), _) => SourceConfig::Manifests(dir),
            (None, Some(file)) => SourceConfig::Kubeconfig(file),
            (None, None) if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => SourceConfig::InCluster,
            (None, None) => return Err(ConfigError::NoSource),
        };
        Ok(Self {
            node_name: node_name(args.node_name)?,
            source,
            roots: Roots::from_args(args.roots)?,
            socket_lb: args.socket_lb.into(),
            cluster_cidrs: cidrs("cluster-cidr", &args.cluster_cidr)?,
            masquerade: if args.masquerade_all { Masquerade::All } else { Masquerade::WhereNeeded },
            service_cidrs: cidrs("service-cidr", &args.service_cidr)?,
            nodeport_addresses: nodeport_addresses(&args.nodeport_addresses)?,
            uplinks: uplinks(args.uplinks)?,
            families: args.ip_family.into(),
            tables: TableSizes {
                flows: size("flow-table-size", args.flow_table_size)?,
                frontends: size("frontend-table-size", args.frontend_table_size)?,
                backends: size("backend-table-size", args.backend_table_size)?,
            },
            healthz: bind_address("healthz-bind-address", &args.healthz_bind_address, HEALTHZ_PORT)?,
            metrics: bind_address("metrics-bind-address", &args.metrics_bind_address, METRICS_PORT)?,
            min_sync_period: period("min-sync-period", &args.min_sync_period)?,
        })
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

fn node_name(given: Option<String>) -> Result<String, ConfigError> {
    let name = match given {
        Some(name) => name.trim().to_owned(),
        None => rustix::system::uname().nodename().to_string_lossy().trim().to_lowercase(),
    };
    if name.is_empty() || name == "(none)" { Err(ConfigError::NoNodeName) } else { Ok(name) }
}

fn cidrs(flag: &'static str, values: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    values
        .iter()
        .map(|value| value.trim())
        .filter(|value| !value.is_empty())
        .map(|value| cidr(flag, value))
        .collect()
}

fn cidr(flag: &'static str, value: &str) -> Result<IpNet, ConfigError> {
    value.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| ConfigError::Value {
        flag,
        value: value.to_owned(),
        expected: "an address range such as 10.244.0.0/16 or fd00:10::/56",
    })
}

/// Item 67: `primary` stands alone.
fn nodeport_addresses(values: &[String]) -> Result<NodePortAddresses, ConfigError> {
    const FLAG: &str = "nodeport-addresses";
    if let [only] = values
        && only.trim() == "primary"
    {
        return Ok(NodePortAddresses::Primary);
    }
    if values.iter().any(|value| value.trim() == "primary") {
        return Err(ConfigError::Value {
            flag: FLAG,
            value: values.join(","),
            expected: "either `primary` alone or a list of address ranges",
        });
    }
    match cidrs(FLAG, values)? {
        ranges if ranges.is_empty() => Ok(NodePortAddresses::Primary),
        ranges => Ok(NodePortAddresses::Ranges(ranges)),
    }
}

fn uplinks(values: Vec<String>) -> Result<Uplinks, ConfigError> {
    let names: Vec<String> =
        values.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    if names.is_empty() || names == ["auto"] {
        return Ok(Uplinks::Auto);
    }
    // IFNAMSIZ is 16 with the final zero.
    if names.iter().any(|name| name == "auto" || name.len() > 15 || name.contains('/')) {
        return Err(ConfigError::Value {
            flag: "uplinks",
            value: names.join(","),
            expected: "either `auto` alone or a list of device names",
        });
    }
    Ok(Uplinks::Named(names))
}

fn size(flag: &'static str, entries: u32) -> Result<u32, ConfigError> {
    if entries > 0 {
        return Ok(entries);
    }
    Err(ConfigError::Value { flag, value: entries.to_string(), expected: "a number above zero" })
}

/// `IP:PORT`, `[IP]:PORT`, `:PORT`, or an address alone with the default port; empty or `0` is off.
fn bind_address(
    flag: &'static str,
    value: &str,
    default_port: u16,
) -> Result<Option<SocketAddr>, ConfigError> {
    let value = value.trim();
    if value.is_empty() || value == "0" {
        return Ok(None);
    }
    let full = if value.starts_with(':') { format!("0.0.0.0{value}") } else { value.to_owned() };
    let address = full
        .parse::<SocketAddr>()
        .ok()
        .or_else(|| full.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, default_port)));
    match address {
        Some(address) => Ok(Some(address)),
        None => Err(ConfigError::Value {
            flag,
            value: value.to_owned(),
            expected: "an address and port such as 127.0.0.1:10249 or [::]:10256",
        }),
    }
}

fn period(flag: &'static str, value: &str) -> Result<Duration, ConfigError> {
    if value.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(value.trim()).map_err(|_| ConfigError::Value {
        flag,
        value: value.to_owned(),
        expected: "a duration such as 0ms, 250ms or 1s",
    })
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
