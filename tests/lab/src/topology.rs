//! What a lab is made of, as its YAML file says it: nodes, pods and outside clients on one segment. Checked here, once;
//! knows nothing of namespaces or commands.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

/// How pods are joined to their node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// One veth per pod with host routes, as kindnet and the ptp plugin do it.
    #[default]
    Ptp,
    /// A bridge `cni0` that holds the gateway address, as the bridge plugin and flannel do it.
    Bridge,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Name, also of the Node object.
    pub name: String,
    /// Zone; only passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Addresses on the segment; the first of a family is the node's primary one.
    pub addresses: Vec<IpAddr>,
    /// Ranges of its pods, at most one per family.
    #[serde(default, rename = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
    /// Differs from the topology's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
}

impl NodeSpec {
    /// The first address of a family.
    #[must_use]
    pub fn primary(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| Family::of(*address) == family)
    }

    /// The first address of a pod range: the node's own, its pods' gateway.
    #[must_use]
    pub fn gateway(&self, family: Family) -> Option<IpAddr> {
        let cidr = self.pod_cidrs.iter().find(|cidr| Family::of(cidr.addr()) == family)?;
        match cidr.network() {
            IpAddr::V4(first) => Some(IpAddr::from((u32::from(first) + 1).to_be_bytes())),
            IpAddr::V6(first) => Some(IpAddr::from((u128::from(first) + 1).to_be_bytes())),
        }
    }

    /// Every address by which a server may see this node.
    #[must_use]
    pub fn own_addresses(&self) -> BTreeSet<IpAddr> {
        let gateways = [Family::Ipv4, Family::Ipv6].into_iter().filter_map(|family| self.gateway(family));
        self.addresses.iter().copied().chain(gateways).collect()
    }
}

/// A pod with a network of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodSpec {
    /// Name, unique in the lab.
    pub name: String,
    /// Its node.
    pub node: String,
    /// At most one address per family, inside a range of the node.
    pub ips: Vec<IpAddr>,
}

/// A host on the segment that is no node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutsideSpec {
    /// Name, unique among nodes and outside clients.
    pub name: String,
    /// Addresses on the segment.
    pub ips: Vec<IpAddr>,
    /// The node that is its default gateway, so that Service addresses reach the cluster there. Without it they go nowhere,
    /// unless a probe names the node by its mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

/// A lab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// How pods are joined to their node.
    #[serde(default)]
    pub link: Link,
    /// Families in use; addresses of others are left out. Absent: all that have addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<Family>,
    /// Nodes; the position of a node, from 1, is its mark.
    pub nodes: Vec<NodeSpec>,
    /// Pods that exist from the start.
    #[serde(default)]
    pub pods: Vec<PodSpec>,
    /// Outside clients.
    #[serde(default)]
    pub outside: Vec<OutsideSpec>,
}

impl Topology {
    /// Reads a YAML file.
    ///
    /// # Errors
    /// The file cannot be read, is not a topology, or contradicts itself; says which entry.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Reads YAML text.
    ///
    /// # Errors
    /// As [`Topology::read`].
    pub fn parse(text: &str) -> Result<Self> {
        let topology: Self = serde_norway::from_str(text).context("not a lab topology")?;
        topology.checked()
    }

    /// Leaves out the families that are not wanted and checks the rest.
    ///
    /// # Errors
    /// Names the entry that is wrong.
    pub fn checked(mut self) -> Result<Self> {
        if !self.families.is_empty() {
            let wanted = |family: Family| self.families.contains(&family);
            for node in &mut self.nodes {
                node.addresses.retain(|address| wanted(Family::of(*address)));
                node.pod_cidrs.retain(|cidr| wanted(Family::of(cidr.addr())));
            }
            for ips in self
                .pods
                .iter_mut()
                .map(|pod| &mut pod.ips)
                .chain(self.outside.iter_mut().map(|o| &mut o.ips))
            {
                ips.retain(|address| wanted(Family::of(*address)));
            }
        }
        ensure!(!self.nodes.is_empty(), "a lab needs at least one node");
        let mut names = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for (name, ips) in self
            .nodes
            .iter()
            .map(|node| (&node.name, &node.addresses))
            .chain(self.outside.iter().map(|outside| (&outside.name, &outside.ips)))
        {
            check_name(name)?;
            ensure!(names.insert(name.clone()), "the name {name} is used twice");
            ensure!(!ips.is_empty(), "{name} has no address in the families of the lab");
            for address in ips {
                ensure!(addresses.insert(*address), "{name}: the address {address} is used twice");
            }
        }
        for outside in &self.outside {
            if let Some(via) = &outside.via {
                ensure!(self.node(via).is_some(), "{}: via names {via}, which is no node", outside.name);
            }
        }
        let mut pods = BTreeSet::new();
        for pod in &self.pods {
            self.check_pod(pod)?;
            ensure!(pods.insert(&pod.name), "the pod name {} is used twice", pod.name);
            for address in &pod.ips {
                ensure!(addresses.insert(*address), "pod {}: the address {address} is used twice", pod.name);
            }
        }
        Ok(self)
    }

    /// Checks a pod against its node.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check_pod(&self, pod: &PodSpec) -> Result<()> {
        check_name(&pod.name)?;
        let Some(node) = self.node(&pod.node) else {
            bail!("pod {}: there is no node {}", pod.name, pod.node);
        };
        ensure!(!pod.ips.is_empty(), "pod {} has no address in the families of the lab", pod.name);
        for address in &pod.ips {
            let inside = node.pod_cidrs.iter().any(|cidr| cidr.contains(address));
            ensure!(inside, "pod {}: {address} is in no podCIDR of {}", pod.name, node.name);
        }
        Ok(())
    }

    /// A node by name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeSpec> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Families that some node has an address of.
    #[must_use]
    pub fn families(&self) -> BTreeSet<Family> {
        self.nodes.iter().flat_map(|node| &node.addresses).map(|address| Family::of(*address)).collect()
    }

    /// The mark by which an outside client chooses this node as its gateway.
    #[must_use]
    pub fn mark(&self, node: &str) -> Option<u32> {
        let index = self.nodes.iter().position(|candidate| candidate.name == node)?;
        u32::try_from(index + 1).ok()
    }
}

/// Names become parts of file names.
fn check_name(name: &str) -> Result<()> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    ensure!(
        !name.is_empty() && name.len() <= 200 && name.bytes().all(fine) && !name.starts_with('.'),
        "{name:?} is no name: letters, digits, '.', '-' and '_' only"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_NODES: &str = "
nodes:
- {name: a, zone: z1, addresses: [172.18.0.11, 'fd00:18::11'], podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}
- {name: b, addresses: [172.18.0.12, 'fd00:18::12'], podCIDRs: [10.244.2.0/24, 'fd00:244:2::/64'], link: bridge}
pods:
- {name: web-1, node: a, ips: [10.244.1.10, 'fd00:244:1::10']}
outside:
- {name: laptop, ips: [172.18.0.200, 'fd00:18::200'], via: b}
";

    #[test]
    fn a_topology_is_read_with_its_defaults() {
        let topology = Topology::parse(TWO_NODES).unwrap();
        assert_eq!(topology.link, Link::Ptp);
        assert_eq!(topology.nodes[1].link, Some(Link::Bridge));
        assert_eq!(topology.families(), BTreeSet::from([Family::Ipv4, Family::Ipv6]));
        assert_eq!(topology.mark("b"), Some(2));
        assert_eq!(topology.nodes[0].gateway(Family::Ipv6), Some("fd00:244:1::1".parse().unwrap()));
    }

    #[test]
    fn one_family_leaves_no_address_of_the_other() {
        let topology = Topology::parse(&format!("families: [ipv6]\n{TWO_NODES}")).unwrap();
        assert_eq!(topology.families(), BTreeSet::from([Family::Ipv6]));
        assert_eq!(topology.pods[0].ips, vec!["fd00:244:1::10".parse::<IpAddr>().unwrap()]);
        assert_eq!(topology.outside[0].ips.len(), 1);
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_the_entry_named() {
        let error = |extra: &str| {
            let text = TWO_NODES.replace("outside:\n", &format!("{extra}\noutside:\n"));
            format!("{:#}", Topology::parse(&text).unwrap_err())
        };
        assert_eq!(
            error("- {name: x, node: a, ips: [10.244.2.7]}"),
            "pod x: 10.244.2.7 is in no podCIDR of a"
        );
        assert_eq!(error("- {name: x, node: c, ips: [10.244.2.7]}"), "pod x: there is no node c");
        assert_eq!(
            error("- {name: x, node: a, ips: [10.244.1.10]}"),
            "pod x: the address 10.244.1.10 is used twice"
        );
        assert_eq!(
            error("- {name: x/y, node: a, ips: [10.244.1.11]}"),
            "\"x/y\" is no name: letters, digits, '.', '-' and '_' only"
        );
    }
}
