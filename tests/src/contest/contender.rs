//! Who takes part: the same cluster, served by somebody, or by nobody.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cluster::Road;

/// What kube-proxy writes its rules with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rules {
    /// `iptables-legacy`.
    Legacy,
    /// `iptables-nft`.
    IptablesNft,
    /// `nft`.
    Nftables,
    /// `nft`, and established connections in a flow table.
    NftablesFlowtable,
    /// Virtual servers of the kernel, and `iptables-legacy` beside them.
    Ipvs,
}

/// Whether pods are under policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Policies {
    /// None is.
    Absent,
    /// Both ends are, and so many other addresses are let in.
    Present(usize),
}

/// Who serves the Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    /// Nobody: pods ask pods, routed by the kernel, with no rule or program anywhere.
    Direct,
    /// The same once more: the control.
    Twin,
    /// Sluice, with pods on the socket road.
    Socket(Policies),
    /// Sluice, with pods on the packet road.
    Packet(Policies),
    /// The rules of the real kube-proxy.
    KubeProxy(Rules),
}

/// One who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Contender {
    /// Who serves.
    pub who: Who,
    /// How many Services.
    pub services: usize,
}

impl Contender {
    /// Nobody serves.
    #[must_use]
    pub fn direct() -> Self {
        Self { who: Who::Direct, services: 0 }
    }

    /// The road of pods, if Sluice serves, and their policies.
    #[must_use]
    pub fn sluice(self) -> Option<(Road, Policies)> {
        match self.who {
            Who::Socket(policies) => Some((Road::Socket, policies)),
            Who::Packet(policies) => Some((Road::Packet, policies)),
            Who::Direct | Who::Twin | Who::KubeProxy(_) => None,
        }
    }

    /// What kube-proxy writes, if it serves.
    #[must_use]
    pub fn rules(self) -> Option<Rules> {
        match self.who {
            Who::KubeProxy(rules) => Some(rules),
            Who::Direct | Who::Twin | Who::Socket(_) | Who::Packet(_) => None,
        }
    }
}

impl fmt::Display for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => Ok(()),
            Self::Present(0) => f.write_str("+policies"),
            Self::Present(rules) => write!(f, "+policies:{rules}"),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.who {
            Who::Direct => "direct".to_owned(),
            Who::Twin => "direct-again".to_owned(),
            Who::Socket(policies) => format!("socket{policies}"),
            Who::Packet(policies) => format!("packet{policies}"),
            Who::KubeProxy(Rules::Legacy) => "iptables-legacy".to_owned(),
            Who::KubeProxy(Rules::IptablesNft) => "iptables-nft".to_owned(),
            Who::KubeProxy(Rules::Nftables) => "nftables".to_owned(),
            Who::KubeProxy(Rules::NftablesFlowtable) => "nftables+flowtable".to_owned(),
            Who::KubeProxy(Rules::Ipvs) => "ipvs".to_owned(),
        };
        match self.who {
            Who::Direct | Who::Twin => f.pad(&name),
            Who::Socket(_) | Who::Packet(_) | Who::KubeProxy(_) => {
                f.pad(&format!("{name}@{}", self.services))
            }
        }
    }
}

/// Who takes part in a contest of that size.
#[must_use]
pub fn field(size: Size) -> Vec<Contender> {
    use Policies::{Absent, Present};
    let of = |who, services| Contender { who, services };
    let peer = |rules, services| of(Who::KubeProxy(rules), services);
    let twins = [Contender::direct(), of(Who::Twin, 0)];
    let few = [
        of(Who::Socket(Absent), 10),
        of(Who::Packet(Absent), 10),
        of(Who::Packet(Present(0)), 10),
        peer(Rules::Legacy, 10),
        peer(Rules::Nftables, 10),
        peer(Rules::NftablesFlowtable, 10),
    ];
    let some = [peer(Rules::Legacy, 1_000), peer(Rules::IptablesNft, 1_000)];
    let many = [
        of(Who::Socket(Absent), 10_000),
        of(Who::Packet(Absent), 10_000),
        peer(Rules::Legacy, 10_000),
        peer(Rules::Nftables, 10_000),
    ];
    let most = [of(Who::Socket(Absent), 100_000), of(Who::Packet(Absent), 100_000)];
    let rest = [
        of(Who::Socket(Absent), 1_000),
        of(Who::Packet(Absent), 1_000),
        peer(Rules::Nftables, 1_000),
        peer(Rules::IptablesNft, 5_000),
        of(Who::Packet(Present(100_000)), 10),
    ];
    match size {
        Size::Smoke => [&twins[..], &few[..2]].concat(),
        Size::Emulated => {
            let both = |services| [Rules::Legacy, Rules::Ipvs].map(|rules| peer(rules, services));
            [&twins[..], &few[..2], &both(10), &both(1_000)].concat()
        }
        Size::Own => [&twins[..], &few[..3], &many[..2]].concat(),
        Size::Quick => [&twins[..], &few, &some, &many, &most].concat(),
        Size::Full => [&twins[..], &few, &some, &many, &most, &rest].concat(),
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// Seconds: whether the runner runs.
    Smoke,
    /// In an emulated machine, whose kernel has IPVS.
    Emulated,
    /// Sluice against nobody.
    Own,
    /// 10, 10,000 and 100,000 Services.
    Quick,
    /// Everything.
    Full,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_part_has_a_name_of_its_own() {
        let names: Vec<String> = field(Size::Full).iter().map(ToString::to_string).collect();
        let set: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(set.len(), names.len());
        assert_eq!(names[..5], ["direct", "direct-again", "socket@10", "packet@10", "packet+policies@10"]);
        assert!(names.contains(&"packet+policies:100000@10".to_owned()));
    }

    #[test]
    fn a_larger_contest_has_everybody_of_the_smaller() {
        let quick = field(Size::Quick);
        for size in [Size::Smoke, Size::Own] {
            assert!(field(size).iter().all(|one| quick.contains(one)), "{size:?}");
        }
        assert!(quick.iter().all(|one| field(Size::Full).contains(one)));
    }
}
