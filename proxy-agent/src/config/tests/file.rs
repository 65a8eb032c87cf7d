//! The file of kube-proxy: what it says is followed, noted, or refused by name; flags win over it.

use std::io::Write as _;
use std::path::Path;

use super::super::file::FIELDS;
use super::*;

/// What kubeadm writes down: every field, most of them saying nothing.
const KUBEADM: &str = r#"
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection: {acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0}
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null, udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
featureGates: {}
healthzBindAddress: ""
hostnameOverride: ""
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}, verbosity: 0}
metricsBindAddress: ""
mode: ""
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
windowsRunAsService: false
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: "", rootHnsEndpointName: "", sourceVip: ""}
"#;

/// The configuration from a file that says this, and from flags.
fn with(text: &str, flags: &[&str]) -> Result<Config, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let base = ["proxy-agent", "run", "--cgroup-root=/c", "--config", &path];
    let cli = Cli::try_parse_from(base.iter().chain(flags)).map_err(|error| error.to_string())?;
    let Command::Run(args) = cli.command else { return Err("another command".into()) };
    let config = Config::from_args(*args).map_err(|error| crate::observe::causes(&error));
    config.map_err(|error| error.replace(&path, "FILE"))
}

fn saying(lines: &str) -> String {
    format!("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{lines}\n")
}

#[test]
fn item_142_what_kubeadm_writes_is_followed_without_a_word() {
    let config = with(KUBEADM, &["--node-name=n1"]).unwrap();
    assert_eq!(config.notes, [""; 0]);
    assert_eq!(config.source, SourceConfig::Kubeconfig("/var/lib/kube-proxy/kubeconfig.conf".into()));
    assert_eq!(config.cluster_cidrs, ["10.244.0.0/16".parse().unwrap()]);
    let defaults = super::config(&[]).unwrap();
    let same = Config { source: defaults.source.clone(), cluster_cidrs: vec![], file: None, ..config };
    assert_eq!(same, defaults);
}

#[test]
fn items_142_and_143_every_field_that_means_something_here_is_followed() {
    let text = saying(
        "bindAddress: 192.0.2.7\nclientConnection: {kubeconfig: /k}\nclusterCIDR: '10.244.0.0/16,fd00:10::/56'\n\
         detectLocalMode: ClusterCIDR\nhealthzBindAddress: 127.0.0.1\nhostnameOverride: Worker\n\
         metricsBindAddress: '[::]:9249'\nmode: nftables\nnftables: {masqueradeAll: true, syncPeriod: 1m, minSyncPeriod: 1s}\n\
         iptables: {syncPeriod: 7s}\nnodePortAddresses: [192.0.2.0/24]\noomScoreAdj: -999",
    );
    let config = with(&text, &[]).unwrap();
    let found = (
        config.bind_address,
        config.source,
        config.cluster_cidrs,
        config.healthz,
        config.metrics,
        config.node_name,
        config.masquerade,
        config.sync_period,
        config.min_sync_period,
        config.nodeport_addresses,
        config.oom_score_adj,
    );
    let expected = (
        "192.0.2.7".parse().ok(),
        SourceConfig::Kubeconfig("/k".into()),
        vec!["10.244.0.0/16".parse().unwrap(), "fd00:10::/56".parse().unwrap()],
        "127.0.0.1:10256".parse().ok(),
        "[::]:9249".parse().ok(),
        "worker".to_owned(),
        Masquerade::All,
        Duration::from_secs(60),
        Duration::from_secs(1),
        NodePortAddresses::Ranges(vec!["192.0.2.0/24".parse().unwrap()]),
        Some(-999),
    );
    assert_eq!(found, expected);
}

#[test]
fn flags_win_over_the_file() {
    let text = saying(
        "clientConnection: {kubeconfig: /k}\nhostnameOverride: n1\nmetricsBindAddress: 0.0.0.0:1\nnodePortAddresses: [192.0.2.0/24]\n\
         iptables: {masqueradeAll: true, syncPeriod: 1m}",
    );
    let flags = [
        "--manifests=/m",
        "--node-name=n2",
        "--metrics-bind-address=",
        "--nodeport-addresses=primary",
        "--masquerade-all=false",
        "--sync-period=10s",
    ];
    let config = with(&text, &flags).unwrap();
    let found = (
        config.source,
        config.node_name,
        config.metrics,
        config.nodeport_addresses,
        config.masquerade,
        config.sync_period,
    );
    let expected = (
        SourceConfig::Manifests("/m".into()),
        "n2".to_owned(),
        None,
        NodePortAddresses::Primary,
        Masquerade::WhereNeeded,
        Duration::from_secs(10),
    );
    assert_eq!(found, expected);
}

#[test]
fn what_is_not_followed_is_said_once_with_the_reason() {
    let text = saying(
        "clientConnection: {kubeconfig: /k, qps: 50}\nconntrack: {maxPerCore: 32768}\nmode: ipvs\n\
         ipvs: {scheduler: rr}\nfeatureGates: {SomeGate: true}\nlogging: {format: json}",
    );
    assert_eq!(
        with(&text, &["--node-name=n1"]).unwrap().notes,
        [
            "clientConnection.qps of the configuration is not followed: the client of the API server lists once and watches",
            "conntrack.maxPerCore of the configuration is not followed: connections are kept in maps of Sluice's own: \
             --flow-table-size is their size",
            "featureGates of the configuration is not followed: Sluice has no feature gates",
            "ipvs.scheduler of the configuration is not followed: choose per Service, with the annotation sluice.dev/algorithm",
            "logging of the configuration is not followed: logging is set by --log-level and --log-format",
            "mode of the configuration is not followed: there is one mode; it behaves like nftables where kube-proxy's modes \
             differ",
        ]
    );
}

#[test]
fn what_makes_no_sense_is_refused_by_file_and_field() {
    for (text, expected) in [
        (
            saying("clusterCidr: 10.0.0.0/8"),
            "--config FILE: clusterCidr is not a field of a KubeProxyConfiguration",
        ),
        (
            saying("conntrack: {maxPerCpu: 1}"),
            "--config FILE: conntrack.maxPerCpu is not a field of a KubeProxyConfiguration",
        ),
        (
            saying("nodePortAddresses: primary"),
            "--config FILE: nodePortAddresses: invalid type: string \"primary\", expected a sequence",
        ),
        (
            saying("clusterCIDR: 10.0.0.0"),
            "--config FILE: clusterCIDR: \"10.0.0.0\" is not an address range such as 10.244.0.0/16 or fd00:10::/56",
        ),
        (
            saying("mode: nftables\nnftables: {syncPeriod: soon}"),
            "--config FILE: nftables.syncPeriod: \"soon\" is not a duration such as 0ms, 250ms or 1s",
        ),
        (saying("bindAddress: here"), "--config FILE: bindAddress: \"here\" is not an IP address"),
        (
            "kind: Pod".to_owned(),
            "--config FILE: apiVersion is \"\", and not \"kubeproxy.config.k8s.io/v1alpha1\"",
        ),
        (
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: Pod".to_owned(),
            "--config FILE: kind is \"Pod\", and not \"KubeProxyConfiguration\"",
        ),
    ] {
        assert_eq!(with(&text, &["--manifests=/m", "--node-name=n1"]).unwrap_err(), expected);
    }
    let error = with("a: [", &["--manifests=/m"]).unwrap_err();
    assert!(error.starts_with("--config FILE: makes no sense: "), "{error}");
    let missing = super::config(&["--config=/nonexistent"]).unwrap_err();
    assert!(missing.starts_with("--config /nonexistent: cannot be read"), "{missing}");
}

#[test]
fn the_table_of_fields_is_sorted_and_complete() {
    assert!(FIELDS.is_sorted_by_key(|(path, _)| *path));
    let value: serde_json::Value = serde_norway::from_str(KUBEADM).unwrap();
    let mut paths = Vec::new();
    leaves(&value, "", &mut paths);
    paths.sort();
    assert_eq!(paths, FIELDS.iter().map(|(path, _)| (*path).to_owned()).collect::<Vec<_>>());
}

/// The paths of a value, as deep as the table of fields goes.
fn leaves(value: &serde_json::Value, above: &str, paths: &mut Vec<String>) {
    for (name, value) in value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind"))
    {
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        let is_whole = FIELDS.iter().any(|(known, _)| *known == path);
        if is_whole || !value.is_object() { paths.push(path) } else { leaves(value, &path, paths) }
    }
}

#[tokio::test]
async fn item_143_a_file_that_changes_is_noticed_and_one_that_breaks_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.conf");
    let put = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
    put(&path, &saying("mode: nftables"));
    let watched = Watched::read(&path).unwrap();
    let look = Duration::from_millis(5);
    let within = |looks| tokio::time::timeout(look * looks, watched.clone().changed(look));
    assert!(within(10).await.is_err(), "it says what it said");
    put(&path, &saying("mod: nftables"));
    assert!(within(10).await.is_err(), "it makes no sense");
    std::fs::remove_file(&path).unwrap();
    assert!(within(10).await.is_err(), "it is away");
    put(&path, &saying("mode: iptables"));
    assert!(within(4_000).await.is_ok());
}
