//! Who else translates on this node: rules that a kube-proxy has left. They see nothing of what Sluice translates, but of what
//! it leaves alone.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use super::finding::Finding;
use crate::kernel::netfilter::{self, Chain};

const AREA: &str = "rivals";
/// Where kube-proxy's chains for Services begin, in its iptables and IPVS modes.
const CHAIN: &str = "KUBE-SERVICES";
/// Its table in nftables mode.
const TABLE: &str = "kube-proxy";
const NEXT: &str = "see that no kube-proxy runs here (its DaemonSet), then run `kube-proxy --cleanup` on the node, or boot it";

/// What is left of others.
pub(super) fn findings() -> Vec<Finding> {
    let older = netfilter::older_chains("nat", &[CHAIN]).map(|names| !names.is_empty());
    vec![
        of_chains(netfilter::chains(), older),
        of_ipvs(&fs::read_to_string("/proc/net/ip_vs").unwrap_or_default()),
    ]
}

fn of_chains(chains: io::Result<BTreeSet<Chain>>, older: io::Result<bool>) -> Finding {
    let (chains, older) = match (chains, older) {
        (Ok(chains), Ok(older)) => (chains, older),
        (Err(error), _) | (_, Err(error)) => {
            let next = "run as root, in the network namespace of the node";
            return Finding::warn(AREA, format!("the node's firewall cannot be read: {error}"), next);
        }
    };
    let mut modes = BTreeSet::new();
    if chains.iter().any(|chain| chain.table == TABLE) {
        modes.insert("nftables");
    }
    if chains.iter().any(|chain| chain.name == CHAIN) || older {
        modes.insert("iptables");
    }
    if modes.is_empty() {
        return Finding::ok(AREA, "no rules of a kube-proxy in the firewall");
    }
    let modes: Vec<_> = modes.into_iter().collect();
    Finding::warn(AREA, format!("kube-proxy's rules are in the firewall ({})", modes.join(", ")), NEXT)
}

/// The table has a line of headings and, from the fourth on, a line per virtual server.
fn of_ipvs(table: &str) -> Finding {
    let servers = table.lines().filter(|line| line.starts_with("TCP ") || line.starts_with("UDP ")).count();
    if servers == 0 {
        return Finding::ok(AREA, "no virtual servers of IPVS");
    }
    Finding::warn(AREA, format!("IPVS has {servers} virtual servers, as kube-proxy makes them"), NEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(table: &str, name: &str) -> Chain {
        Chain { table: table.into(), name: name.into() }
    }

    #[test]
    fn rules_of_each_mode_of_kube_proxy_are_found_and_others_are_not() {
        let found =
            |chains: &[Chain], older| of_chains(Ok(chains.iter().cloned().collect()), Ok(older)).found;
        assert_eq!(found(&[chain("nat", "DOCKER")], false), "no rules of a kube-proxy in the firewall");
        let of = |modes: &str| format!("kube-proxy's rules are in the firewall ({modes})");
        assert_eq!(found(&[chain("nat", "KUBE-SERVICES")], false), of("iptables"));
        assert_eq!(found(&[chain("kube-proxy", "services")], false), of("nftables"));
        assert_eq!(found(&[chain("kube-proxy", "services")], true), of("iptables, nftables"));
        let denied = of_chains(Err(io::Error::from_raw_os_error(libc::EPERM)), Ok(false));
        assert!(denied.found.starts_with("the node's firewall cannot be read"), "{}", denied.found);
    }

    #[test]
    fn virtual_servers_are_counted() {
        assert_eq!(of_ipvs("").found, "no virtual servers of IPVS");
        let table = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  \
                     -> RemoteAddress:Port Forward Weight ActiveConn InActConn\nTCP  0A600001:01BB rr \n  \
                     -> AC120002:192B      Masq    1      0          0\nUDP  0A60000A:0035 rr \n";
        assert_eq!(of_ipvs(table).found, "IPVS has 2 virtual servers, as kube-proxy makes them");
    }
}
