//! A dataplane whose maps lie in memory and can be told to fail.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use proxy_common::{
    Addr4, Addr6, Backend, Family, Frontend, FrontendKey, NodeConfig, PeerClass, Policed, PolicyState,
    PrefixKey, RangeKey, ServiceId, V4, V6, VerdictKey, VerdictPage,
};
use proxy_model::policy::{AddressWrite, PageMark, PolicyActual, PolicyTable, PolicyWrite};
use proxy_model::{Actual, Moved, NodeFacts, Plan, Planner, Table};

use crate::kernel::apply::apply;
use crate::kernel::io::MapIo;
use crate::kernel::roll::Roll;
use crate::kernel::{Error, Judged, Outcome, Repairs, Serving, State, Topology};
use crate::observe::policy_names::PolicyNames;
use crate::run::dataplane::Dataplane;

/// What the kernel can refuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seam {
    PutFrontends,
    DeleteFrontends,
    PutRange,
    DeleteRange,
    Judge,
    Guard,
    Node,
    Devices,
    Read,
    Audit,
}

/// The maps of a family in memory.
pub(super) struct Memory<F: Family> {
    pub(super) policed: BTreeMap<F::Addr, Policed>,
    pub(super) peers: BTreeMap<F::Addr, PeerClass>,
    pub(super) blocks: BTreeMap<PrefixKey<F::Addr>, PeerClass>,
    pub(super) frontends: BTreeMap<FrontendKey<F::Addr>, Frontend>,
    pub(super) slots: BTreeMap<u32, Backend<F::Addr>>,
    pub(super) ranges: BTreeSet<RangeKey<F::Addr>>,
    /// Calls of `put_frontends` that fail from now on.
    pub(super) failures: usize,
    /// What fails until this is taken away, and the error's number.
    pub(super) refuses: Option<(Seam, i32)>,
}

impl<F: Family> Default for Memory<F> {
    fn default() -> Self {
        Self {
            policed: BTreeMap::new(),
            peers: BTreeMap::new(),
            blocks: BTreeMap::new(),
            frontends: BTreeMap::new(),
            slots: BTreeMap::new(),
            ranges: BTreeSet::new(),
            failures: 0,
            refuses: None,
        }
    }
}

impl<F: Family> MapIo<F> for Memory<F> {
    fn write_slots(&mut self, start: u32, slots: &[Backend<F::Addr>]) -> io::Result<()> {
        self.slots.extend((start..).zip(slots.iter().copied()));
        Ok(())
    }

    fn publish_slots(&mut self) {}

    fn put_frontends(
        &mut self,
        keys: &[FrontendKey<F::Addr>],
        values: &[Frontend],
    ) -> (usize, io::Result<()>) {
        if let Err(error) = self.refused(Seam::PutFrontends) {
            return (0, Err(error));
        }
        if let Some(left) = self.failures.checked_sub(1) {
            self.failures = left;
            return (0, Err(io::ErrorKind::OutOfMemory.into()));
        }
        self.frontends.extend(keys.iter().copied().zip(values.iter().copied()));
        (keys.len(), Ok(()))
    }

    fn delete_frontends(&mut self, keys: &[FrontendKey<F::Addr>]) -> (usize, io::Result<()>) {
        if let Err(error) = self.refused(Seam::DeleteFrontends) {
            return (0, Err(error));
        }
        self.frontends.retain(|key, _| !keys.contains(key));
        (keys.len(), Ok(()))
    }

    fn put_range(&mut self, key: &RangeKey<F::Addr>) -> io::Result<()> {
        self.refused(Seam::PutRange)?;
        self.ranges.insert(*key);
        Ok(())
    }

    fn delete_range(&mut self, key: &RangeKey<F::Addr>) -> io::Result<()> {
        self.refused(Seam::DeleteRange)?;
        self.ranges.remove(key);
        Ok(())
    }
}

impl<F: Family> Memory<F> {
    fn refused(&self, seam: Seam) -> io::Result<()> {
        match self.refuses {
            Some((refused, errno)) if refused == seam => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }

    fn table(&self) -> Table<'_, F> {
        Table {
            frontends: self.frontends.iter().map(|(key, value)| (*key, *value)).collect(),
            ranges: self.ranges.iter().copied().collect(),
            slot: Box::new(|index| self.slots.get(&index).copied()),
        }
    }

    fn judge(&mut self, write: &AddressWrite<F>) {
        match *write {
            AddressWrite::PutBlock { key, class } => drop(self.blocks.insert(key, class)),
            AddressWrite::PutPeer { addr, class } => drop(self.peers.insert(addr, class)),
            AddressWrite::PutPoliced { addr, value } => drop(self.policed.insert(addr, value)),
            AddressWrite::DeletePoliced { addr } => drop(self.policed.remove(&addr)),
            AddressWrite::DeletePeer { addr } => drop(self.peers.remove(&addr)),
            AddressWrite::DeleteBlock { key } => drop(self.blocks.remove(&key)),
        }
    }

    fn policies(&self) -> PolicyTable<F> {
        fn pairs<K: Copy, V: Copy>(map: &BTreeMap<K, V>) -> Vec<(K, V)> {
            map.iter().map(|(key, value)| (*key, *value)).collect()
        }
        PolicyTable { policed: pairs(&self.policed), peers: pairs(&self.peers), blocks: pairs(&self.blocks) }
    }
}

/// The dataplane, and what it was told.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) v4: Memory<V4>,
    pub(super) v6: Memory<V6>,
    pub(super) plans: usize,
    pub(super) writes: usize,
    pub(super) node: Option<(NodeConfig<Addr4>, NodeConfig<Addr6>)>,
    pub(super) followed: Vec<Vec<IpAddr>>,
    /// UDP ports whose clients were let go, and how many backends serve each.
    pub(super) let_go: Vec<(ServiceId, usize)>,
    /// UDP ports that somebody served at each collection, and how many.
    pub(super) collected: Vec<Vec<(ServiceId, usize)>>,
    pub(super) verdicts: BTreeMap<VerdictKey, VerdictPage>,
    pub(super) policy: PolicyState,
    /// Devices of pods under a policy, as often as they were told.
    pub(super) guarded: Vec<BTreeSet<u32>>,
    /// Writes of policies that are made before one fails, once.
    pub(super) fails_after: Option<usize>,
    /// Writes of policies that were made.
    pub(super) judged: usize,
    pub(super) names: RefCell<PolicyNames>,
    /// What audits have put right.
    pub(super) repaired: Vec<String>,
}

impl Fake {
    fn refused(&self, seam: Seam, map: &'static str) -> Result<(), Error> {
        self.v4.refused(seam).map_err(|source| Error::Map { verb: "use", map, source })
    }
}

impl Dataplane for Fake {
    fn audit(
        &mut self,
        _: &Topology,
        _: &[IpAddr],
        _: Option<&(NodeFacts<Addr4>, NodeFacts<Addr6>)>,
    ) -> (Repairs, Vec<Error>) {
        (Repairs::default(), self.refused(Seam::Audit, "devices").err().into_iter().collect())
    }

    fn repaired(&mut self, repairs: &Repairs) {
        self.repaired.push(repairs.to_string());
    }

    fn actual(&self) -> Result<Actual<'_>, Error> {
        self.refused(Seam::Read, "frontends4")?;
        Ok(Actual { v4: self.v4.table(), v6: self.v6.table(), names: BTreeMap::new() })
    }

    fn apply(&mut self, plan: &Plan) -> Outcome {
        self.plans += 1;
        self.writes += plan.v4.len() + plan.v6.len();
        Outcome { v4: apply(&plan.v4, &mut self.v4), v6: apply(&plan.v6, &mut self.v6) }
    }

    fn let_go(&mut self, v4: Moved<V4>, v6: Moved<V6>) {
        self.let_go.extend(v4.iter().map(|(id, servers)| (*id, servers.len())));
        self.let_go.extend(v6.iter().map(|(id, servers)| (*id, servers.len())));
    }

    fn follow(&mut self, _: &Topology, node: &[IpAddr]) -> Vec<Error> {
        if let Err(error) = self.refused(Seam::Devices, "devices") {
            return vec![error];
        }
        self.followed.push(node.to_vec());
        Vec::new()
    }

    fn set_node(&mut self, v4: &NodeFacts<Addr4>, v6: &NodeFacts<Addr6>) -> Result<(), Error> {
        self.refused(Seam::Node, "node4")?;
        self.node = Some((v4.config, v6.config));
        Ok(())
    }

    fn node_addresses(&self) -> Vec<IpAddr> {
        vec!["192.0.2.99".parse().unwrap()]
    }

    fn collect(&mut self, Serving { v4, v6 }: Serving) {
        let v4 = v4.into_iter().map(|(id, servers)| (id, servers.len()));
        self.collected.push(v4.chain(v6.into_iter().map(|(id, servers)| (id, servers.len()))).collect());
    }

    fn write_names(&self, _: Option<Roll>, _: &Planner) -> Result<Option<Roll>, Error> {
        Ok(None)
    }

    fn state(&self) -> State {
        State::default()
    }

    fn policy_actual(&self) -> Result<PolicyActual, Error> {
        self.refused(Seam::Read, "verdicts")?;
        Ok(PolicyActual {
            v4: self.v4.policies(),
            v6: self.v6.policies(),
            verdicts: self.verdicts.iter().map(|(key, page)| (*key, PageMark::of(page))).collect(),
            state: self.policy,
        })
    }

    fn judge(&mut self, writes: &[PolicyWrite]) -> Judged {
        if let Err(error) = self.v4.refused(Seam::Judge) {
            return Judged { made: 0, error: Some(error) };
        }
        let fails_at = self.fails_after.take();
        for (made, write) in writes.iter().enumerate() {
            if fails_at == Some(made) {
                return Judged { made, error: Some(io::ErrorKind::OutOfMemory.into()) };
            }
            self.judged += 1;
            match write {
                PolicyWrite::PutVerdict { key, page } => drop(self.verdicts.insert(*key, **page)),
                PolicyWrite::DeleteVerdict { key } => drop(self.verdicts.remove(key)),
                PolicyWrite::State(state) => self.policy = *state,
                PolicyWrite::V4(write) => self.v4.judge(write),
                PolicyWrite::V6(write) => self.v6.judge(write),
            }
        }
        Judged { made: writes.len(), error: None }
    }

    fn guard(&mut self, devices: &BTreeSet<u32>) -> Result<(), Error> {
        self.refused(Seam::Guard, "devices")?;
        self.guarded.push(devices.clone());
        Ok(())
    }

    fn write_policy_names(&self, names: &PolicyNames) -> Result<(), Error> {
        self.names.replace(names.clone());
        Ok(())
    }
}
