//! Everything between the agent and the kernel: pinned maps and links, programs, devices, and the files beside
//! them. Knows Services by their numbers only; what is served is decided in `proxy-model`.
//!
//! ```text
//! preflight ─► lock ─► handover, migrate ─► load, onward ─► links ─► adopt  Kernel::open: once, in this order
//! pods ─► netlink ─► topology ─► devices ─► links, localaddrs, sources, devices   Kernel::follow: on every change
//! Plan ─► apply ─► io ─► map, memory ─► sys                       Kernel::apply
//! clock ─► gc, stale ─► flows, halfopen, affinity              Caretaker::collect: every ten seconds
//! parties ─► flows, halfopen                                     Caretaker::name_parties: after a start
//! moved ─► flows, halfopen; namespace, diag ─► sockets         Caretaker::let_go: after a plan that moved UDP clients
//! pins                                                            reading without an agent: proxyctl
//! watch ─► ring; rehearsal, way                                  listening and trying out: proxyctl
//! tap                                                           packets as they come and go: proxyctl
//! order, netfilter                                              who else is on the node: proxyctl
//! ```
//! A restart never leaves a gap: maps and links are pinned, and each link gets its new program in one step.

mod affinities;
pub mod apply;
pub mod audit;
pub mod blocks;
pub mod caretaker;
pub mod cleanup;
pub mod clock;
pub mod clsact;
pub mod conntrack;
pub mod counts;
pub mod devices;
pub mod diag;
pub mod drain;
pub mod drivers;
pub mod error;
mod estate;
pub mod family;
pub mod filters;
pub mod gc;
pub mod handover;
mod heir;
pub mod hook;
pub mod hooked;
pub mod io;
pub mod links;
pub mod load;
pub mod lock;
pub mod map;
pub mod memory;
pub mod mentioned;
pub mod migrate;
pub mod moved;
pub mod namespace;
pub mod netfilter;
pub mod netlink;
pub mod object;
pub mod onward;
pub mod order;
pub mod parties;
pub mod pins;
pub mod pods;
pub mod preflight;
pub mod record;
pub mod rehearsal;
pub mod remedy;
mod replacing;
mod reserve;
pub mod ring;
pub mod roll;
pub mod served;
pub mod settings;
pub mod shape;
pub mod sources;
pub mod stale;
mod start;
pub mod sys;
mod talk;
pub mod tap;
pub mod topology;
pub mod trouble;
pub mod verdicts;
pub mod watch;
pub mod way;
mod words;

use std::{collections::BTreeSet, net::IpAddr};

use proxy_common::{Addr4, Addr6, Reason, RuleSetId};
use proxy_model::policy::{PolicyActual, PolicyWrite};
use proxy_model::{Actual, NodeFacts, Plan, Planner, Table};

pub use apply::Outcome;
pub use audit::Repairs;
pub use caretaker::Caretaker;
pub use counts::Counts;
pub use error::Error;
pub use family::{MapFamily, Maps};
pub use gc::Collected;
pub use moved::LetGo;
pub use pins::{Occupancy, Pinned};
pub use record::{Record, State};
pub use settings::{
    DriverRoad, Families, PodDevices, Settings, Sizes, SocketRoad, Tallies, Tunnels, Uplinks,
};
pub use stale::Serving;
pub use topology::Topology;
pub use verdicts::Judged;

use crate::observe::policy_names::PolicyNames;

use devices::{Devices, Fastening};
use drivers::Drivers;
use handover::Handover;
use load::Programs;
use lock::Lock;
use pins::Pins;
use replacing::Replacing;
use roll::{Roll, Turn};
use start::Waiting;
use sys::Access;

/// The kernel's part of Sluice on this node, and the only writer of it while this lives. Dropping it changes
/// nothing: programs go on serving.
#[derive(Debug)]
pub struct Kernel {
    settings: Settings,
    road: SocketRoad,
    maps: Pinned,
    replacing: Replacing,
    programs: Programs,
    devices: Devices,
    drivers: Drivers,
    record: Record,
    state: State,
    found: Option<usize>,
    waiting: Option<Waiting>,
    #[expect(dead_code, reason = "held: it is released when the kernel room is")]
    lock: Lock,
}

impl Kernel {
    /// Checks the node, locks the root, loads the programs and puts them into the links that are there, and
    /// attaches the cgroup hooks. Devices follow with [`Kernel::follow`].
    ///
    /// # Errors
    /// [`Error::Preflight`] and [`Error::Locked`] change nothing. After any other error, what was served before still is.
    pub fn open(settings: &Settings) -> Result<Self, Error> {
        preflight::check(settings)?;
        let record = Record::of(&settings.run_root, &settings.bpf_root);
        let lock = Lock::take(record.dir(), &settings.bpf_root)?;
        let pins = Pins::below(&settings.bpf_root);
        parties::doubt(&pins)?;
        let handover = handover::begin(&pins)?;
        let migration = migrate::set_aside(&pins, settings)?;
        let (road, programs) = match start::load(&pins, settings) {
            Ok(loaded) => loaded,
            Err(error) => {
                migration.undo()?;
                return Err(error);
            }
        };
        migration.copy()?;
        if let Some(handover) = &handover {
            handover.copy()?;
        }
        let maps = Pinned::open(pins.clone(), Access::Write)?;
        verdicts::mention(&maps)?;
        // Before anything is attached: the agent itself connects to the API server through these programs.
        devices::first_nodes(&maps)?;
        let (handover, waiting) = match handover {
            Some(handover) if handover.is_blind() => (None, Some(Waiting { handover, followed: None })),
            handover => (handover, None),
        };
        if let Some(handover) = &handover {
            handover.cross()?;
        }
        drivers::let_go_of_other_modes(&pins, &record, settings.driver)?;
        let (road, programs, sockets, devices) = match &waiting {
            None => start::attach(&pins, settings, road, programs, &migration, &record)?,
            Some(_) => (road, programs, links::Tally::default(), 0),
        };
        migration.finish()?;
        handover.map_or(Ok(()), Handover::finish)?;
        // Filters get their programs when devices are followed.
        if waiting.is_none() && !clsact::needed() {
            maps.parties.fall_due();
        }
        let found = count(&maps)?;
        let state = start::state(found, sockets, devices, &programs);
        let kernel = Self {
            settings: settings.clone(),
            road,
            maps,
            replacing: Replacing::start(&pins)?,
            programs,
            devices: Devices::fastened(Fastening::of_kernel()),
            drivers: Drivers::default(),
            record,
            state,
            found: Some(found),
            waiting,
            lock,
        };
        kernel.record.write_state(&kernel.state)?;
        Ok(kernel)
    }

    /// Which sockets are served: the configured road, or what [`SocketRoad::Auto`] came to (`On` or `Off`).
    #[must_use]
    pub fn socket_road(&self) -> SocketRoad {
        self.road
    }

    /// What the maps hold, for [`proxy_model::Planner::adopt`]: after a start and whenever there is doubt.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn actual(&self) -> Result<Actual<'_>, Error> {
        Ok(Actual { v4: table(&self.maps.v4)?, v6: table(&self.maps.v6)?, names: self.record.names() })
    }

    /// Makes the writes of a plan. Failures are in the outcome, for [`Outcome::report`]; a family, or a frontend,
    /// that cannot be written stops no other. The first plan must come here even when it is empty: it says how
    /// much of what was found is kept.
    pub fn apply(&mut self, plan: &Plan) -> Outcome {
        if self.found == Some(0) {
            self.reserve();
        }
        let meanwhile = self.replacing.begin();
        let outcome = Outcome {
            v4: apply::apply(&plan.v4, &mut self.maps.v4),
            v6: apply::apply(&plan.v6, &mut self.maps.v6),
        };
        drop(meanwhile);
        let written = outcome.v4.written + outcome.v6.written;
        let deleted = outcome.v4.deleted + outcome.v6.deleted;
        if let Some(found) = self.found.take() {
            // Frontends after the first plan, less those that it wrote.
            let now = count(&self.maps).unwrap_or(found);
            self.state.kept = now.saturating_sub(written);
            self.state.written = written;
            self.state.deleted = deleted;
            if let Err(error) = self.record.write_state(&self.state) {
                tracing::warn!(%error, "the state of the adoption is not written down");
            }
            self.stop_waiting();
        } else {
            self.state.written_since += written;
            self.state.deleted_since += deleted;
        }
        outcome
    }

    /// What the maps of policies hold, for [`proxy_model::policy::PolicyPlanner::adopt`].
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn policy_actual(&self) -> Result<PolicyActual, Error> {
        verdicts::actual(&self.maps)
    }

    /// Makes the writes of a plan of policies, up to the first that fails.
    pub fn judge(&mut self, writes: &[PolicyWrite]) -> Judged {
        let _meanwhile = self.replacing.begin();
        verdicts::apply(writes, &self.maps)
    }

    /// Says behind which devices pods are under a policy, so that what they send with another's address is dropped.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn guard(&mut self, devices: &BTreeSet<u32>) -> Result<(), Error> {
        let _meanwhile = self.replacing.begin();
        self.devices.guard(devices, &self.maps)
    }

    /// Writes down what the ids of the policy maps stand for, and forgets what others denied.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::Map`].
    pub fn write_policy_names(&self, names: &PolicyNames) -> Result<(), Error> {
        self.maps.policy.retain(&names.rule_sets.iter().map(|set| RuleSetId(set.id.0)).collect())?;
        self.record.write_policy_names(names)
    }

    /// Attaches programs to the pods' devices and the uplinks of `topology`, lets those of devices that are gone
    /// go, and tells the programs the node's addresses and devices. `node` are the addresses the cluster knows
    /// this node by. Gives what failed; everything else was done, and the next call tries again.
    pub fn follow(&mut self, topology: &Topology, node: &[IpAddr]) -> Vec<Error> {
        if let Some(waiting) = &mut self.waiting {
            waiting.followed = Some((topology.clone(), node.to_vec()));
            return Vec::new();
        }
        let roles = topology.roles(&self.settings.uplinks, node);
        let _meanwhile = self.replacing.begin();
        let mut errors =
            self.devices.follow(&roles, topology, &self.settings.pods, &self.maps, &mut self.programs);
        let road = self.settings.driver;
        errors.extend(self.drivers.follow(road, &roles, topology, &self.maps, &self.programs));
        if self.state.xdp != self.drivers.modes() {
            self.state.xdp = self.drivers.modes();
            errors.extend(self.record.write_state(&self.state).err());
        }
        errors.extend(devices::local_addresses(&self.maps.v4, topology));
        errors.extend(devices::local_addresses(&self.maps.v6, topology));
        errors.extend(devices::sources(&self.maps.v4, &roles, topology));
        errors.extend(devices::sources(&self.maps.v6, &roles, topology));
        if errors.is_empty() {
            self.maps.parties.fall_due();
        }
        errors
    }

    /// Tells the programs the node's address and the ranges of one family. Writes only what differs.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_node(&mut self, v4: &NodeFacts<Addr4>, v6: &NodeFacts<Addr6>) -> Result<(), Error> {
        devices::set_node(&self.maps.v4, v4)?;
        devices::set_node(&self.maps.v6, v6)
    }

    /// Writes down what this agent did so far, for `proxyctl`. It is a convenience, and not worth a retry.
    pub fn write_state(&self) {
        if let Err(error) = self.record.write_state(&self.state) {
            tracing::warn!(%error, "the state of the agent is not written down");
        }
    }

    /// Writes some of the names of ids down for the next start and for `proxyctl`; gives what there is to go on with.
    ///
    /// # Errors
    /// [`Error::Path`]; [`Error::Map`] when counts of those that are gone cannot be removed.
    pub fn write_names(&self, roll: Option<Roll>, planner: &Planner) -> Result<Option<Roll>, Error> {
        let roll = roll.map_or_else(|| Roll::begin(&self.record), Ok)?;
        let rest = planner.names_after(roll.last());
        match roll.write(rest)? {
            Turn::More(roll) => Ok(Some(roll)),
            Turn::Whole => {
                // Before a number rests long enough to be given to another Service.
                self.maps.counts.retain(|id| planner.is_named(id))?;
                Ok(None)
            }
        }
    }

    /// Packets and calls by reason, since the maps were made.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn counters(&self) -> Result<Vec<(Reason, u64)>, Error> {
        self.maps.counters()
    }

    /// How full each map is. Reads every entry of every hash.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn occupancy(&self) -> Result<Vec<Occupancy>, Error> {
        self.maps.occupancy()
    }

    /// Notes what an audit has put right.
    pub fn repaired(&mut self, repairs: &Repairs) {
        for (place, count) in repairs.iter() {
            *self.state.repairs.entry(place.to_owned()).or_default() += count;
        }
        self.write_state();
    }

    /// What this agent did so far.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The maps, for reading.
    #[must_use]
    pub fn maps(&self) -> &Pinned {
        &self.maps
    }
}

fn table<F: MapFamily>(maps: &Maps<F>) -> Result<Table<'_, F>, Error> {
    let read = |source| Error::Map { verb: "read", map: F::NAMES.frontends, source };
    let frontends = maps.frontends.entries().map_err(read)?;
    let read = |source| Error::Map { verb: "read", map: F::NAMES.ranges, source };
    let ranges = maps.ranges.entries().map_err(read)?.into_iter().map(|(key, _)| key).collect();
    let slot = |index| maps.backends.read(index, 1).ok().and_then(|slots| slots.first().copied());
    Ok(Table { frontends, ranges, slot: Box::new(slot) })
}

fn count(maps: &Pinned) -> Result<usize, Error> {
    fn of<F: MapFamily>(maps: &Maps<F>) -> Result<usize, Error> {
        maps.frontends.count().map_err(|source| Error::Map { verb: "read", map: F::NAMES.frontends, source })
    }
    Ok(of(&maps.v4)? + of(&maps.v6)?)
}
