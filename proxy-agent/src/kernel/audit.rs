//! Doubt about what the agent put into the kernel beside Services and policies: pins, links, and the maps about the node. What
//! somebody else has removed, added or replaced is put right, and counted by where it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proxy_common::{
    Addr4, Addr6,
    maps::{SPECS, spec as spec_of},
};
use proxy_model::NodeFacts;

use super::{
    Kernel,
    error::Error,
    hook::Anchor,
    links, onward,
    pins::{self, PinnedLink, Target},
    sys::{self, Access, Cursor},
    topology::Topology,
};

/// What an audit calls pins that were missing.
pub const PINS: &str = "pins";
/// What it calls links, and filters in their stead, that were missing, detached, or had another program.
pub const LINKS: &str = "links";

/// Maps about the node, each written whole by [`Kernel::follow`] and [`Kernel::set_node`].
const OF_NODE: [&str; 11] = [
    "devices",
    "localaddrs4",
    "localaddrs6",
    "sources4",
    "sources6",
    "nodes4",
    "nodes6",
    "nets4",
    "nets6",
    "node4",
    "node6",
];

/// How much was put right, by the names of maps, [`PINS`] and [`LINKS`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Repairs(BTreeMap<&'static str, usize>);

impl Repairs {
    /// So many more there.
    pub fn add(&mut self, place: &'static str, count: usize) {
        if count > 0 {
            *self.0.entry(place).or_default() += count;
        }
    }

    /// Where something was put right, and how much.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        self.0.iter().map(|(place, count)| (*place, *count))
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }
}

impl std::fmt::Display for Repairs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: Vec<_> = self.iter().map(|(place, count)| format!("{place} {count}")).collect();
        f.write_str(&all.join(", "))
    }
}

impl Kernel {
    /// Puts right what is not as the last [`Kernel::follow`] and [`Kernel::set_node`] left it; `topology`, `node` and `facts`
    /// are what they were told. Gives what that was, and what could not be put right; the next audit tries again.
    pub fn audit(
        &mut self,
        topology: &Topology,
        node: &[IpAddr],
        facts: Option<&(NodeFacts<Addr4>, NodeFacts<Addr6>)>,
    ) -> (Repairs, Vec<Error>) {
        let mut repairs = Repairs::default();
        if self.waiting.is_some() {
            return (repairs, Vec::new());
        }
        let mut errors: Vec<Error> = self.audit_pins(&mut repairs).err().into_iter().collect();
        errors.extend(self.audit_links(&mut repairs).err());
        let before = OF_NODE.map(|name| self.content(name).unwrap_or_default());
        errors.extend(self.follow(topology, node));
        if let Some((v4, v6)) = facts {
            errors.extend(self.set_node(v4, v6).err());
        }
        for (name, before) in OF_NODE.into_iter().zip(before) {
            let after = self.content(name).unwrap_or_default();
            let differs = |key: &&Vec<u8>| before.get(*key) != after.get(*key);
            let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            repairs.add(name, keys.iter().filter(|key| differs(key)).count());
        }
        (repairs, errors)
    }

    /// Somebody has removed pins: the maps are still ours, and get them back.
    fn audit_pins(&self, repairs: &mut Repairs) -> Result<(), Error> {
        for spec in SPECS {
            let path = self.maps.pins.map(spec.name);
            if !path.exists()
                && let Some(map) = self.programs.map(spec.name)
            {
                sys::pin(map, &path).map_err(Error::path("pin", path))?;
                repairs.add(PINS, 1);
            }
        }
        if let (Some(ahead), Some(array)) = (self.programs.ahead(), self.programs.map(onward::MAP))
            && !onward::is_held(&self.maps.pins, ahead)
        {
            onward::hold(&self.maps.pins, ahead, array)?;
            repairs.add(PINS, 1);
        }
        Ok(())
    }

    /// Links that are not there any more, or have somebody else's program. Those of devices are made by the next
    /// [`Kernel::follow`].
    fn audit_links(&mut self, repairs: &mut Repairs) -> Result<(), Error> {
        let devices = self.devices.doubt(&self.maps, &self.programs).map(|bad| repairs.add(LINKS, bad));
        let cgroup = |hook: &super::hook::Hook| hook.anchor() == Anchor::Cgroup;
        let hooks: Vec<_> = self.programs.hooks().filter(cgroup).collect();
        let is_good = |hook: super::hook::Hook| {
            let target = Target::Cgroup;
            let link = PinnedLink { hook, target, path: self.maps.pins.link(hook, target) };
            let facts = pins::link_facts(&link).ok().filter(|facts| facts.cgroup != 0);
            facts.is_some_and(|facts| Some(facts.program) == self.programs.id(hook))
        };
        let bad = hooks.into_iter().filter(|hook| !is_good(*hook)).count();
        if bad > 0 {
            links::attach_cgroup(&self.maps.pins, &self.programs, &self.settings.cgroup_root)?;
            repairs.add(LINKS, bad);
        }
        devices
    }

    /// The entries of a small map, as bytes.
    fn content(&self, name: &'static str) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        let failed = |source| Error::Map { verb: "read", map: name, source };
        let map = self.maps.pins.open(name, Access::Read)?;
        let (key, value) = (map.entry().key, map.entry().value);
        let room = spec_of(name).map_or(1, |spec| spec.entries as usize).max(map.max_entries() as usize);
        let (mut keys, mut values) = (vec![0; room * key], vec![0; room * value]);
        let mut all = BTreeMap::new();
        let mut cursor = Cursor::default();
        while !cursor.done {
            let count = map.scan(&mut cursor, &mut keys, &mut values).map_err(failed)?;
            let pairs = keys.chunks_exact(key).zip(values.chunks_exact(value)).take(count);
            all.extend(pairs.map(|(key, value)| (key.to_vec(), value.to_vec())));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_told_by_their_places() {
        let mut repairs = Repairs::default();
        for (place, count) in [("links", 1), ("devices", 0), ("frontends4", 2), ("links", 1)] {
            repairs.add(place, count);
        }
        assert_eq!((repairs.to_string().as_str(), repairs.total()), ("frontends4 2, links 2", 4));
    }
}
