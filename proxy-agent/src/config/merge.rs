//! Flags, the file and defaults become one configuration. A flag, or its variable, wins over the file, which wins over
//! the default; kube-proxy itself lets the file win and leaves most flags aside.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::file::File;
use proxy_model::settings::{LocalSource, Serving};

use super::value::{
    Given, algorithm, api_servers, bind_address, detect_local, known_cidrs, nodeport_addresses, period, size,
    table_size, uplinks,
};
use super::{
    Config, ConfigError, DetectLocal, LocalhostNodePorts, NodePortAddresses, Roots, SourceConfig, TableSizes,
    Watched,
};
use crate::cli::kube_proxy::{KubeProxyArgs, Taken};
use crate::cli::{RunArgs, TableArgs};
use crate::observe::status::SYNC_PERIOD;

/// Time between two audits where nobody says otherwise.
const AUDIT_PERIOD: Duration = Duration::from_secs(60);

/// Port of the health server (item 131).
const HEALTHZ_PORT: u16 = 10256;
/// Port of the metrics server (item 133).
const METRICS_PORT: u16 = 10249;

impl Config {
    /// Checks the flags, reads the file and fills in what the machine knows: its name and its cgroup2 mount.
    pub fn from_args(args: RunArgs) -> Result<Self, ConfigError> {
        let watched = args.config.as_deref().map(Watched::read).transpose()?;
        let file = watched.as_ref().map(Watched::parse).transpose()?.unwrap_or_default();
        let notes = foreign(&args.kube_proxy)?.into_iter().chain(file.notes.iter().cloned()).collect();
        let local_source = local_source(&args);
        let fields = &file.fields;
        let (mode, section) = file.section();
        let of_mode = |field: &str| format!("{mode}.{field}");
        let name = file.or("node-name", args.node_name, "hostnameOverride", text(&fields.hostname_override));
        let bound = args.bind_address.map(|ip| ip.to_string());
        let address = file.or("bind-address", bound, "bindAddress", text(&fields.bind_address));
        let address = address.map(|given| primary(&given)).transpose()?.flatten();
        let ranges = ranges(&file, args.cluster_cidr);
        let node_ports = fields.node_port_addresses.clone().and_then(list);
        let node_ports =
            file.or("nodeport-addresses", list(args.nodeport_addresses), "nodePortAddresses", node_ports);
        let sync = text(&section.sync_period).filter(|period| period != "0s");
        let sync = file.or("sync-period", args.sync_period, &of_mode("syncPeriod"), sync);
        let min_sync = text(&section.min_sync_period);
        let min_sync = file.or("min-sync-period", args.min_sync_period, &of_mode("minSyncPeriod"), min_sync);
        let (healthz, metrics) =
            servers(&file, address, args.healthz_bind_address, args.metrics_bind_address)?;
        let detect_local =
            detect(&file, args.detect_local_mode, args.pod_bridge_interface, args.pod_interface_name_prefix)?;
        Ok(Self {
            node_name: node_name(name)?,
            bind_address: address,
            service_proxy_name: args.service_proxy_name,
            source: source(args.manifests, args.kubeconfig.or_else(|| kubeconfig(&file)))?,
            api_servers: api_servers(&Given::flag("api-server", args.api_server))?,
            roots: Roots::from_args(args.roots)?,
            socket_lb: args.socket_lb.into(),
            detect_local,
            cluster_cidrs: ranges.map_or(Ok(Vec::new()), |given| known_cidrs(&given))?,
            masquerade: args.masquerade_all.or(section.masquerade_all).into(),
            local_source,
            dsr: args.dsr,
            algorithm: algorithm(&Given::flag("algorithm", args.algorithm))?,
            table_size: table_size(&Given::flag("maglev-table-size", args.maglev_table_size))?,
            service_metrics: args.service_metrics,
            policy: args.policy,
            service_cidrs: known_cidrs(&Given::flag("service-cidr", args.service_cidr))?,
            nodeport_addresses: node_ports
                .map_or(Ok(NodePortAddresses::Primary), |given| nodeport_addresses(&given))?,
            localhost_nodeports: localhost(&file, args.localhost_nodeports),
            external_ips: if args.ignore_external_ips { Serving::Off } else { Serving::On },
            uplinks: uplinks(&Given::flag("uplinks", args.uplinks))?,
            xdp: args.xdp,
            families: args.ip_family.into(),
            tables: tables(args.tables)?,
            healthz,
            metrics,
            sync_period: sync.map_or(Ok(SYNC_PERIOD), |given| above_zero(&given))?,
            min_sync_period: min_sync.map_or(Ok(Duration::ZERO), |given| period(&given))?,
            audit_period: audit_period(args.audit_period)?,
            oom_score_adj: args.oom_score_adj.or(fields.oom_score_adj),
            notes,
            file: watched,
        })
    }
}

fn tables(args: TableArgs) -> Result<TableSizes, ConfigError> {
    Ok(TableSizes {
        flows: size("flow-table-size", args.flow_table_size)?,
        frontends: size("frontend-table-size", args.frontend_table_size)?,
        backends: size("backend-table-size", args.backend_table_size)?,
        verdicts: size("policy-verdicts", args.policy_verdicts)?,
        peers: size("policy-peers", args.policy_peers)?,
    })
}

fn localhost(file: &File, flag: Option<bool>) -> LocalhostNodePorts {
    LocalhostNodePorts::from(flag.or(file.fields.iptables.localhost_node_ports))
}

fn local_source(args: &RunArgs) -> LocalSource {
    if args.preserve_local_source { LocalSource::Preserved } else { LocalSource::Masqueraded }
}

/// Addresses of pods.
fn ranges(file: &File, flag: Vec<String>) -> Option<Given<Vec<String>>> {
    let of_file = file.fields.cluster_cidr.as_ref().map(|text| text.split(',').map(str::to_owned).collect());
    file.or("cluster-cidr", list(flag), "clusterCIDR", of_file)
}

/// The API server that the file names; a directory of manifests is asked for by a flag alone, and wins.
fn kubeconfig(file: &File) -> Option<PathBuf> {
    file.fields.client_connection.kubeconfig.clone().filter(|path| !path.as_os_str().is_empty())
}

/// How pods are told from other clients.
fn detect(
    file: &File,
    mode: Option<String>,
    bridge: Option<String>,
    prefix: Option<String>,
) -> Result<DetectLocal, ConfigError> {
    let (fields, devices) = (&file.fields, &file.fields.detect_local);
    let of_file = text(&fields.detect_local_mode);
    let mode = file.or("detect-local-mode", mode, "detectLocalMode", of_file);
    let of_file = text(&devices.bridge_interface);
    let bridge = file.or("pod-bridge-interface", bridge, "detectLocal.bridgeInterface", of_file);
    let of_file = text(&devices.interface_name_prefix);
    let prefix = file.or("pod-interface-name-prefix", prefix, "detectLocal.interfaceNamePrefix", of_file);
    detect_local(mode, bridge, prefix)
}

/// A text that says something.
fn text(field: &Option<String>) -> Option<String> {
    field.clone().filter(|text| !text.is_empty())
}

/// A list that was given.
fn list(values: Vec<String>) -> Option<Vec<String>> {
    (!values.is_empty()).then_some(values)
}

/// What is left aside of the flags that only kube-proxy has.
fn foreign(args: &KubeProxyArgs) -> Result<Vec<String>, ConfigError> {
    let note = |(flag, value): &(crate::cli::kube_proxy::Foreign, String)| match flag.taken {
        Taken::Refused => Err(ConfigError::Refused { flag: flag.name, instead: flag.why }),
        Taken::Ignored => Ok(format!("--{}={value} is not followed: {}", flag.name, flag.why)),
    };
    args.given.iter().map(note).collect()
}

fn source(manifests: Option<PathBuf>, kubeconfig: Option<PathBuf>) -> Result<SourceConfig, ConfigError> {
    match (manifests, kubeconfig) {
        (Some(dir), _) => Ok(SourceConfig::Manifests(dir)),
        (None, Some(file)) => Ok(SourceConfig::Kubeconfig(file)),
        (None, None) if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => Ok(SourceConfig::InCluster),
        (None, None) => Err(ConfigError::NoSource),
    }
}

/// Item 122: names of Nodes have no capitals.
fn node_name(given: Option<Given<String>>) -> Result<String, ConfigError> {
    let name = match given {
        Some(given) => given.value.trim().to_lowercase(),
        None => rustix::system::uname().nodename().to_string_lossy().trim().to_lowercase(),
    };
    if name.is_empty() || name == "(none)" { Err(ConfigError::NoNodeName) } else { Ok(name) }
}

/// The address, unless it is the unspecified one, which says nothing (item 143).
fn primary(given: &Given<String>) -> Result<Option<IpAddr>, ConfigError> {
    let address: Result<IpAddr, _> = given.value.trim().parse();
    let address = address.map_err(|_| given.bad(given.value.as_str(), "an IP address"))?;
    Ok(Some(address).filter(|ip| !ip.is_unspecified()))
}

/// Where the servers listen. If nobody says: on every address and on loopback, of the family of the node's address.
fn servers(
    file: &File,
    address: Option<IpAddr>,
    healthz: Option<String>,
    metrics: Option<String>,
) -> Result<(Option<SocketAddr>, Option<SocketAddr>), ConfigError> {
    let fields = &file.fields;
    let of_file = text(&fields.healthz_bind_address);
    let healthz = file.or("healthz-bind-address", healthz, "healthzBindAddress", of_file);
    let of_file = text(&fields.metrics_bind_address);
    let metrics = file.or("metrics-bind-address", metrics, "metricsBindAddress", of_file);
    let (every, itself): (IpAddr, IpAddr) = match address {
        None | Some(IpAddr::V4(_)) => ([0; 4].into(), [127, 0, 0, 1].into()),
        Some(IpAddr::V6(_)) => ([0_u16; 8].into(), [0, 0, 0, 0, 0, 0, 0, 1_u16].into()),
    };
    let or = |given: Option<Given<String>>, ip, port| match given {
        Some(given) => bind_address(&given, port),
        None => Ok(Some(SocketAddr::new(ip, port))),
    };
    Ok((or(healthz, every, HEALTHZ_PORT)?, or(metrics, itself, METRICS_PORT)?))
}

fn audit_period(given: Option<String>) -> Result<Duration, ConfigError> {
    given.map_or(Ok(AUDIT_PERIOD), |given| above_zero(&Given::flag("audit-period", given)))
}

fn above_zero(given: &Given<String>) -> Result<Duration, ConfigError> {
    match period(given)? {
        Duration::ZERO => Err(given.bad(given.value.as_str(), "a duration above zero")),
        above => Ok(above),
    }
}
