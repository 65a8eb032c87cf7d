//! The command line of `proxy-agent`: what may be said. What it means is decided in `config`.
//!
//! Every flag has an environment variable `SLUICE_*`, so that a manifest can set it without a template.

pub mod chroot;
pub mod kube_proxy;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use self::chroot::ChrootArgs;
use self::kube_proxy::KubeProxyArgs;

/// Kubernetes Services in eBPF, without kube-proxy.
#[derive(Parser, Debug)]
#[command(name = "proxy-agent", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How and how much to log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Serve the Services of a cluster on this node until told to stop; the dataplane stays when it stops
    Run(Box<RunArgs>),
    /// Remove every program, map and pin of Sluice from this node
    Cleanup(CleanupArgs),
    /// Mount a BPF file system where there is none, and end
    MountBpf(MountArgs),
    /// Print the version
    Version,
}

/// Flags of `cleanup`.
#[derive(Args, Debug, Clone)]
pub struct CleanupArgs {
    /// Where the kernel's part is kept.
    #[command(flatten)]
    pub roots: RootArgs,
    /// Before that, leave new connections to another proxy, which serves already, wait for so long, or until those that are
    /// translated have ended, and hand the others to netfilter [default of DURATION: 10s]
    #[arg(long, env = "SLUICE_DRAIN", value_name = "DURATION", num_args = 0..=1, require_equals = true,
          default_missing_value = "10s", value_parser = humantime::parse_duration)]
    pub drain: Option<Duration>,
    /// Where the node's files are.
    #[command(flatten)]
    pub chroot: ChrootArgs,
}

/// Where a BPF file system is mounted.
#[derive(Args, Debug, Clone)]
pub struct MountArgs {
    /// Directory; made if there is none
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub at: PathBuf,
}

/// How and how much to log.
#[derive(Args, Debug, Clone)]
pub struct LogArgs {
    /// Form of the log lines on standard error
    #[arg(long, global = true, env = "SLUICE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What to log, in the syntax of RUST_LOG: `info`, `warn,proxy_agent::source=debug`
    #[arg(long, global = true, env = "SLUICE_LOG_LEVEL", value_name = "FILTER", default_value = "info")]
    pub log_level: String,
}

/// Form of the log lines.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where this agent keeps its part of the kernel. Two agents of one machine need two of each.
#[derive(Args, Debug, Clone)]
pub struct RootArgs {
    /// Directory of pinned maps and links, on a BPF file system
    #[arg(long, env = "SLUICE_BPF_ROOT", value_name = "DIR", default_value = "/sys/fs/bpf/sluice")]
    pub bpf_root: PathBuf,
    /// The cgroup whose sockets are served [default: where cgroup2 is mounted]
    #[arg(long, env = "SLUICE_CGROUP_ROOT", value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,
}

/// Flags of `run`.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    /// Where the kernel's part is kept.
    #[command(flatten)]
    pub roots: RootArgs,
    /// A KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1); flags and variables win over it
    #[arg(long, env = "SLUICE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Remove every program, map and pin of Sluice from this node and end, as `proxy-agent cleanup`
    #[arg(long)]
    pub cleanup: bool,
    /// Name of this node as EndpointSlices have it, in lower case [default: the host's name]
    #[arg(long, env = "SLUICE_NODE_NAME", value_name = "NAME", visible_alias = "hostname-override")]
    pub node_name: Option<String>,
    /// The node's primary address, instead of the first in the Node's status; unspecified: as if not given
    #[arg(long, env = "SLUICE_BIND_ADDRESS", value_name = "IP")]
    pub bind_address: Option<IpAddr>,
    /// Serve the Services whose label service.kubernetes.io/service-proxy-name has this value, and no others; no address is dropped
    /// then because nobody owns it
    #[arg(long, env = "SLUICE_SERVICE_PROXY_NAME", value_name = "NAME")]
    pub service_proxy_name: Option<String>,
    /// Read the objects from the YAML and JSON files of this directory, and follow their changes
    #[arg(long, env = "SLUICE_MANIFESTS", value_name = "DIR", conflicts_with = "kubeconfig")]
    pub manifests: Option<PathBuf>,
    /// Watch the API server that this file names [default without --manifests: the cluster the pod runs in]
    #[arg(long, env = "SLUICE_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Where the API server is asked, instead of where the kubeconfig or the pod's environment says: one or several
    /// HOST:PORT or URLs. Whoever does not answer is left for the next. Others are learned and remembered in /run/sluice
    #[arg(
        long,
        visible_alias = "master",
        env = "SLUICE_API_SERVER",
        value_name = "URL",
        value_delimiter = ',',
        conflicts_with = "manifests"
    )]
    pub api_server: Vec<String>,
    /// Translate at the socket: for every socket, for none, or for those of the node itself
    #[arg(long, env = "SLUICE_SOCKET_LB", value_enum, default_value_t = SocketLbArg::Auto)]
    pub socket_lb: SocketLbArg,
    /// Ranges of pod addresses in the whole cluster, to tell pods from other clients
    #[arg(long, env = "SLUICE_CLUSTER_CIDR", value_name = "CIDR", value_delimiter = ',')]
    pub cluster_cidr: Vec<String>,
    /// How pods are told from other clients: ClusterCIDR, by the ranges of --cluster-cidr; NodeCIDR, by this Node's
    /// spec.podCIDRs; BridgeInterface or InterfaceNamePrefix, by the device they send through [default: ClusterCIDR]
    #[arg(long, env = "SLUICE_DETECT_LOCAL_MODE", value_name = "MODE")]
    pub detect_local_mode: Option<String>,
    /// Bridge that pods are behind, with --detect-local-mode=BridgeInterface
    #[arg(long, visible_alias = "bridge-interface", env = "SLUICE_BRIDGE_INTERFACE", value_name = "IF")]
    pub pod_bridge_interface: Option<String>,
    /// Beginning of the names of pods' devices, with --detect-local-mode=InterfaceNamePrefix
    #[arg(
        long,
        visible_alias = "interface-name-prefix",
        env = "SLUICE_INTERFACE_NAME_PREFIX",
        value_name = "PREFIX"
    )]
    pub pod_interface_name_prefix: Option<String>,
    /// Show every pod's connection to a ClusterIP as one from the node
    #[arg(long, env = "SLUICE_MASQUERADE_ALL", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub masquerade_all: Option<bool>,
    /// Show a client's own address to backends of this node under externalTrafficPolicy Cluster, too
    #[arg(long, env = "SLUICE_PRESERVE_LOCAL_SOURCE")]
    pub preserve_local_source: bool,
    /// Send packets from outside to backends of other nodes in tunnels, which answer the clients directly; on every node
    /// alike. The annotation sluice.dev/dsr: "false" leaves a Service out
    #[arg(long, env = "SLUICE_DSR", value_enum, default_value_t = DsrArg::Off)]
    pub dsr: DsrArg,
    /// How a backend is chosen where the annotation sluice.dev/algorithm says nothing
    #[arg(
        long,
        env = "SLUICE_ALGORITHM",
        value_name = "random|maglev|rr|wrr|lc|wlc|sh",
        default_value = "random"
    )]
    pub algorithm: String,
    /// Slots of each Maglev table: `auto` by the number of backends, or a prime from 251 to 131101
    #[arg(long, env = "SLUICE_MAGLEV_TABLE_SIZE", value_name = "auto|N", default_value = "auto")]
    pub maglev_table_size: String,
    /// Count new connections by Service
    #[arg(long, env = "SLUICE_SERVICE_METRICS", value_enum, default_value_t = Switch::On)]
    pub service_metrics: Switch,
    /// Whether policies are enforced.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Ranges of ClusterIPs; an address in them that nobody owns is dropped
    #[arg(long, env = "SLUICE_SERVICE_CIDR", value_name = "CIDR", value_delimiter = ',')]
    pub service_cidr: Vec<String>,
    /// Node addresses with node ports: `primary`, or ranges [default: primary]
    #[arg(long, env = "SLUICE_NODEPORT_ADDRESSES", value_name = "primary|CIDR", value_delimiter = ',')]
    pub nodeport_addresses: Vec<String>,
    /// Serve node ports also at 127.0.0.1 and ::1, to processes of the node itself; needs --socket-lb other than off
    /// [default: true]
    #[arg(
        long,
        visible_alias = "iptables-localhost-nodeports",
        env = "SLUICE_LOCALHOST_NODEPORTS",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub localhost_nodeports: Option<bool>,
    /// Leave `externalIPs` of Services aside: whoever may write a Service could take any address with them
    #[arg(long, env = "SLUICE_IGNORE_EXTERNAL_IPS", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", value_parser = BoolishValueParser::new())]
    pub ignore_external_ips: bool,
    /// Devices towards other nodes and clients: `auto`, or names
    #[arg(
        long,
        env = "SLUICE_UPLINKS",
        value_name = "auto|IF",
        value_delimiter = ',',
        default_value = "auto"
    )]
    pub uplinks: Vec<String>,
    /// Serve packets of uplinks in the device's driver (XDP) where their backend is on another node
    #[arg(long, env = "SLUICE_XDP", value_enum, default_value_t = XdpArg::Off)]
    pub xdp: XdpArg,
    /// Address families to serve; auto: those the node has addresses of, and those that an earlier run serves. The agent ends,
    /// to be started anew, when another one comes
    #[arg(long, env = "SLUICE_IP_FAMILY", value_enum, default_value_t = IpFamilyArg::Auto)]
    pub ip_family: IpFamilyArg,
    /// How much room there is.
    #[command(flatten)]
    pub tables: TableArgs,
    /// Address of /healthz, /livez and /readyz; `0` or empty: off [default: 0.0.0.0:10256]
    #[arg(long, env = "SLUICE_HEALTHZ_BIND_ADDRESS", value_name = "IP:PORT")]
    pub healthz_bind_address: Option<String>,
    /// Address of /metrics, /proxyMode, /configz, /flagz and /statusz; `0` or empty: off [default: 127.0.0.1:10249]
    #[arg(long, env = "SLUICE_METRICS_BIND_ADDRESS", value_name = "IP:PORT")]
    pub metrics_bind_address: Option<String>,
    /// A change that waits twice as long makes /healthz answer 503; what could not be done is tried again by then
    /// [default: 30s]
    #[arg(long, env = "SLUICE_SYNC_PERIOD", value_name = "DURATION",
          aliases = ["iptables-sync-period", "ipvs-sync-period"])]
    pub sync_period: Option<String>,
    /// Least time between two writes to the kernel; changes in between are written together [default: 0ms]
    #[arg(long, env = "SLUICE_MIN_SYNC_PERIOD", value_name = "DURATION",
          aliases = ["iptables-min-sync-period", "ipvs-min-sync-period"])]
    pub min_sync_period: Option<String>,
    /// How often what is in the kernel is compared with what should be; what differs is put right and counted
    /// [default: 60s]
    #[arg(long, env = "SLUICE_AUDIT_PERIOD", value_name = "DURATION")]
    pub audit_period: Option<String>,
    /// How readily the kernel ends this process when memory is short, -1000 to 1000 [default: as it is]
    #[arg(long, env = "SLUICE_OOM_SCORE_ADJ", value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i16).range(-1000..=1000))]
    pub oom_score_adj: Option<i16>,
    /// Flags of kube-proxy without a meaning here.
    #[command(flatten)]
    pub kube_proxy: KubeProxyArgs,
}

/// Whether policies are enforced, and on which connections.
#[derive(Args, Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyArgs {
    /// Enforce NetworkPolicies and ClusterNetworkPolicies
    #[arg(long, env = "SLUICE_NETWORK_POLICY", value_enum, default_value_t = Switch::On)]
    pub network_policy: Switch,
    /// Which connections a changed policy, label or pod is asked about
    #[arg(long, env = "SLUICE_POLICY_ON_CHANGE", value_enum, default_value_t = PolicyChangeArg::All)]
    pub policy_on_change: PolicyChangeArg,
}

/// How much room there is.
#[derive(Args, Debug, Clone, Copy)]
pub struct TableArgs {
    /// Entries of each map of established connections, two a connection
    #[arg(long, env = "SLUICE_FLOW_TABLE_SIZE", value_name = "N", default_value_t = proxy_common::limits::FLOWS)]
    pub flow_table_size: u32,
    /// Entries of each map of Service addresses and ports
    #[arg(long, env = "SLUICE_FRONTEND_TABLE_SIZE", value_name = "N",
          default_value_t = proxy_common::limits::FRONTENDS)]
    pub frontend_table_size: u32,
    /// Slots of each map of backends; a change needs old and new ones side by side
    #[arg(long, env = "SLUICE_BACKEND_TABLE_SIZE", value_name = "N",
          default_value_t = proxy_common::limits::BACKENDS)]
    pub backend_table_size: u32,
    /// Entries of the map of what policies say
    #[arg(long, env = "SLUICE_POLICY_VERDICTS", value_name = "N",
          default_value_t = proxy_common::limits::VERDICTS)]
    pub policy_verdicts: u32,
    /// Entries of each map of pods and nodes that policies name
    #[arg(long, env = "SLUICE_POLICY_PEERS", value_name = "N", default_value_t = proxy_common::limits::PEERS)]
    pub policy_peers: u32,
}

/// Which sockets are translated when they connect or send.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketLbArg {
    /// `on` where the kernel lets us attach, else `off`
    Auto,
    /// Every socket under the cgroup root
    On,
    /// None; then processes of the node itself are not served
    Off,
    /// Sockets of the node's own network namespace; pods are served by packets
    Host,
}

/// Something that is done or not.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Done
    On,
    /// Not done
    Off,
}

/// Which connections a changed policy is asked about.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyChangeArg {
    /// Those that are there already, too: what it does not allow any more is cut
    All,
    /// New ones; what was allowed once goes on
    NewFlows,
}

/// How packets from outside reach backends of other nodes.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum DsrArg {
    /// Translated and masqueraded; answers come back by this node
    Off,
    /// Each inside of another IP header of its family; answers go directly to the client
    Ipip,
}

/// Whether uplinks are served in their drivers.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpArg {
    /// `native` where the driver can and the device is no veth, else at the tc hook
    Auto,
    /// At the tc hook
    Off,
    /// In the driver; at the tc hook where it cannot
    Native,
    /// In the kernel's stand-in for a driver: no faster, for trying out
    Generic,
}

/// Which address families are served.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpFamilyArg {
    /// Those that the node has addresses of
    Auto,
    /// IPv4 only
    Ipv4,
    /// IPv6 only
    Ipv6,
    /// Both
    Dual,
}
