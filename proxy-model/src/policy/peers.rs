//! Whom a rule is about: the peers of one rule as a set that is named by a digest. Addresses that are in the same sets are
//! in the same class.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proxy_common::{Addr4, Addr6, Address};

use super::digest::{Domain, Encoder};
use crate::fact::{Name, Namespace, Prefix, Selector};

/// The name of a set of peers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct PeersId(pub(super) u64);

/// All peers of a rule: whoever is any of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Peers {
    pub(super) pods: BTreeSet<PodPeers>,
    pub(super) nodes: BTreeSet<Selector>,
    pub(super) blocks: BTreeSet<Block>,
}

/// Pods by their labels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct PodPeers {
    pub(super) scope: Scope,
    pub(super) pods: Selector,
}

/// In which namespaces.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Scope {
    /// In this one (item 14).
    Own(Name),
    /// In those with such labels (item 15).
    Labelled(Selector),
}

/// Addresses, but for some of them. The exceptions are inside (item 22).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Block {
    pub(super) net: Prefix,
    pub(super) except: BTreeSet<Prefix>,
}

/// The label that every namespace has (item 18).
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The namespace has such labels.
pub(super) fn labelled(selector: &Selector, name: &Name, namespace: Option<&Namespace>) -> bool {
    match namespace {
        Some(namespace) if namespace.labels.contains_key(NAME_LABEL) => selector.matches(&namespace.labels),
        Some(namespace) => {
            let mut labels = namespace.labels.clone();
            labels.insert(NAME_LABEL.into(), name.clone());
            selector.matches(&labels)
        }
        None => selector.matches(&BTreeMap::from([(NAME_LABEL.into(), name.clone())])),
    }
}

impl Block {
    /// None, if the exceptions leave nothing.
    pub(super) fn new(net: Prefix, except: impl IntoIterator<Item = Prefix>) -> Option<Self> {
        let net = net.canonical();
        let except: BTreeSet<_> = except.into_iter().map(Prefix::canonical).collect();
        if except.iter().any(|except| except.covers(&net)) {
            return None;
        }
        Some(Self { net, except: except.into_iter().filter(|except| net.covers(except)).collect() })
    }
}

impl Prefix {
    /// The same range with zeros behind its length.
    pub(super) fn canonical(self) -> Self {
        fn cut<A: Address>(prefix: Prefix) -> Option<Prefix> {
            let bits = u8::try_from(A::WORDS * 32).unwrap_or(u8::MAX);
            let len = prefix.len.min(bits);
            let addr = A::from_ip(prefix.addr)?.and(A::prefix_mask(len)).to_ip();
            Some(Prefix { addr, len })
        }
        cut::<Addr4>(self).or_else(|| cut::<Addr6>(self)).unwrap_or(self)
    }

    /// Everything in `other` is in this one, too. Both are canonical.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.len <= other.len && self.contains(other.addr)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl Peers {
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.nodes.is_empty() && self.blocks.is_empty()
    }

    pub(super) fn digest(&self) -> u64 {
        let mut into = Encoder::new(Domain::Peers);
        into.count(self.pods.len());
        for peer in &self.pods {
            match &peer.scope {
                Scope::Own(name) => {
                    into.tag(1).text(name);
                }
                Scope::Labelled(selector) => selector.encode(into.tag(2)),
            }
            peer.pods.encode(&mut into);
        }
        into.count(self.nodes.len());
        for selector in &self.nodes {
            selector.encode(&mut into);
        }
        into.count(self.blocks.len());
        for block in &self.blocks {
            into.addr(block.net.addr).tag(block.net.len).count(block.except.len());
            for except in &block.except {
                into.addr(except.addr).tag(except.len);
            }
        }
        into.digest()
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pods = self.pods.iter().map(|peer| match &peer.scope {
            Scope::Own(name) => format!("pods {} in {name}", peer.pods),
            Scope::Labelled(selector) => format!("pods {} in namespaces {selector}", peer.pods),
        });
        let nodes = self.nodes.iter().map(|selector| format!("nodes {selector}"));
        let blocks = self.blocks.iter().map(|block| {
            let except: Vec<_> = block.except.iter().map(ToString::to_string).collect();
            if except.is_empty() {
                block.net.to_string()
            } else {
                format!("{} except {}", block.net, except.join(", "))
            }
        });
        let mut all: Vec<_> = pods.chain(nodes).chain(blocks).collect();
        let more = all.len().saturating_sub(TOLD);
        all.truncate(TOLD);
        f.write_str(&all.join(" or "))?;
        if more > 0 { write!(f, " or {more} more") } else { Ok(()) }
    }
}

/// Peers that are told before the rest is counted.
const TOLD: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (addr, len) = text.split_once('/').unwrap();
        Prefix { addr: addr.parse().unwrap(), len: len.parse().unwrap() }
    }

    #[test]
    fn item_22_exceptions_outside_their_block_do_not_count_and_one_that_is_all_of_it_leaves_nothing() {
        let block = Block::new(prefix("10.0.0.9/8"), ["10.1.0.0/16", "11.0.0.0/8"].map(prefix)).unwrap();
        assert_eq!(block, Block { net: prefix("10.0.0.0/8"), except: [prefix("10.1.0.0/16")].into() });
        assert_eq!(Block::new(prefix("10.0.0.0/8"), [prefix("0.0.0.0/0")]), None);
        assert!(Block::new(prefix("0.0.0.0/0"), [prefix("::/0")]).is_some(), "item 23");
    }

    #[test]
    fn item_18_every_namespace_has_the_label_of_its_name() {
        let selector = Selector { labels: [(NAME_LABEL.into(), "a".into())].into(), expressions: vec![] };
        let namespace = |labels: &[(&str, &str)]| Namespace {
            name: "a".into(),
            labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        };
        assert!(labelled(&selector, &"a".into(), None));
        assert!(labelled(&selector, &"a".into(), Some(&namespace(&[("x", "y")]))));
        assert!(labelled(&selector, &"a".into(), Some(&namespace(&[(NAME_LABEL, "a")]))));
        assert!(!labelled(&selector, &"b".into(), None));
    }
}
