//! The maps of a kernel in memory, and a node made of a world, a planner and such maps.
//!
//! Every sync checks the promise of `plan::phase`: after each single write, each frontend's segments hold the
//! list of before or the list of after, whole, and it admits whom both admit and nobody whom neither does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proxy_common::decide::{self, Ownership, Place, Source};
use proxy_common::node::any_contains;
use proxy_common::reason::Outcome;
use proxy_common::{
    Address, Backend, ClientClass, Frontend, FrontendFlags, FrontendKey, PrefixKey, RangeKey, Reason,
    Segment, V4, V6,
};
use proxy_model::{
    Actual, Adoption, Capacity, Event, NodeFacts, Plan, Planner, Served, Settings, Table, Tick, World, Write,
};

use crate::reference::{Attempt, Facts, Seen, Verdict};

/// The maps of one family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kernel<F: Served> {
    pub slots: Vec<Option<Backend<F::Addr>>>,
    pub frontends: BTreeMap<FrontendKey<F::Addr>, Frontend>,
    pub ranges: BTreeSet<RangeKey<F::Addr>>,
    pub capacity: Capacity,
}

/// The two lists behind a frontend.
pub type Lists<F> = [Vec<Option<Backend<<F as proxy_common::Family>::Addr>>>; 2];

impl<F: Served> Kernel<F> {
    pub fn new(capacity: Capacity) -> Self {
        Self {
            slots: vec![None; capacity.backends as usize],
            frontends: BTreeMap::new(),
            ranges: BTreeSet::new(),
            capacity,
        }
    }

    /// As the kernel would: a full hash refuses, an index beyond the array too.
    pub fn make(&mut self, write: &Write<F>) -> Result<(), &'static str> {
        match write {
            Write::Slots { start, slots } => {
                let place = self
                    .slots
                    .get_mut(*start as usize..*start as usize + slots.len())
                    .ok_or("no such slot")?;
                for (slot, backend) in place.iter_mut().zip(slots) {
                    *slot = Some(*backend);
                }
            }
            Write::PutFrontend { key, value } => {
                if !self.frontends.contains_key(key)
                    && self.frontends.len() >= self.capacity.frontends as usize
                {
                    return Err("the map is full");
                }
                self.frontends.insert(*key, *value);
            }
            Write::DeleteFrontend { key } => {
                self.frontends.remove(key);
            }
            Write::PutRange { key } => {
                if !self.ranges.contains(key) && self.ranges.len() >= self.capacity.ranges as usize {
                    return Err("the trie is full");
                }
                self.ranges.insert(*key);
            }
            Write::DeleteRange { key } => {
                self.ranges.remove(key);
            }
        }
        Ok(())
    }

    pub fn list(&self, segment: Segment) -> Vec<Option<Backend<F::Addr>>> {
        (segment.start..segment.start + segment.len).map(|slot| self.slots[slot as usize]).collect()
    }

    pub fn lists(&self, value: &Frontend) -> Lists<F> {
        [self.list(value.cluster), self.list(value.local)]
    }

    pub fn table(&self) -> Table<'_, F> {
        Table {
            frontends: self.frontends.iter().map(|(key, value)| (*key, *value)).collect(),
            ranges: self.ranges.iter().copied().collect(),
            slot: Box::new(|slot| *self.slots.get(slot as usize)?),
        }
    }

    /// The ranges that a frontend serves; `None` is everybody.
    pub fn ranges_of(&self, value: &Frontend) -> Option<BTreeSet<RangeKey<F::Addr>>> {
        let own = || self.ranges.iter().filter(|range| range.service == value.service).copied();
        value.flags.has(FrontendFlags::RANGES).then(|| own().collect())
    }

    /// As a trie finds the longest prefix.
    fn admits(&self, value: &Frontend, client: F::Addr) -> bool {
        let holds = |range: &RangeKey<F::Addr>| {
            let mask = F::Addr::prefix_mask(u8::try_from(range.bits - 32).unwrap());
            client.and(mask) == range.addr
        };
        self.ranges_of(value).is_none_or(|ranges| ranges.iter().any(holds))
    }

    /// No frontend shuts out whom both states admit, or lets in whom neither does.
    fn assert_between(&self, before: &Self, after: &Self) {
        for (key, value) in &self.frontends {
            let of = |state: &Self| state.frontends.get(key).map(|value| state.ranges_of(value));
            let (old, new) = (of(before), of(after));
            let known: Vec<_> = [&old, &new].into_iter().flatten().collect();
            let Some(now) = self.ranges_of(value) else {
                assert!(known.iter().any(|ranges| ranges.is_none()), "{key:?} lets everybody in");
                continue;
            };
            let all = known.iter().flat_map(|ranges| ranges.iter().flatten());
            let of_both = all.clone().filter(|range| {
                known.iter().all(|ranges| ranges.as_ref().is_none_or(|ranges| ranges.contains(range)))
            });
            assert!(of_both.clone().all(|range| now.contains(range)), "{key:?} shuts out with {now:?}");
            // A frontend that goes to another Service, or goes, may see the new ranges of its own for a moment; one that
            // is new, or comes from another Service, those that its Service had so far.
            let of_service = before.ranges.iter().chain(&after.ranges);
            let own = of_service.filter(|range| range.service == value.service);
            assert!(now.is_subset(&all.chain(own).copied().collect()), "{key:?} lets in with {now:?}");
        }
    }

    fn all_lists(&self) -> BTreeMap<FrontendKey<F::Addr>, Lists<F>> {
        self.frontends.iter().map(|(key, value)| (*key, self.lists(value))).collect()
    }

    /// Makes the writes, checking the promise after each; `fails` says which ones fail. Returns what to report.
    fn run(&mut self, writes: &[Write<F>], fails: &dyn Fn(usize) -> bool) -> Vec<Write<F>> {
        let start = self.clone();
        let before = self.all_lists();
        let mut after = self.clone();
        for write in writes {
            after.make(write).unwrap();
        }
        let (end, after) = (after.clone(), after.all_lists());
        let (mut number, mut has_failed) = (0, false);
        let failures = execute(writes, |write| {
            number += 1;
            if fails(number) {
                has_failed = true;
                return Err("injected");
            }
            self.make(write)?;
            if !has_failed {
                self.assert_between(&start, &end);
            }
            for (key, lists) in self.all_lists() {
                assert!(
                    before.get(&key) == Some(&lists) || after.get(&key) == Some(&lists),
                    "{key:?} shows {lists:?} after write {number} of {writes:?}"
                );
            }
            Ok(())
        });
        failures.into_iter().map(|(index, _)| writes[index].clone()).collect()
    }
}

/// A frontend without ids, positions and generations: what every order of events must agree on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    pub cluster: Vec<String>,
    pub local: Vec<String>,
    pub rest: String,
}

/// A node: facts in, maps out.
#[derive(Debug)]
pub struct Machine {
    pub world: World,
    pub planner: Planner,
    pub v4: Kernel<V4>,
    pub v6: Kernel<V6>,
    pub now: Tick,
}

/// Room for everything that a test asks for.
pub const ROOMY: Capacity = Capacity { frontends: 1_000, backends: 4_000, ranges: 1_000 };

impl Machine {
    pub fn new(settings: Settings, capacity: Capacity) -> Self {
        Self {
            world: World::new(settings),
            planner: Planner::new(capacity),
            v4: Kernel::new(capacity),
            v6: Kernel::new(capacity),
            now: Tick(1_000),
        }
    }

    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let _ = self.world.apply(event);
        }
    }

    /// Plans and writes.
    pub fn sync(&mut self) -> Plan {
        self.sync_with_failures(&|_| false)
    }

    /// Plans and writes; the writes that `fails` names (counted from one, per family) fail.
    pub fn sync_with_failures(&mut self, fails: &dyn Fn(usize) -> bool) -> Plan {
        let plan = self.planner.plan(&mut self.world, self.now);
        for write in self.v4.run(&plan.v4, fails) {
            self.planner.failed(&write);
        }
        for write in self.v6.run(&plan.v6, fails) {
            self.planner.failed(&write);
        }
        plan
    }

    /// The agent dies and comes back: a new world and planner over the same maps.
    pub fn restart(&mut self, names: Names) -> Adoption {
        let known = self.planner.names().map(|(id, name)| (id, name.clone())).collect();
        self.world = World::new(self.world.settings().clone());
        self.planner = Planner::new(self.v4.capacity);
        self.adopt(match names {
            Names::Kept => known,
            Names::Lost => BTreeMap::new(),
        })
    }

    pub fn adopt(&mut self, names: BTreeMap<proxy_common::ServiceId, proxy_model::ServiceName>) -> Adoption {
        self.planner.adopt(Actual { v4: self.v4.table(), v6: self.v6.table(), names })
    }

    /// What both families hold, modulo what may differ.
    pub fn content(&self) -> BTreeMap<String, Content> {
        let names: BTreeMap<_, _> = self.planner.names().map(|(id, name)| (id, name.to_string())).collect();
        let mut content = BTreeMap::new();
        self.add_content(&self.v4, &names, &mut content);
        self.add_content(&self.v6, &names, &mut content);
        content
    }

    fn add_content<F: Served>(
        &self,
        kernel: &Kernel<F>,
        names: &BTreeMap<proxy_common::ServiceId, String>,
        content: &mut BTreeMap<String, Content>,
    ) {
        let list = |segment| {
            kernel
                .list(segment)
                .into_iter()
                .map(|slot| format!("{:?}", slot.expect("a slot that was written")))
                .collect()
        };
        let places = |ranges: BTreeSet<RangeKey<F::Addr>>| -> Vec<_> {
            ranges.into_iter().map(|range| (range.bits, range.addr)).collect()
        };
        for (key, value) in &kernel.frontends {
            let Frontend {
                cluster,
                local,
                service,
                affinity,
                generation: _,
                rules,
                flags,
                algorithm,
                mode,
                pad: _,
            } = *value;
            let name = names.get(&service).cloned();
            let rest = format!(
                "{name:?} affinity {affinity} {rules:?} {flags:?} {algorithm:?} {mode:?} {:?}",
                kernel.ranges_of(value).map(places)
            );
            content.insert(
                format!("{:?}:{:?}/{:?}", key.addr, key.port, key.proto),
                Content { cluster: list(cluster), local: list(local), rest },
            );
        }
    }

    /// What the maps do to an attempt, by the decisions that the kernel programs run.
    pub fn verdict(&self, attempt: Attempt, locals: &[IpAddr]) -> Verdict {
        if attempt.addr.is_ipv4() {
            self.verdict_in(&self.v4, attempt, locals)
        } else {
            self.verdict_in(&self.v6, attempt, locals)
        }
    }

    fn verdict_in<F: Served>(&self, kernel: &Kernel<F>, attempt: Attempt, locals: &[IpAddr]) -> Verdict {
        let NodeFacts { config: node, nets, nodes: _ } = self.world.node_facts::<F>(&[]).0;
        let (client, addr) =
            (F::Addr::from_ip(attempt.client).unwrap(), F::Addr::from_ip(attempt.addr).unwrap());
        let own = if locals.contains(&attempt.client) { Ownership::Node } else { Ownership::Other };
        let place = |inside| if inside { Place::Inside } else { Place::Outside };
        let pods = place(any_contains(&node.cluster_cidrs, client));
        let holds = |net: &PrefixKey<F::Addr>| addr.and(F::Addr::prefix_mask(net.len())) == net.addr;
        let services = place(any_contains(&node.service_cidrs, addr) || nets.iter().any(holds));
        // As `lookup::owner::unserved` of the programs does.
        let is_elsewhere = node.knows_services() && services == Place::Outside;
        let wildcard = FrontendKey::wildcard(addr);
        let class: ClientClass = decide::classify(own, pods);
        let entry = kernel
            .frontends
            .get(&FrontendKey::new(addr, attempt.port, attempt.proto))
            .or_else(|| kernel.frontends.get(&wildcard).filter(|_| !is_elsewhere));
        let chosen = entry.map_or_else(
            || Err(decide::unowned(services)),
            |entry| {
                if !kernel.admits(entry, client) {
                    return Err(Reason::SourceRange);
                }
                decide::choose(entry, class)
            },
        );
        match chosen {
            Ok(choice) => Verdict::Backends(
                kernel
                    .list(choice.segment)
                    .into_iter()
                    .map(|slot| {
                        let backend = slot.unwrap();
                        let seen = match decide::with_hairpin(choice.source, client, &backend) {
                            Source::Kept | Source::Tunnelled => Seen::Client,
                            Source::Masqueraded | Source::KeptIfLocal => Seen::Node,
                        };
                        ((backend.addr.to_ip(), backend.port), seen)
                    })
                    .collect(),
            ),
            Err(reason) => refusal(reason),
        }
    }

    /// Every answer of the maps is the reference's.
    pub fn assert_like(&self, facts: &Facts, attempts: &BTreeSet<Attempt>) {
        for attempt in attempts {
            let (ours, theirs) = (self.verdict(*attempt, &facts.local_addresses), facts.verdict(*attempt));
            assert_eq!(ours, theirs, "{attempt:?}");
        }
    }
}

/// What a restart finds besides the maps.
#[derive(Clone, Copy, Debug)]
pub enum Names {
    Kept,
    Lost,
}

fn refusal(reason: Reason) -> Verdict {
    match reason.outcome() {
        Outcome::Reject => Verdict::Reject,
        Outcome::Drop => Verdict::Drop,
        Outcome::Pass => Verdict::Pass,
        Outcome::Translate => unreachable!("{reason:?} is no refusal"),
    }
}

/// Makes the writes one by one, and goes on after a failure. A frontend whose slots could not be written is not
/// tried: it would show packets old slots. Returns the index of every write that was not made, with its error;
/// `None` is a write that was not tried. Each must be told to [`Planner::failed`].
fn execute<F: Served, E>(
    writes: &[Write<F>],
    mut make: impl FnMut(&Write<F>) -> Result<(), E>,
) -> Vec<(usize, Option<E>)> {
    let mut broken = BTreeSet::new();
    let mut failures = Vec::new();
    for (index, write) in writes.iter().enumerate() {
        let depends_on_broken = match write {
            Write::PutFrontend { value, key: _ } => [value.cluster, value.local]
                .iter()
                .any(|s: &Segment| !s.is_empty() && broken.contains(&s.start)),
            Write::Slots { .. }
            | Write::DeleteFrontend { .. }
            | Write::PutRange { .. }
            | Write::DeleteRange { .. } => false,
        };
        if depends_on_broken {
            failures.push((index, None));
            continue;
        }
        if let Err(error) = make(write) {
            if let Write::Slots { start, slots: _ } = write {
                broken.insert(*start);
            }
            failures.push((index, Some(error)));
        }
    }
    failures
}
