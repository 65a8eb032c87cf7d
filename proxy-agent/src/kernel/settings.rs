//! What the kernel room must be told before it starts. Filled from the command line by `config`; knows no flag names.

use std::path::PathBuf;

use proxy_common::limits;

/// Everything that is fixed for one run of the agent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of the pins, on a bpffs. Two agents with different roots share nothing.
    pub bpf_root: PathBuf,
    /// The cgroup whose sockets are served on the socket road; on a cgroup2 mount.
    pub cgroup_root: PathBuf,
    /// Where files for people and for `proxyctl` lie; `/run/sluice` outside of tests.
    pub run_root: PathBuf,
    /// Which sockets are served on the socket road.
    pub socket_road: SocketRoad,
    /// Served address families.
    pub families: Families,
    /// Map sizes.
    pub sizes: Sizes,
    /// Which devices are uplinks.
    pub uplinks: Uplinks,
    /// Whether new connections are counted by Service port.
    pub tallies: Tallies,
    /// Whether packets go to backends' nodes in tunnels.
    pub tunnels: Tunnels,
    /// Behind which devices all clients are pods.
    pub pods: PodDevices,
    /// Whether packets are served in the uplinks' drivers.
    pub driver: DriverRoad,
}

/// Whether new connections are counted by Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tallies {
    /// They are.
    Kept,
    /// They are not: that saves one lookup for each.
    Off,
}

/// Whether packets go to backends' nodes in tunnels, and are taken from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnels {
    /// They do not.
    Off,
    /// Inside of another IP header of their family.
    Ipip,
}

/// Behind which devices all clients are pods, whatever their address (item 62).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodDevices {
    /// Nobody says: pods are told by their addresses, or not at all.
    Unnamed,
    /// A bridge and its ports.
    Bridge(String),
    /// Devices whose names begin like this, and the ports of such bridges.
    Prefix(String),
}

/// Who is served in the drivers of uplinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverRoad {
    /// Nobody: no XDP program.
    Off,
    /// Where the driver itself runs programs, and packets come off a wire: not on veths.
    Auto,
    /// Where the driver itself runs programs.
    Native,
    /// Everywhere, in the kernel's stead for the driver: for trying out.
    Generic,
}

impl DriverRoad {
    /// The name of the mode in which programs are attached; `None` where there are none.
    #[must_use]
    pub const fn mode(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::Auto | Self::Native => Some("native"),
            Self::Generic => Some("generic"),
        }
    }
}

/// Who is served by translation at connect time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketRoad {
    /// Every socket under the cgroup root, or nobody when the hooks cannot be attached.
    Auto,
    /// Every socket under the cgroup root; an error when the hooks cannot be attached.
    On,
    /// Sockets of the node's own network namespace only; pods take the packet road.
    Host,
    /// Nobody: no cgroup hooks.
    Off,
}

/// The served address families. There is no "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Both.
    Dual,
}

impl Families {
    /// IPv4 is served.
    #[must_use]
    pub const fn ipv4(self) -> bool {
        matches!(self, Self::Ipv4 | Self::Dual)
    }

    /// IPv6 is served.
    #[must_use]
    pub const fn ipv6(self) -> bool {
        matches!(self, Self::Ipv6 | Self::Dual)
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Ipv4, Self::Ipv4) => Self::Ipv4,
            (Self::Ipv6, Self::Ipv6) => Self::Ipv6,
            (Self::Dual | Self::Ipv4, Self::Dual | Self::Ipv6)
            | (Self::Dual | Self::Ipv6, Self::Dual | Self::Ipv4) => Self::Dual,
        }
    }
}

/// Entries of the maps whose size is a choice. A family that is not served gets one entry whatever is said here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Each `frontends` map.
    pub frontends: u32,
    /// Each `backends` array.
    pub backends: u32,
    /// Each `flows` map: two entries per connection.
    pub flows: u32,
    /// The `verdicts` map.
    pub verdicts: u32,
    /// Each `peers` map.
    pub peers: u32,
    /// Each `tunnels` map; one where no packets are sent in tunnels.
    pub tunnels: u32,
}

impl Sizes {
    /// The sizes of the map table.
    pub const DEFAULT: Self = Self {
        frontends: limits::FRONTENDS,
        backends: limits::BACKENDS,
        flows: limits::FLOWS,
        verdicts: limits::VERDICTS,
        peers: limits::PEERS,
        tunnels: 1,
    };
}

/// Which devices lead out of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uplinks {
    /// Devices with a default route, and devices that carry an address the cluster knows the node by.
    Auto,
    /// These, by name; one that does not exist yet is served when it appears.
    Named(Vec<String>),
}
