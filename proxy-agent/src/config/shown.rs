//! The configuration in force, as `/configz` shows it: upstream's object with what of it means something here, and
//! Sluice's own settings beside it.

use proxy_model::TableSize;
use proxy_model::settings::{LocalSource, Serving};
use serde_json::{Value, json};

use super::{Config, Families, Masquerade, NodePortAddresses, SocketLb, SourceConfig, TableSizes, Uplinks};
use crate::cli::{PolicyChangeArg, Switch};

impl Config {
    /// One JSON object; the first key is the one that kube-proxy has.
    #[must_use]
    pub fn shown(&self) -> Value {
        let text = |values: &[ipnet::IpNet]| values.iter().map(ToString::to_string).collect::<Vec<_>>();
        let address = |at: &Option<std::net::SocketAddr>| at.map(|at| at.to_string()).unwrap_or_default();
        let period = |of| humantime::format_duration(of).to_string();
        let (manifests, kubeconfig) = match &self.source {
            SourceConfig::Manifests(dir) => (dir.display().to_string(), String::new()),
            SourceConfig::Kubeconfig(file) => (String::new(), file.display().to_string()),
            SourceConfig::InCluster => (String::new(), String::new()),
        };
        let node_ports = match &self.nodeport_addresses {
            NodePortAddresses::Primary => vec!["primary".to_owned()],
            NodePortAddresses::Ranges(ranges) => text(ranges),
        };
        let uplinks = match &self.uplinks {
            Uplinks::Auto => vec!["auto".to_owned()],
            Uplinks::Named(names) => names.clone(),
        };
        json!({
            "kubeproxy.config.k8s.io": {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "bindAddress": self.bind_address.map(|ip| ip.to_string()).unwrap_or_default(),
                "clientConnection": {"kubeconfig": kubeconfig},
                "clusterCIDR": text(&self.cluster_cidrs).join(","),
                "healthzBindAddress": address(&self.healthz),
                "hostnameOverride": self.node_name,
                "metricsBindAddress": address(&self.metrics),
                "mode": "ebpf",
                "nodePortAddresses": node_ports,
                "oomScoreAdj": self.oom_score_adj,
                "masqueradeAll": self.masquerade == Masquerade::All,
                "syncPeriod": period(self.sync_period),
                "minSyncPeriod": period(self.min_sync_period),
            },
            "sluice": {
                "algorithm": self.algorithm.to_string(),
                "apiServers": self.api_servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "bpfRoot": self.roots.bpf.display().to_string(),
                "cgroupRoot": self.roots.cgroup.display().to_string(),
                "config": self.file.as_ref().map(|file| file.path().display().to_string()),
                "dsr": format!("{:?}", self.dsr).to_lowercase(),
                "ignoreExternalIPs": self.external_ips == Serving::Off,
                "ipFamily": family(self.families),
                "maglevTableSize": table_size(self.table_size),
                "manifests": manifests,
                "networkPolicy": self.policy.network_policy == Switch::On,
                "policyOnChange": change(self.policy.policy_on_change),
                "preserveLocalSource": self.local_source == LocalSource::Preserved,
                "serviceMetrics": self.service_metrics == Switch::On,
                "serviceCIDR": text(&self.service_cidrs),
                "serviceProxyName": self.service_proxy_name,
                "socketLb": road(self.socket_lb),
                "tableSizes": tables(self.tables),
                "uplinks": uplinks,
                "xdp": format!("{:?}", self.xdp).to_lowercase(),
            },
        })
    }
}

fn table_size(size: TableSize) -> Value {
    match size {
        TableSize::Fitting => json!("auto"),
        TableSize::Fixed(slots) => json!(slots),
    }
}

fn tables(tables: TableSizes) -> Value {
    let TableSizes { flows, frontends, backends, verdicts, peers } = tables;
    json!({"backends": backends, "flows": flows, "frontends": frontends, "policyPeers": peers,
        "policyVerdicts": verdicts})
}

fn change(change: PolicyChangeArg) -> &'static str {
    match change {
        PolicyChangeArg::All => "all",
        PolicyChangeArg::NewFlows => "new-flows",
    }
}

fn family(families: Families) -> &'static str {
    match families {
        Families::Auto => "auto",
        Families::Ipv4 => "ipv4",
        Families::Ipv6 => "ipv6",
        Families::Dual => "dual",
    }
}

fn road(road: SocketLb) -> &'static str {
    match road {
        SocketLb::Auto => "auto",
        SocketLb::On => "on",
        SocketLb::Off => "off",
        SocketLb::Host => "host",
    }
}
