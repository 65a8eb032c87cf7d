//! The configuration as the model and the kernel room want it.

use std::path::PathBuf;

use ipnet::IpNet;
use proxy_common::limits;
use proxy_model::fact::Prefix;
use proxy_model::policy::PolicyCapacity;
use proxy_model::settings::{DetectLocal, Masquerade, NodePortAddresses, Serving, Settings};

use crate::cli::{DsrArg, Switch, XdpArg};
use crate::config::{self, Config};
use crate::kernel::{
    self, DriverRoad, Families, Kernel, PodDevices, Sizes, SocketRoad, Tallies, Tunnels, Uplinks, record,
};
use crate::observe::report::About;

pub(super) fn model(config: &Config, families: Families) -> Settings {
    let serving = |served| if served { Serving::On } else { Serving::Off };
    Settings {
        node_name: config.node_name.as_str().into(),
        detector: match config.detect_local {
            config::DetectLocal::ClusterCidr => DetectLocal::ClusterCidr,
            config::DetectLocal::NodeCidr => DetectLocal::NodeCidr,
            config::DetectLocal::Bridge(_) | config::DetectLocal::Prefix(_) => DetectLocal::Devices,
        },
        cluster_cidrs: prefixes(&config.cluster_cidrs),
        service_cidrs: prefixes(&config.service_cidrs),
        primary_address: config.bind_address,
        masquerade: match config.masquerade {
            config::Masquerade::WhereNeeded => Masquerade::Needed,
            config::Masquerade::All => Masquerade::All,
        },
        local_source: config.local_source,
        direct_return: serving(config.dsr == DsrArg::Ipip),
        algorithm: config.algorithm,
        table_size: config.table_size,
        node_port_addresses: match &config.nodeport_addresses {
            config::NodePortAddresses::Primary => NodePortAddresses::Primary,
            config::NodePortAddresses::Ranges(ranges) => NodePortAddresses::Within(prefixes(ranges)),
        },
        // Only sockets are served there.
        localhost_node_ports: serving(
            config.localhost_nodeports == config::LocalhostNodePorts::Served
                && config.socket_lb != config::SocketLb::Off,
        ),
        external_ips: config.external_ips,
        ipv4: serving(families.ipv4()),
        ipv6: serving(families.ipv6()),
        service_proxy_name: config.service_proxy_name.as_deref().map(Into::into),
    }
}

/// How much room policies have.
pub(super) fn policy(config: &Config) -> PolicyCapacity {
    PolicyCapacity {
        verdicts: config.tables.verdicts,
        peers: config.tables.peers,
        ..PolicyCapacity::default()
    }
}

/// What the agent says of itself for as long as it runs.
pub(super) fn about(config: &Config, kernel: &Kernel) -> About {
    let text = |ranges: &[IpNet]| match ranges {
        [] => "none".to_owned(),
        ranges => ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join("+"),
    };
    let node_ports = match &config.nodeport_addresses {
        config::NodePortAddresses::Primary => "primary".to_owned(),
        config::NodePortAddresses::Ranges(ranges) => text(ranges),
    };
    let masquerade = match config.masquerade {
        config::Masquerade::WhereNeeded => "where needed",
        config::Masquerade::All => "all",
    };
    let mut modes = vec![
        ("cluster-cidr", text(&config.cluster_cidrs)),
        ("masquerade", masquerade.to_owned()),
        ("nodeport-addresses", node_ports),
        ("socket-lb", format!("{:?}", kernel.socket_road()).to_lowercase()),
    ];
    if config.external_ips == Serving::Off {
        modes.push(("external-ips", "ignored".to_owned()));
    }
    About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: config.node_name.clone(),
        source: match &config.source {
            config::SourceConfig::Manifests(dir) => format!("manifests in {}", dir.display()),
            config::SourceConfig::Kubeconfig(file) => format!("the API server of {}", file.display()),
            config::SourceConfig::InCluster => "the API server of the pod's cluster".to_owned(),
        },
        modes: modes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

pub(super) fn kernel(config: &Config, families: Families) -> kernel::Settings {
    kernel::Settings {
        bpf_root: config.roots.bpf.clone(),
        cgroup_root: config.roots.cgroup.clone(),
        run_root: PathBuf::from(record::RUN_ROOT),
        socket_road: match config.socket_lb {
            config::SocketLb::Auto => SocketRoad::Auto,
            config::SocketLb::On => SocketRoad::On,
            config::SocketLb::Off => SocketRoad::Off,
            config::SocketLb::Host => SocketRoad::Host,
        },
        families,
        sizes: Sizes {
            frontends: config.tables.frontends,
            backends: config.tables.backends,
            flows: config.tables.flows,
            verdicts: config.tables.verdicts,
            peers: config.tables.peers,
            tunnels: if config.dsr == DsrArg::Ipip { limits::TUNNELS } else { 1 },
        },
        tunnels: match config.dsr {
            DsrArg::Off => Tunnels::Off,
            DsrArg::Ipip => Tunnels::Ipip,
        },
        tallies: match config.service_metrics {
            Switch::On => Tallies::Kept,
            Switch::Off => Tallies::Off,
        },
        uplinks: match &config.uplinks {
            config::Uplinks::Auto => Uplinks::Auto,
            config::Uplinks::Named(names) => Uplinks::Named(names.clone()),
        },
        pods: match &config.detect_local {
            config::DetectLocal::ClusterCidr | config::DetectLocal::NodeCidr => PodDevices::Unnamed,
            config::DetectLocal::Bridge(bridge) => PodDevices::Bridge(bridge.clone()),
            config::DetectLocal::Prefix(prefix) => PodDevices::Prefix(prefix.clone()),
        },
        driver: match config.xdp {
            XdpArg::Auto => DriverRoad::Auto,
            XdpArg::Off => DriverRoad::Off,
            XdpArg::Native => DriverRoad::Native,
            XdpArg::Generic => DriverRoad::Generic,
        },
    }
}

fn prefixes(ranges: &[IpNet]) -> Vec<Prefix> {
    ranges.iter().map(|range| Prefix { addr: range.network(), len: range.prefix_len() }).collect()
}
