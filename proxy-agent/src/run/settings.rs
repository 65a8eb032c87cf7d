//! The configuration as the model and the kernel room want it.

use std::path::PathBuf;

use ipnet::IpNet;
use proxy_model::fact::Prefix;
use proxy_model::settings::{Masquerade, NodePortAddresses, Serving, Settings};

use crate::config::{self, Config};
use crate::kernel::{self, Families, Sizes, SocketRoad, Topology, Uplinks, record};

/// Families to serve: what was asked for, or what the node has addresses of.
pub(super) fn families(asked: config::Families, topology: &Topology) -> Families {
    match asked {
        config::Families::Ipv4 => Families::Ipv4,
        config::Families::Ipv6 => Families::Ipv6,
        config::Families::Dual => Families::Dual,
        config::Families::Auto => topology.families().unwrap_or_else(|| {
            tracing::warn!("the node has no address yet; serving both families");
            Families::Dual
        }),
    }
}

pub(super) fn model(config: &Config, families: Families) -> Settings {
    let serving = |served| if served { Serving::On } else { Serving::Off };
    Settings {
        node_name: config.node_name.as_str().into(),
        cluster_cidrs: prefixes(&config.cluster_cidrs),
        service_cidrs: prefixes(&config.service_cidrs),
        primary_address: config.bind_address,
        masquerade: match config.masquerade {
            config::Masquerade::WhereNeeded => Masquerade::Needed,
            config::Masquerade::All => Masquerade::All,
        },
        node_port_addresses: match &config.nodeport_addresses {
            config::NodePortAddresses::Primary => NodePortAddresses::Primary,
            config::NodePortAddresses::Ranges(ranges) => NodePortAddresses::Within(prefixes(ranges)),
        },
        ipv4: serving(families.ipv4()),
        ipv6: serving(families.ipv6()),
        service_proxy_name: config.service_proxy_name.as_deref().map(Into::into),
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
        },
        uplinks: match &config.uplinks {
            config::Uplinks::Auto => Uplinks::Auto,
            config::Uplinks::Named(names) => Uplinks::Named(names.clone()),
        },
    }
}

fn prefixes(ranges: &[IpNet]) -> Vec<Prefix> {
    ranges.iter().map(|range| Prefix { addr: range.network(), len: range.prefix_len() }).collect()
}
