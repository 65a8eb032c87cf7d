//! The maps of a kernel in memory, asked as the programs ask them; and a node made of a world, a planner and such maps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proxy_common::group::Tier;
use proxy_common::policy::{
    Effect, PeerClass, Policed, PolicyState, RuleId, RuleSetId, Ruling, VerdictKey, VerdictPage, decide,
};
use proxy_common::{Address, Family, PrefixKey};
use proxy_model::fact::Prefix;
use proxy_model::policy::{
    AddressWrite, PageMark, PolicyActual, PolicyCapacity, PolicyPlan, PolicyPlanner, PolicyTable, PolicyWrite,
};
use proxy_model::{Event, Tick, World};

use crate::fixture::settings;
use crate::reference::Packet;

/// The maps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kernel {
    pub policed: BTreeMap<IpAddr, Policed>,
    pub peers: BTreeMap<IpAddr, PeerClass>,
    pub blocks: BTreeMap<Prefix, PeerClass>,
    pub verdicts: BTreeMap<VerdictKey, VerdictPage>,
    pub state: PolicyState,
}

fn prefix<A: Address>(key: &PrefixKey<A>) -> Prefix {
    assert_eq!(*key, Tier::key(key.addr, key.len()), "where the programs look for it");
    Prefix { addr: key.addr.to_ip(), len: key.len() }
}

fn full<K: Ord, V>(map: &BTreeMap<K, V>, key: &K, capacity: u32) -> Result<(), &'static str> {
    if map.contains_key(key) || map.len() < capacity as usize { Ok(()) } else { Err("the map is full") }
}

impl Kernel {
    /// As the kernel would: a full map refuses.
    pub fn make(&mut self, write: &PolicyWrite, capacity: PolicyCapacity) -> Result<(), &'static str> {
        match write {
            PolicyWrite::PutVerdict { key, page } => {
                full(&self.verdicts, key, capacity.verdicts)?;
                self.verdicts.insert(*key, **page);
            }
            PolicyWrite::DeleteVerdict { key } => {
                self.verdicts.remove(key);
            }
            PolicyWrite::State(state) => self.state = *state,
            PolicyWrite::V4(write) => self.address(write, capacity)?,
            PolicyWrite::V6(write) => self.address(write, capacity)?,
        }
        Ok(())
    }

    fn address<F: Family>(
        &mut self,
        write: &AddressWrite<F>,
        capacity: PolicyCapacity,
    ) -> Result<(), &'static str> {
        match write {
            AddressWrite::PutBlock { key, class } => {
                full(&self.blocks, &prefix(key), 2 * capacity.blocks)?;
                self.blocks.insert(prefix(key), *class);
            }
            AddressWrite::PutPeer { addr, class } => {
                full(&self.peers, &addr.to_ip(), 2 * capacity.peers)?;
                self.peers.insert(addr.to_ip(), *class);
            }
            AddressWrite::PutPoliced { addr, value } => {
                full(&self.policed, &addr.to_ip(), 2 * capacity.policed)?;
                self.policed.insert(addr.to_ip(), *value);
            }
            AddressWrite::DeletePoliced { addr } => {
                self.policed.remove(&addr.to_ip());
            }
            AddressWrite::DeletePeer { addr } => {
                self.peers.remove(&addr.to_ip());
            }
            AddressWrite::DeleteBlock { key } => {
                self.blocks.remove(&prefix(key));
            }
        }
        Ok(())
    }

    /// The class of an address: its own, or that of its longest prefix.
    pub fn class(&self, addr: IpAddr) -> PeerClass {
        let of_prefix = || {
            let around = self.blocks.iter().filter(|(prefix, _)| prefix.contains(addr));
            around.max_by_key(|(prefix, _)| prefix.len).map_or(PeerClass::WORLD, |(_, class)| *class)
        };
        self.peers.get(&addr).copied().unwrap_or_else(of_prefix)
    }

    /// What a rule set says about a packet to or from an address.
    pub fn ruling(&self, rules: RuleSetId, other: IpAddr, packet: &Packet) -> Ruling {
        match rules {
            RuleSetId::OPEN => Ruling { by: RuleId::NONE, effect: Effect::ALLOW },
            RuleSetId::CLOSED => Ruling { by: RuleId::NONE, effect: Effect::DENY },
            rules => {
                let class = self.class(other);
                let page = |number| self.verdicts.get(&VerdictKey::new(rules, class, number));
                decide(page, packet.proto, packet.port.number())
            }
        }
    }

    /// What both ends say: egress of the source, ingress of the destination.
    pub fn verdict(&self, packet: &Packet) -> [Ruling; 2] {
        let at = |addr| self.policed.get(&addr).copied().unwrap_or_default();
        [
            self.ruling(at(packet.src).egress, packet.dst, packet),
            self.ruling(at(packet.dst).ingress, packet.src, packet),
        ]
    }

    pub fn actual(&self) -> PolicyActual {
        fn table<F: Family>(kernel: &Kernel) -> PolicyTable<F> {
            PolicyTable {
                policed: kernel
                    .policed
                    .iter()
                    .filter_map(|(a, v)| Some((F::Addr::from_ip(*a)?, *v)))
                    .collect(),
                peers: kernel.peers.iter().filter_map(|(a, v)| Some((F::Addr::from_ip(*a)?, *v))).collect(),
                blocks: kernel
                    .blocks
                    .iter()
                    .filter_map(|(p, v)| Some((Tier::key(F::Addr::from_ip(p.addr)?, p.len), *v)))
                    .collect(),
            }
        }
        PolicyActual {
            v4: table(self),
            v6: table(self),
            verdicts: self.verdicts.iter().map(|(key, page)| (*key, PageMark::of(page))).collect(),
            state: self.state,
        }
    }
}

/// A node: facts in, maps out.
#[derive(Debug)]
pub struct Machine {
    pub world: World,
    pub planner: PolicyPlanner,
    pub kernel: Kernel,
    pub capacity: PolicyCapacity,
    pub now: Tick,
}

impl Machine {
    pub fn new(capacity: PolicyCapacity) -> Self {
        Self {
            world: World::new(settings()),
            planner: PolicyPlanner::new(capacity),
            kernel: Kernel::default(),
            capacity,
            now: Tick(1_000),
        }
    }

    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let _ = self.world.apply(event);
        }
    }

    /// Plans and writes.
    pub fn sync(&mut self) -> PolicyPlan {
        let plan = self.planner.plan(&mut self.world, self.now);
        for write in &plan.writes {
            self.kernel.make(write, self.capacity).unwrap();
        }
        plan
    }

    /// Plans and writes; after the write that `fails` names (counted from one), none is made.
    pub fn sync_until(&mut self, fails: usize) -> PolicyPlan {
        let plan = self.planner.plan(&mut self.world, self.now);
        for (number, write) in (1..).zip(&plan.writes) {
            if number < fails {
                self.kernel.make(write, self.capacity).unwrap();
            } else {
                self.planner.failed(write);
            }
        }
        plan
    }

    /// An audit looks at the maps; the last epoch is the one that is there.
    pub fn compare(&mut self) {
        self.compare_with(self.kernel.state.epoch);
    }

    /// The same, the last epoch being this one.
    pub fn compare_with(&mut self, epoch: u32) {
        self.planner.compare(self.kernel.actual(), epoch);
    }

    /// Plans until nothing rests any more.
    pub fn settle(&mut self) {
        for _ in 0..20 {
            let plan = self.sync();
            match plan.next_release {
                Some(at) => self.now = self.now.max(at),
                None if plan.writes.is_empty() => return,
                None => {}
            }
        }
        panic!("it does not come to rest");
    }

    /// The agent dies and comes back: a new world and planner over the same maps.
    pub fn restart(&mut self) {
        self.world = World::new(settings());
        self.planner = PolicyPlanner::new(self.capacity);
        self.planner.adopt(self.kernel.actual());
    }
}
