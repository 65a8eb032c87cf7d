//! Maps in memory, for the tests of what is answered from them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use proxy_common::policy::{Effect, Interval, PolicyFlags};
use proxy_common::{
    Frontend, PeerClass, Policed, PolicyState, Port, Proto, RuleId, RuleSetId, VerdictKey, VerdictPage,
};

use super::tables::Tables;

/// The maps of a node.
#[derive(Default)]
pub(in crate::ctl) struct Fake {
    pub(in crate::ctl) state: PolicyState,
    pub(in crate::ctl) policed: BTreeMap<IpAddr, Policed>,
    pub(in crate::ctl) peers: BTreeMap<IpAddr, PeerClass>,
    pub(in crate::ctl) blocks: Vec<(ipnet::IpNet, PeerClass)>,
    pub(in crate::ctl) pages: BTreeMap<VerdictKey, VerdictPage>,
    pub(in crate::ctl) own: Vec<IpAddr>,
    pub(in crate::ctl) frontends: BTreeMap<(IpAddr, Port, Proto), Frontend>,
    pub(in crate::ctl) cluster: Vec<(IpAddr, Port)>,
    pub(in crate::ctl) local: Vec<(IpAddr, Port)>,
}

/// Ports of a protocol that a rule lets pass.
pub(in crate::ctl) fn allow(by: u64, proto: Proto, first: u16, last: u16) -> Interval {
    Interval { by: RuleId(by), first, last, proto, effect: Effect::ALLOW, pad: [0; 2] }
}

impl Fake {
    /// A local pod under these rules.
    pub(in crate::ctl) fn pod(mut self, ip: &str, egress: RuleSetId, ingress: RuleSetId) -> Self {
        self.state.epoch = 1;
        self.policed.insert(ip.parse().unwrap(), Policed { egress, ingress, ..Policed::default() });
        self
    }

    /// An address that rules name.
    pub(in crate::ctl) fn peer(mut self, ip: &str, class: u64) -> Self {
        self.peers.insert(ip.parse().unwrap(), PeerClass(class));
        self
    }

    /// A prefix that rules name.
    pub(in crate::ctl) fn block(mut self, prefix: &str, class: u64) -> Self {
        self.state.flags = self.state.flags.with(PolicyFlags::BLOCKS4).with(PolicyFlags::BLOCKS6);
        self.blocks.push((prefix.parse().unwrap(), PeerClass(class)));
        self
    }

    /// What rules say about a class: intervals of as many pages as it takes, and about the rest nothing.
    pub(in crate::ctl) fn says(self, rules: RuleSetId, class: u64, intervals: &[Interval]) -> Self {
        self.says_all(rules, class, intervals, (RuleId::NONE, Effect::DENY))
    }

    /// The same, and `rest` about everything else.
    pub(in crate::ctl) fn says_all(
        mut self,
        rules: RuleSetId,
        class: u64,
        intervals: &[Interval],
        (otherwise, effect): (RuleId, Effect),
    ) -> Self {
        let room = VerdictPage::default().intervals.len();
        let count = intervals.len().div_ceil(room).max(1);
        for number in 0..count {
            let mut page = VerdictPage { otherwise, effect, pages: count as u16, ..VerdictPage::default() };
            let here = intervals.iter().skip(number * room);
            for (slot, interval) in page.intervals.iter_mut().zip(here) {
                *slot = *interval;
                page.count += 1;
            }
            self.pages.insert(VerdictKey::new(rules, PeerClass(class), number as u32), page);
        }
        self
    }
}

impl Tables for Fake {
    fn state(&self) -> io::Result<PolicyState> {
        Ok(self.state)
    }

    fn policed(&self, ip: IpAddr) -> io::Result<Option<Policed>> {
        Ok(self.policed.get(&ip).copied())
    }

    fn peer(&self, ip: IpAddr) -> io::Result<Option<PeerClass>> {
        Ok(self.peers.get(&ip).copied())
    }

    fn block(&self, ip: IpAddr) -> io::Result<Option<PeerClass>> {
        let holding = self.blocks.iter().filter(|(prefix, _)| prefix.contains(&ip));
        Ok(holding.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, class)| *class))
    }

    fn page(&self, key: VerdictKey) -> io::Result<Option<VerdictPage>> {
        Ok(self.pages.get(&key).copied())
    }

    fn pages_of(&self, rules: RuleSetId) -> io::Result<Vec<(VerdictKey, VerdictPage)>> {
        Ok(self.pages.iter().filter(|(key, _)| key.rules == rules).map(|(key, page)| (*key, *page)).collect())
    }

    fn own_addresses(&self) -> io::Result<Vec<IpAddr>> {
        Ok(self.own.clone())
    }

    fn is_own(&self, ip: IpAddr) -> io::Result<bool> {
        Ok(self.own.contains(&ip))
    }

    fn is_in_pod_range(&self, ip: IpAddr) -> io::Result<bool> {
        Ok(matches!(ip, IpAddr::V4(ip) if ip.octets()[..2] == [10, 244]))
    }

    fn frontend(&self, ip: IpAddr, port: Port, proto: Proto) -> io::Result<Option<Frontend>> {
        Ok(self.frontends.get(&(ip, port, proto)).copied())
    }

    fn backends(&self, _: IpAddr, _: &Frontend) -> io::Result<[Vec<(IpAddr, Port)>; 2]> {
        Ok([self.cluster.clone(), self.local.clone()])
    }

    fn is_in_range(&self, _: IpAddr, _: &Frontend) -> io::Result<bool> {
        Ok(false)
    }
}
