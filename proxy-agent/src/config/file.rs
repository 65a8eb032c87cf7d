//! The file that `--config` names: a KubeProxyConfiguration as kube-proxy reads it. Every field is in one table: taken
//! over, or left aside with the reason. One that is in neither is an error that names it.
//! <https://github.com/kubernetes/kube-proxy/blob/v0.36.0/config/v1alpha1/types.go>

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::value::Given;

const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
const KIND: &str = "KubeProxyConfiguration";

/// What becomes of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// It says what a flag says.
    Flag(&'static str),
    /// It is noted at the start and changes nothing.
    Ignored(&'static str),
}

use Use::{Flag, Ignored};

const LOG: Use = Ignored("logging is set by --log-level and --log-format");
const CLIENT: Use = Ignored("the client of the API server lists once and watches");
const CONNTRACK: Use =
    Ignored("connections are kept in maps of Sluice's own: --flow-table-size is their size");
const IDLE: Use = Ignored("an idle connection is kept by Sluice's own time-outs, not by conntrack's");
const IPVS: Use = Ignored("there is no IPVS");
const WINDOWS: Use = Ignored("this is Linux");
const MARK: Use = Ignored("packets are masqueraded without a mark");

/// Every field, by its path; what lies below a path belongs to it.
pub const FIELDS: &[(&str, Use)] = &[
    ("bindAddress", Flag("bind-address")),
    ("bindAddressHardFail", Ignored("an address that cannot be had is tried again until it can")),
    ("clientConnection.acceptContentTypes", CLIENT),
    ("clientConnection.burst", CLIENT),
    ("clientConnection.contentType", CLIENT),
    ("clientConnection.kubeconfig", Flag("kubeconfig")),
    ("clientConnection.qps", CLIENT),
    ("clusterCIDR", Flag("cluster-cidr")),
    ("configSyncPeriod", Ignored("watches tell of every change; nothing is asked for again")),
    ("conntrack.maxPerCore", CONNTRACK),
    ("conntrack.min", CONNTRACK),
    (
        "conntrack.tcpBeLiberal",
        Ignored("packets outside of a window are translated like any other of their flow"),
    ),
    ("conntrack.tcpCloseWaitTimeout", IDLE),
    ("conntrack.tcpEstablishedTimeout", IDLE),
    ("conntrack.udpStreamTimeout", IDLE),
    ("conntrack.udpTimeout", IDLE),
    ("detectLocal.bridgeInterface", Flag("pod-bridge-interface")),
    ("detectLocal.interfaceNamePrefix", Flag("pod-interface-name-prefix")),
    ("detectLocalMode", Flag("detect-local-mode")),
    ("enableProfiling", Ignored("there are no profiles to ask for; use perf")),
    ("featureGates", Ignored("Sluice has no feature gates")),
    ("healthzBindAddress", Flag("healthz-bind-address")),
    ("hostnameOverride", Flag("hostname-override")),
    ("iptables.localhostNodePorts", Flag("iptables-localhost-nodeports")),
    ("iptables.masqueradeAll", Flag("masquerade-all")),
    ("iptables.masqueradeBit", MARK),
    ("iptables.minSyncPeriod", Flag("min-sync-period")),
    ("iptables.syncPeriod", Flag("sync-period")),
    ("ipvs.excludeCIDRs", IPVS),
    ("ipvs.minSyncPeriod", Flag("min-sync-period")),
    ("ipvs.scheduler", Ignored("choose per Service, with the annotation sluice.dev/algorithm")),
    (
        "ipvs.strictARP",
        Ignored("addresses of Services are assigned to no device, so nobody asks for them by ARP"),
    ),
    ("ipvs.syncPeriod", Flag("sync-period")),
    ("ipvs.tcpFinTimeout", IPVS),
    ("ipvs.tcpTimeout", IPVS),
    ("ipvs.udpTimeout", IPVS),
    ("logging", LOG),
    ("metricsBindAddress", Flag("metrics-bind-address")),
    ("mode", Ignored("there is one mode; it behaves like nftables where kube-proxy's modes differ")),
    ("nftables.masqueradeAll", Flag("masquerade-all")),
    ("nftables.masqueradeBit", MARK),
    ("nftables.minSyncPeriod", Flag("min-sync-period")),
    ("nftables.syncPeriod", Flag("sync-period")),
    ("nodePortAddresses", Flag("nodeport-addresses")),
    ("oomScoreAdj", Flag("oom-score-adj")),
    ("portRange", Ignored("no port is opened for a Service")),
    ("showHiddenMetricsForVersion", Ignored("no metric is hidden")),
    ("windowsRunAsService", WINDOWS),
    ("winkernel", WINDOWS),
];

/// The file cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("--config {}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not YAML.
    #[error("--config {}: makes no sense", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_norway::Error,
    },
    /// It is another kind of object.
    #[error("--config {}: {field} is {found:?}, and not {expected:?}", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// `apiVersion` or `kind`.
        field: &'static str,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// A field that no KubeProxyConfiguration has.
    #[error("--config {}: {field} is not a field of a KubeProxyConfiguration", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Path of the field.
        field: String,
    },
    /// A field holds something of another kind.
    #[error("--config {}: {field}: {source}", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// Path of the field.
        field: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// The fields that say what a flag says. Empty ones are as if absent, as for kube-proxy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Fields {
    pub(super) bind_address: Option<String>,
    pub(super) client_connection: ClientConnection,
    #[serde(rename = "clusterCIDR")]
    pub(super) cluster_cidr: Option<String>,
    pub(super) healthz_bind_address: Option<String>,
    pub(super) hostname_override: Option<String>,
    pub(super) metrics_bind_address: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) iptables: Section,
    pub(super) ipvs: Section,
    pub(super) nftables: Section,
    pub(super) detect_local_mode: Option<String>,
    pub(super) detect_local: DetectLocal,
    pub(super) node_port_addresses: Option<Vec<String>>,
    pub(super) oom_score_adj: Option<i16>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ClientConnection {
    pub(super) kubeconfig: Option<PathBuf>,
}

/// What one of kube-proxy's modes is told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Section {
    pub(super) masquerade_all: Option<bool>,
    pub(super) sync_period: Option<String>,
    pub(super) min_sync_period: Option<String>,
    /// Of `iptables` alone.
    pub(super) localhost_node_ports: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct DetectLocal {
    pub(super) bridge_interface: Option<String>,
    pub(super) interface_name_prefix: Option<String>,
}

/// A file that was read.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    path: PathBuf,
    pub(super) fields: Fields,
    /// What it says that is not followed, and why.
    pub(super) notes: Vec<String>,
}

impl File {
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let owned = || path.to_owned();
        let value: Value =
            serde_norway::from_str(text).map_err(|source| FileError::Yaml { path: owned(), source })?;
        for (field, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            let found = value.get(field).and_then(Value::as_str).unwrap_or_default();
            if found != expected {
                return Err(FileError::NotOurs { path: owned(), field, found: found.to_owned(), expected });
            }
        }
        let mut notes = Vec::new();
        look(&value, "", &mut notes).map_err(|field| FileError::Unknown { path: owned(), field })?;
        let fields = serde_path_to_error::deserialize(&value).map_err(|error| FileError::Type {
            path: owned(),
            field: error.path().to_string(),
            source: error.into_inner(),
        })?;
        Ok(Self { path: owned(), fields, notes })
    }

    /// The section of the mode that the file asks for, as kube-proxy reads it, and its name.
    pub(super) fn section(&self) -> (&'static str, &Section) {
        match self.fields.mode.as_deref() {
            Some("ipvs") => ("ipvs", &self.fields.ipvs),
            Some("nftables") => ("nftables", &self.fields.nftables),
            _ => ("iptables", &self.fields.iptables),
        }
    }

    /// The flag's value, else the field's.
    pub(super) fn or<T>(
        &self,
        flag: &str,
        given: Option<T>,
        field: &str,
        value: Option<T>,
    ) -> Option<Given<T>> {
        let place = || format!("--config {}: {field}", self.path.display());
        given
            .map(|value| Given::flag(flag, value))
            .or_else(|| value.map(|value| Given { value, place: place() }))
    }
}

/// Looks up each field in the table. Notes those that say something and are not followed; gives the first that is not
/// in the table.
fn look(value: &Value, above: &str, notes: &mut Vec<String>) -> Result<(), String> {
    let Value::Object(fields) = value else { return Ok(()) };
    for (name, value) in fields {
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        if path == "apiVersion" || path == "kind" {
            continue;
        }
        match FIELDS.iter().find(|(known, _)| *known == path) {
            Some((_, Flag(_))) => {}
            Some((_, Ignored(why))) if says_something(value) => {
                notes.push(format!("{path} of the configuration is not followed: {why}"));
            }
            Some((_, Ignored(_))) => {}
            None if FIELDS
                .iter()
                .any(|(known, _)| known.strip_prefix(&*path).is_some_and(|rest| rest.starts_with('.'))) =>
            {
                look(value, &path, notes)?;
            }
            None => return Err(path),
        }
    }
    Ok(())
}

/// Whether a value differs from what kube-proxy takes for "not said": tools write every field down.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_f64() != Some(0.0),
        Value::String(text) => !matches!(text.as_str(), "" | "0" | "0s"),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => fields.values().any(says_something),
    }
}
