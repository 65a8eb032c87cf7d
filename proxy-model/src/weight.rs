//! How much each endpoint of a Service should get in proportion to the others: rules by address, node, zone, and for
//! all others. Knows nothing of how they are written down.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proxy_common::Weight;

use crate::fact::Name;

/// The rules of one Service; the first kind that names an endpoint decides, in the order of the fields. Nothing said
/// is the weight of one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Weights {
    /// By endpoint address.
    pub addresses: BTreeMap<IpAddr, Weight>,
    /// By the name of the endpoint's node.
    pub nodes: BTreeMap<Name, Weight>,
    /// By the endpoint's zone.
    pub zones: BTreeMap<Name, Weight>,
    /// Everybody else.
    pub others: Option<Weight>,
}

impl Weights {
    /// The weight of an endpoint.
    pub fn of(&self, addr: IpAddr, node: Option<&Name>, zone: Option<&Name>) -> Weight {
        let by_node = || node.and_then(|node| self.nodes.get(node));
        let by_zone = || zone.and_then(|zone| self.zones.get(zone));
        let said = self.addresses.get(&addr).or_else(by_node).or_else(by_zone).or(self.others.as_ref());
        said.copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_rule_decides() {
        let weights = Weights {
            addresses: [(IpAddr::from([10, 0, 0, 1]), Weight(5))].into(),
            nodes: [("n1".into(), Weight(4))].into(),
            zones: [("za".into(), Weight(3))].into(),
            others: Some(Weight(2)),
        };
        let of = |weights: &Weights, last, node: &str, zone: &str| {
            weights.of(IpAddr::from([10, 0, 0, last]), Some(&node.into()), Some(&zone.into())).0
        };
        assert_eq!(of(&weights, 1, "n1", "za"), 5);
        assert_eq!(of(&weights, 2, "n1", "za"), 4);
        assert_eq!(of(&weights, 2, "n2", "za"), 3);
        assert_eq!(of(&weights, 2, "n2", "zb"), 2);
        assert_eq!(of(&Weights::default(), 2, "n2", "zb"), 1);
        assert_eq!(weights.of(IpAddr::from([10, 0, 0, 2]), None, None), Weight(2));
    }
}
