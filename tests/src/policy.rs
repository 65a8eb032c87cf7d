//! Policies for the packet programs of a test: rule sets, classes and pods by number and address, as an agent would write
//! them.

use std::collections::BTreeMap;

use aya::maps::{PerCpuHashMap, RingBuf};
use proxy_common::{
    Address, DeviceKind, Flow, FlowFlags, FlowKey, PeerClass, Policed, PolicyState, PrefixKey, Proto, RuleId,
    RuleSetId, V4, V6, VerdictKey, VerdictPage,
    group::{Division, Span, Tier, Whole},
    limits,
    maps::MapType,
    mentioned::Mark,
    policy::{DenialKey, Effect, Interval, Notice, PolicyFlags},
};

use crate::dataplane::Dataplane;
use crate::named::{Named, family_addr, prefix_key};
use crate::object::{self, Cell};

/// What a rule set says about some ports.
#[derive(Clone, Copy, Debug)]
pub struct Says {
    /// Protocol.
    pub proto: Proto,
    /// First and last port.
    pub ports: (u16, u16),
    /// What.
    pub effect: Effect,
    /// Which rule.
    pub by: u64,
}

/// A rule allows these ports.
#[must_use]
pub fn allow(proto: Proto, first: u16, last: u16, by: u64) -> Says {
    Says { proto, ports: (first, last), effect: Effect::ALLOW, by }
}

/// A rule denies these ports.
#[must_use]
pub fn deny(proto: Proto, first: u16, last: u16, by: u64) -> Says {
    Says { effect: Effect::DENY, ..allow(proto, first, last, by) }
}

/// One of the entries of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    /// That of the packets of whoever began it.
    Requests,
    /// The other.
    Answers,
}

/// The key of a prefix that rules name.
fn block_key<F: Named>(text: &str) -> PrefixKey<F::Addr> {
    let unscoped = prefix_key::<F>(0, text);
    Tier::key(unscoped.addr, unscoped.len())
}

impl Dataplane {
    /// Puts the pod with this address under rule sets; `device` is its veth's index, zero if it is not known.
    ///
    /// # Panics
    /// If the address is none.
    pub fn put_under(&mut self, pod: &str, egress: RuleSetId, ingress: RuleSetId, device: u32) {
        let value = Policed { egress, ingress, device, pad: 0 };
        if pod.contains(':') {
            self.put::<V6, _>(V6::POLICED, pod, value);
        } else {
            self.put::<V4, _>(V4::POLICED, pod, value);
        }
        self.note_policy_write();
        if device != 0 {
            self.add_device(device, DeviceKind::POD.with(DeviceKind::POLICED));
        }
    }

    /// Puts an address into a class.
    ///
    /// # Panics
    /// If it is none.
    pub fn class(&mut self, peer: &str, class: u64) {
        self.class_uncounted(peer, class);
        self.note_policy_write();
    }

    /// The same, but the write is not counted: what was found about the address before goes on being so.
    ///
    /// # Panics
    /// If it is none.
    pub fn class_uncounted(&mut self, peer: &str, class: u64) {
        if peer.contains(':') {
            self.put::<V6, _>(V6::PEERS, peer, PeerClass(class));
        } else {
            self.put::<V4, _>(V4::PEERS, peer, PeerClass(class));
        }
    }

    /// Puts a prefix into a class.
    ///
    /// # Panics
    /// If it is none.
    pub fn block(&mut self, prefix: &str, class: u64) {
        self.block_uncounted(prefix, class);
        self.note_policy_write();
    }

    /// The same, but the write is not counted: what was found about others of the prefix before goes on being so.
    ///
    /// # Panics
    /// If it is none.
    pub fn block_uncounted(&mut self, prefix: &str, class: u64) {
        self.block_in_trie(prefix, class);
        self.block_sooner(prefix, Some(class));
    }

    /// The first of the two writes alone: that to the map of all prefixes.
    ///
    /// # Panics
    /// If it is none.
    pub fn block_in_trie(&mut self, prefix: &str, class: u64) {
        fn put<F: Named>(dataplane: &mut Dataplane, prefix: &str, class: u64)
        where
            PrefixKey<F::Addr>: MapType,
            F::Addr: MapType,
        {
            let key = block_key::<F>(prefix);
            dataplane.divide(&key);
            object::add_prefix(dataplane.object(), F::BLOCKS, key, PeerClass(class));
        }
        if prefix.contains(':') { put::<V6>(self, prefix, class) } else { put::<V4>(self, prefix, class) }
    }

    /// The second: if the prefix is a whole group, it is found at once, and is of this class, or is not.
    ///
    /// # Panics
    /// If it is none.
    pub fn block_sooner(&mut self, prefix: &str, class: Option<u64>) {
        fn put<F: Named>(dataplane: &mut Dataplane, prefix: &str, class: Option<u64>) {
            let Some(whole) = Whole::of(&block_key::<F>(prefix)) else { return };
            let mut wholes = object::hash(dataplane.object(), "wholes");
            match class {
                Some(class) => wholes.insert(Cell(whole), Cell(PeerClass(class)), 0).expect("it fits"),
                None => wholes.remove(&Cell(whole)).expect("it was there"),
            }
        }
        if prefix.contains(':') { put::<V6>(self, prefix, class) } else { put::<V4>(self, prefix, class) }
    }

    fn put<F: Named, V: MapType>(&mut self, map: &str, addr: &str, value: V)
    where
        F::Addr: MapType,
    {
        let addr = family_addr::<F>(addr);
        self.mention(&addr);
        let mut map = object::hash::<F::Addr, V>(self.object(), map);
        map.insert(Cell(addr), Cell(value), 0).expect("an address fits");
    }

    /// Says that policies have something to say about an address.
    fn mention<A: Address>(&mut self, addr: &A) {
        let Mark { word, bits } = Mark::of(addr);
        self.set_bits("mentioned", word, bits);
    }

    /// Says that a prefix divides the addresses around it.
    fn divide<A: Address>(&mut self, prefix: &PrefixKey<A>) {
        let span = Span::of(&prefix.addr);
        self.set_bits("spans", span.word, span.bits(Division::by::<A>(prefix.len())));
    }

    fn set_bits(&mut self, map: &str, word: u32, bits: u64) {
        let mut words = object::array::<u64>(self.object(), map);
        let Cell(before) = words.get(&word, 0).expect("a word of the map");
        words.set(word, Cell(before | bits), 0).expect("a word of the map");
    }

    /// Says that a map was written which judgements depend on.
    pub(crate) fn note_policy_write(&mut self) {
        let mut writes = object::array::<u32>(self.object(), "policywrites");
        let Cell(made) = writes.get(&0, 0).expect("the count has an entry");
        writes.set(0, Cell(made.wrapping_add(1)), 0).expect("the count has an entry");
    }

    /// Says what a rule set says about a class: `says` in the order of protocol and port, and `otherwise` about the rest.
    ///
    /// # Panics
    /// If the map is full.
    pub fn say(&mut self, rules: RuleSetId, class: u64, says: &[Says], otherwise: (Effect, u64)) {
        self.say_uncounted(rules, class, says, otherwise);
        self.note_policy_write();
    }

    /// The same, but the write is not counted: what the rules said before goes on being so.
    ///
    /// # Panics
    /// If the map is full.
    pub fn say_uncounted(&mut self, rules: RuleSetId, class: u64, says: &[Says], otherwise: (Effect, u64)) {
        let chunks: Vec<&[Says]> =
            if says.is_empty() { vec![&[]] } else { says.chunks(limits::PAGE_INTERVALS).collect() };
        let pages = u16::try_from(chunks.len()).expect("few pages");
        for (number, chunk) in (0..).zip(&chunks) {
            let mut page = VerdictPage {
                otherwise: RuleId(otherwise.1),
                pages,
                count: u8::try_from(chunk.len()).expect("a page of them"),
                effect: otherwise.0,
                ..VerdictPage::default()
            };
            for (slot, Says { proto, ports: (first, last), effect, by }) in
                page.intervals.iter_mut().zip(*chunk)
            {
                *slot = Interval {
                    by: RuleId(*by),
                    first: *first,
                    last: *last,
                    proto: *proto,
                    effect: *effect,
                    pad: [0; 2],
                };
            }
            let mut verdicts = object::hash::<VerdictKey, VerdictPage>(self.object(), "verdicts");
            let key = VerdictKey::new(rules, PeerClass(class), number);
            verdicts.insert(Cell(key), Cell(page), 0).expect("a page fits");
        }
    }

    /// Sets the epoch: from now on policies are in use, and what was judged by another is judged again.
    ///
    /// # Panics
    /// If the map is another.
    pub fn enforce(&mut self, epoch: u32, flags: PolicyFlags) {
        let mut policy = object::array::<PolicyState>(self.object(), "policy");
        policy.set(0, Cell(PolicyState { epoch, flags }), 0).expect("the state has an entry");
        self.note_policy_write();
    }

    /// Removes every entry of every connection.
    ///
    /// # Panics
    /// If a map is another.
    pub fn forget_flows(&mut self) {
        self.forget::<V4>();
        self.forget::<V6>();
    }

    fn forget<F: Named>(&mut self)
    where
        FlowKey<F::Addr>: MapType,
        Flow<F::Addr>: MapType,
    {
        for map in [F::FLOWS, F::HALF_OPEN] {
            object::empty(object::hash::<FlowKey<F::Addr>, Flow<F::Addr>>(self.object(), map));
        }
    }

    /// Removes one of the two entries of every answered connection: that of its requests, or that of its answers.
    ///
    /// # Panics
    /// If a map is another.
    pub fn forget_half(&mut self, half: Half) {
        self.forget_half_of::<V4>(half);
        self.forget_half_of::<V6>(half);
    }

    fn forget_half_of<F: Named>(&mut self, half: Half)
    where
        FlowKey<F::Addr>: MapType,
        Flow<F::Addr>: MapType,
    {
        let mut map = object::hash::<FlowKey<F::Addr>, Flow<F::Addr>>(self.object(), F::FLOWS);
        let entries: Vec<_> = map.iter().map(|entry| entry.expect("flows can be listed")).collect();
        for (key, Cell(flow)) in entries {
            if flow.flags.has(FlowFlags::REPLY) == (half == Half::Answers) {
                map.remove(&key).expect("a flow can be removed");
            }
        }
    }

    /// Packets denied so far, by rule set and rule.
    ///
    /// # Panics
    /// If the map is another.
    pub fn denials(&mut self) -> BTreeMap<(RuleSetId, u64), u64> {
        let map = self.object().map_mut("denials").expect("the map of the table");
        let map: PerCpuHashMap<_, Cell<DenialKey>, u64> = map.try_into().expect("a per-CPU hash");
        map.iter()
            .map(|entry| entry.expect("denials can be listed"))
            .map(|(Cell(key), counts)| ((key.rules, key.by.0), counts.iter().sum()))
            .collect()
    }

    /// What the programs have told since the last question.
    ///
    /// # Panics
    /// If the map is another.
    pub fn notices(&mut self) -> Vec<Notice> {
        use zerocopy::FromBytes as _;
        let map = self.object().map_mut("notices").expect("the map of the table");
        let mut ring = RingBuf::try_from(map).expect("a ring");
        let mut notices = Vec::new();
        while let Some(item) = ring.next() {
            notices.push(Notice::read_from_bytes(&item).expect("a notice"));
        }
        notices
    }
}
