//! Rolling updates of a Deployment while clients of every kind open new connections as fast as they can: pods and a node to the
//! cluster address, a host outside to a node port. None may be refused, reset or left waiting. Everything between kubectl and the
//! sockets is real but for the kubelet. Needs root.
//!
//! `SLUICE_ROLLING_ROUNDS` sets the number of updates; `cargo xtask rolling` does it for many.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod clients;
mod news;
mod update;

use std::time::Instant;

use clients::Clients;
use news::News;
use sluice_lab::Topology;
use tests::cluster::kube_proxy::Mode;
use tests::cluster::{Cluster, Implementation, Road};
use update::Update;

const TOPOLOGY: &str = "
nodes:
- {name: node-1, addresses: [172.18.0.11, 'fd00:18::11'], podCIDRs: [10.244.1.0/24, 'fd00:10:244:1::/64']}
- {name: node-2, addresses: [172.18.0.12, 'fd00:18::12'], podCIDRs: [10.244.2.0/24, 'fd00:10:244:2::/64']}
outside:
- {name: outsider, ips: [172.18.0.200, 'fd00:18::200']}
";

/// What is enough where every change of the sources is tested.
const FEW: u32 = 2;

fn roll(implementation: Implementation) {
    let begin = Instant::now();
    let chapter = |name: &str| println!("{:6.2}s {name}", begin.elapsed().as_secs_f64());
    let rounds = std::env::var("SLUICE_ROLLING_ROUNDS").map_or(FEW, |rounds| rounds.parse().unwrap());
    let cluster = Cluster::up(&Topology::parse(TOPOLOGY).unwrap(), implementation).unwrap();
    let update = Update::prepare(&cluster);
    chapter("all backends are ready");
    let news = News::follow(&cluster);
    let clients = Clients::start(&cluster, &update.frontends());
    for round in 1..=rounds {
        update.restart();
        chapter(&format!("round {round} of {rounds}: {}", clients.count()));
        if !clients.are_unharmed() {
            break;
        }
    }
    // The last of the old ones end after the rollout; connections to them would fail then.
    update.await_end_of_the_old();
    let reports = clients.stop();
    chapter(&format!("the old ones are gone; {}", news.delays(&cluster, &reports)));
    clients::assert_unharmed(&reports);
    cluster.down().unwrap();
}

/// Pods take the packet road, the node's processes the socket road, the host outside the packet road through a node port.
#[test]
fn a_rolling_update_costs_no_connection_with_pods_on_the_packet_road() {
    roll(Implementation::Sluice(Road::Packet));
}

/// The long form only: the hooks are those that serve the node's processes in the other test.
#[test]
fn a_rolling_update_costs_no_connection_with_pods_on_the_socket_road() {
    if std::env::var_os("SLUICE_ROLLING_ROUNDS").is_some() {
        roll(Implementation::Sluice(Road::Socket));
    }
}

/// The long form only: what fails here is wrong in the rig, not in the product.
#[test]
fn a_rolling_update_costs_no_connection_with_kube_proxy() {
    if std::env::var_os("SLUICE_ROLLING_ROUNDS").is_some() {
        roll(Implementation::KubeProxy(Mode::Nftables));
    }
}
