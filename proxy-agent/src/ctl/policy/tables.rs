//! The maps that a verdict follows from, one question at a time. The questions are those that the programs ask, so what is
//! answered here is what a packet meets.

use std::io;
use std::net::IpAddr;

use proxy_common::{
    Address, Backend, Family, Frontend, FrontendKey, PeerClass, Policed, PolicyState, Port, PrefixKey, Proto,
    RangeKey, RuleSetId, VerdictKey, VerdictPage, node,
    policy::{PolicyFlags, Ruling, decide},
};

use crate::kernel::{MapFamily, Maps, Pinned, mentioned::Mentioned};

/// Who answers.
pub(in crate::ctl) trait Tables {
    /// The epoch, and what is in use.
    fn state(&self) -> io::Result<PolicyState>;
    /// The rules that a local pod is under.
    fn policed(&self, ip: IpAddr) -> io::Result<Option<Policed>>;
    /// The class of an address that a rule names.
    fn peer(&self, ip: IpAddr) -> io::Result<Option<PeerClass>>;
    /// The class of the longest prefix that holds an address.
    fn block(&self, ip: IpAddr) -> io::Result<Option<PeerClass>>;
    /// A page of verdicts.
    fn page(&self, key: VerdictKey) -> io::Result<Option<VerdictPage>>;
    /// All pages of a set of rules.
    fn pages_of(&self, rules: RuleSetId) -> io::Result<Vec<(VerdictKey, VerdictPage)>>;
    /// Addresses that this node is known by, one of each family.
    fn own_addresses(&self) -> io::Result<Vec<IpAddr>>;
    /// The address is one of this node.
    fn is_own(&self, ip: IpAddr) -> io::Result<bool>;
    /// The address is in the ranges of pods that the node knows.
    fn is_in_pod_range(&self, ip: IpAddr) -> io::Result<bool>;
    /// What is served at a place; port zero asks for the entry of the address itself.
    fn frontend(&self, ip: IpAddr, port: Port, proto: Proto) -> io::Result<Option<Frontend>>;
    /// Backends of both segments of a frontend at `ip`, each once: those of the whole cluster, and the local ones.
    fn backends(&self, ip: IpAddr, frontend: &Frontend) -> io::Result<[Vec<(IpAddr, Port)>; 2]>;
    /// The client is in one of the source ranges of the frontend.
    fn is_in_range(&self, client: IpAddr, frontend: &Frontend) -> io::Result<bool>;
}

/// The class of an address, as the programs find it.
pub(in crate::ctl) fn class(tables: &impl Tables, ip: IpAddr) -> io::Result<PeerClass> {
    if let Some(class) = tables.peer(ip)? {
        return Ok(class);
    }
    let flag = if ip.is_ipv4() { PolicyFlags::BLOCKS4 } else { PolicyFlags::BLOCKS6 };
    let block = if tables.state()?.flags.has(flag) { tables.block(ip)? } else { None };
    Ok(block.unwrap_or(PeerClass::WORLD))
}

/// What a set of rules says about a class, from its pages.
pub(in crate::ctl) fn ruling(
    tables: &impl Tables,
    rules: RuleSetId,
    peer: PeerClass,
    (proto, port): (Proto, Port),
) -> io::Result<Ruling> {
    let pages = pages(tables, rules, peer)?;
    Ok(decide(|number| pages.get(number as usize)?.as_ref(), proto, port.number()))
}

/// All that a set of rules says about a class; a page that is missing among others is a broken map.
pub(in crate::ctl) fn pages(
    tables: &impl Tables,
    rules: RuleSetId,
    peer: PeerClass,
) -> io::Result<Vec<Option<VerdictPage>>> {
    let Some(first) = tables.page(VerdictKey::new(rules, peer, 0))? else { return Ok(Vec::new()) };
    let mut pages = vec![Some(first)];
    for number in 1..u32::from(first.pages) {
        pages.push(tables.page(VerdictKey::new(rules, peer, number))?);
    }
    Ok(pages)
}

/// Asks the maps of the family that the address is of.
fn ask<T>(
    maps: &Pinned,
    ip: IpAddr,
    four: impl FnOnce(&Maps<proxy_common::V4>) -> io::Result<T>,
    six: impl FnOnce(&Maps<proxy_common::V6>) -> io::Result<T>,
) -> io::Result<T> {
    if ip.is_ipv4() { four(&maps.v4) } else { six(&maps.v6) }
}

macro_rules! ask {
    ($maps:expr, $ip:expr, $function:ident $(, $argument:expr)*) => {
        ask($maps, $ip, |maps| $function(maps, $ip $(, $argument)*), |maps| $function(maps, $ip $(, $argument)*))
    };
}

impl Tables for Pinned {
    fn state(&self) -> io::Result<PolicyState> {
        Ok(self.policy.state.get(&0)?.unwrap_or_default())
    }

    fn policed(&self, ip: IpAddr) -> io::Result<Option<Policed>> {
        ask!(self, ip, policed)
    }

    fn peer(&self, ip: IpAddr) -> io::Result<Option<PeerClass>> {
        ask!(self, ip, peer)
    }

    fn block(&self, ip: IpAddr) -> io::Result<Option<PeerClass>> {
        ask!(self, ip, block, &self.policy.mentioned)
    }

    fn page(&self, key: VerdictKey) -> io::Result<Option<VerdictPage>> {
        self.policy.verdicts.get(&key)
    }

    fn pages_of(&self, rules: RuleSetId) -> io::Result<Vec<(VerdictKey, VerdictPage)>> {
        let mut found = Vec::new();
        self.policy.verdicts.scan(|keys, pages| {
            let both = keys.iter().copied().zip(pages.iter().copied());
            found.extend(both.filter(|(key, _)| key.rules == rules));
        })?;
        Ok(found)
    }

    fn own_addresses(&self) -> io::Result<Vec<IpAddr>> {
        Ok([own_address(&self.v4)?, own_address(&self.v6)?].into_iter().flatten().collect())
    }

    fn is_own(&self, ip: IpAddr) -> io::Result<bool> {
        ask!(self, ip, is_own)
    }

    fn is_in_pod_range(&self, ip: IpAddr) -> io::Result<bool> {
        ask!(self, ip, is_in_pod_range)
    }

    fn frontend(&self, ip: IpAddr, port: Port, proto: Proto) -> io::Result<Option<Frontend>> {
        ask!(self, ip, frontend, port, proto)
    }

    fn backends(&self, ip: IpAddr, frontend: &Frontend) -> io::Result<[Vec<(IpAddr, Port)>; 2]> {
        ask!(self, ip, backends, frontend)
    }

    fn is_in_range(&self, client: IpAddr, frontend: &Frontend) -> io::Result<bool> {
        ask!(self, client, is_in_range, frontend)
    }
}

/// The address in its family; every caller has chosen the family by it.
fn own<F: Family>(ip: IpAddr) -> io::Result<F::Addr> {
    F::Addr::from_ip(ip).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn policed<F: MapFamily>(maps: &Maps<F>, ip: IpAddr) -> io::Result<Option<Policed>> {
    maps.policed.get(&own::<F>(ip)?)
}

fn peer<F: MapFamily>(maps: &Maps<F>, ip: IpAddr) -> io::Result<Option<PeerClass>> {
    maps.peers.get(&own::<F>(ip)?)
}

fn block<F: MapFamily>(maps: &Maps<F>, ip: IpAddr, divided: &Mentioned) -> io::Result<Option<PeerClass>> {
    let addr = own::<F>(ip)?;
    maps.blocks.around(addr, divided.division(&addr))
}

fn own_address<F: MapFamily>(maps: &Maps<F>) -> io::Result<Option<IpAddr>> {
    let address = maps.node.get(&0)?.unwrap_or_default().address.to_ip();
    Ok(Some(address).filter(|ip| !ip.is_unspecified()))
}

fn is_own<F: MapFamily>(maps: &Maps<F>, ip: IpAddr) -> io::Result<bool> {
    Ok(maps.local_addrs.get(&own::<F>(ip)?)?.is_some())
}

fn is_in_pod_range<F: MapFamily>(maps: &Maps<F>, ip: IpAddr) -> io::Result<bool> {
    let addr = own::<F>(ip)?;
    let node = maps.node.get(&0)?.unwrap_or_default();
    if node::any_contains(&node.cluster_cidrs, addr) {
        return Ok(true);
    }
    Ok(maps.nets.get(&PrefixKey::exactly(node::NetKind::PODS.0, addr))?.is_some())
}

fn frontend<F: MapFamily>(
    maps: &Maps<F>,
    ip: IpAddr,
    port: Port,
    proto: Proto,
) -> io::Result<Option<Frontend>> {
    maps.frontends.get(&FrontendKey::new(own::<F>(ip)?, port, proto))
}

fn backends<F: MapFamily>(
    maps: &Maps<F>,
    _: IpAddr,
    frontend: &Frontend,
) -> io::Result<[Vec<(IpAddr, Port)>; 2]> {
    let place = |backend: Backend<F::Addr>| (backend.addr.to_ip(), backend.port);
    let members = |segment| {
        let found = maps.members(segment).map_err(io::Error::other)?;
        let mut places: Vec<_> = found.into_iter().map(place).collect();
        places.dedup();
        Ok::<_, io::Error>(places)
    };
    Ok([members(frontend.cluster)?, members(frontend.local)?])
}

fn is_in_range<F: MapFamily>(maps: &Maps<F>, client: IpAddr, frontend: &Frontend) -> io::Result<bool> {
    Ok(maps.ranges.get(&RangeKey::exactly(frontend.service, own::<F>(client)?))?.is_some())
}
