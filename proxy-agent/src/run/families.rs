//! Which address families are served. Maps and programs are made for them at the start, so that another one takes another start.

use tokio::sync::watch;

use crate::config;
use crate::kernel::{Families, Topology};

/// Families to serve: what was asked for, or what the node has addresses of. What an earlier run left frontends of is served
/// on: an address may be away just now.
pub(super) fn chosen(asked: config::Families, topology: &Topology, left: Option<Families>) -> Families {
    match asked {
        config::Families::Ipv4 => Families::Ipv4,
        config::Families::Ipv6 => Families::Ipv6,
        config::Families::Dual => Families::Dual,
        config::Families::Auto => {
            let here = topology.families().unwrap_or_else(|| {
                tracing::warn!("the node has no address yet; serving both families");
                Families::Dual
            });
            left.map_or(here, |left| here.and(left))
        }
    }
}

/// Waits until the node has an address of a family that is not served, and should be. The addresses in its Node object do not
/// count: another start would decide by those of its devices again.
pub(super) async fn outgrown(
    asked: config::Families,
    served: Families,
    mut topology: watch::Receiver<Topology>,
) {
    let is_outgrown = |topology: &Topology| match asked {
        config::Families::Auto => topology.families().is_some_and(|here| served.and(here) != served),
        config::Families::Ipv4 | config::Families::Ipv6 | config::Families::Dual => false,
    };
    if topology.wait_for(is_outgrown).await.is_err() {
        // Nobody follows the devices any more: the agent is stopping.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::config::Families as Asked;
    use crate::kernel::topology::{Assigned, IfIndex, Standing};

    fn with(addresses: &[&str]) -> Topology {
        let assigned = Assigned { prefix: 24, order: 0, standing: Standing::Primary };
        let address = |text: &&str| ((text.parse::<IpAddr>().unwrap(), IfIndex(2)), assigned);
        Topology { addresses: addresses.iter().map(address).collect(), ..Topology::default() }
    }

    #[test]
    fn under_auto_the_nodes_addresses_choose_and_what_is_served_already_stays() {
        let (none, four, six) = (with(&[]), with(&["192.0.2.1", "fe80::1"]), with(&["2001:db8::1"]));
        for (asked, topology, left, expected) in [
            (Asked::Auto, &none, None, Families::Dual),
            (Asked::Auto, &four, None, Families::Ipv4),
            (Asked::Auto, &six, None, Families::Ipv6),
            (Asked::Auto, &four, Some(Families::Ipv4), Families::Ipv4),
            (Asked::Auto, &four, Some(Families::Ipv6), Families::Dual),
            (Asked::Auto, &six, Some(Families::Dual), Families::Dual),
            (Asked::Ipv6, &four, Some(Families::Ipv4), Families::Ipv6),
            (Asked::Dual, &four, None, Families::Dual),
        ] {
            assert_eq!(chosen(asked, topology, left), expected, "{asked:?}, {topology:?}, {left:?}");
        }
    }

    #[test]
    fn another_family_is_noticed_when_its_first_address_comes_if_it_was_not_asked_for() {
        for (asked, served, expected) in [
            (Asked::Auto, Families::Ipv4, true),
            (Asked::Auto, Families::Dual, false),
            (Asked::Ipv4, Families::Ipv4, false),
        ] {
            let (publish, topology) = watch::channel(with(&["192.0.2.1"]));
            let mut outgrown = Box::pin(outgrown(asked, served, topology));
            for same in [with(&["192.0.2.1", "fe80::1"]), with(&[])] {
                publish.send_replace(same);
                assert_eq!((&mut outgrown).now_or_never(), None, "{asked:?}");
            }
            publish.send_replace(with(&["192.0.2.1", "2001:db8::1"]));
            assert_eq!((&mut outgrown).now_or_never().is_some(), expected, "{asked:?}, {served:?}");
        }
    }
}
