//! Policy verdicts as the kernel holds them: which rules a local pod is under, what class a remote address is in, and
//! what the rules say about the class.
//!
//! ```text
//! policed   pod's address ──► rule sets of both directions
//! peers     remote address ─┐
//! blocks    its prefix      ├─► class ─┐
//!           (else the world)┘          ├─► verdicts: pages of port intervals
//! policed ──────────────► rule set ────┘
//! ```
//!
//! Ids are digests of what they stand for. So what a rule set says about a class never changes under its key: pages are
//! written before anything names them, and deleted after nothing does any more. Nothing here knows a selector, a policy
//! or a name.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Proto;
use crate::limits;

word! {
    /// All rules that a pod is under in one direction, with the policies that they are from: a digest of them.
    #[derive(Debug)]
    pub struct RuleSetId(pub u64);
}

word! {
    /// Remote addresses that every rule set in use treats alike: a digest of what they have in common.
    #[derive(Debug)]
    pub struct PeerClass(pub u64);
}

word! {
    /// The rule that decided: a digest of its policy's name, its direction and its place.
    #[derive(Debug)]
    pub struct RuleId(pub u64);
}

impl RuleSetId {
    /// Under no policy in this direction: everything passes.
    pub const OPEN: Self = Self(0);
    /// What the rules are is not known yet, or there was no room for them: nothing passes. Has no pages.
    pub const CLOSED: Self = Self(u64::MAX);
}

impl PeerClass {
    /// Of every address without a class of its own.
    pub const WORLD: Self = Self(0);
}

impl RuleId {
    /// No rule says anything: what isolation denies, or what nobody forbids.
    pub const NONE: Self = Self(0);
}

/// Value of the `policed` maps, by the address of a local pod. A pod without an entry is under no policy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Policed {
    /// As without the feature, in another place.
    #[cfg(feature = "layout-next")]
    pub device: u32,
    /// Always zero.
    #[cfg(feature = "layout-next")]
    pub pad: u32,
    /// Rules about what it sends.
    pub egress: RuleSetId,
    /// Rules about what it gets.
    pub ingress: RuleSetId,
    /// Index of the device that it is behind; zero if that is not known. What comes by another with its address is
    /// forged.
    #[cfg(not(feature = "layout-next"))]
    pub device: u32,
    /// Always zero.
    #[cfg(not(feature = "layout-next"))]
    pub pad: u32,
}

word! {
    /// What a rule says.
    #[derive(Debug)]
    pub struct Effect(pub u8);
}

impl Effect {
    /// The packet is dropped.
    pub const DENY: Self = Self(0);
    /// The packet passes this direction.
    pub const ALLOW: Self = Self(1);
}

/// What becomes of a packet in one direction, and by which rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Ruling {
    /// The rule; [`RuleId::NONE`] if none says anything.
    pub by: RuleId,
    /// What it says.
    pub effect: Effect,
}

/// Some ports of a protocol, about which one rule decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Interval {
    /// The rule.
    pub by: RuleId,
    /// First port. Not in network order: it is compared.
    pub first: u16,
    /// Last port. Not in network order.
    pub last: u16,
    /// Protocol: TCP, UDP or SCTP.
    pub proto: Proto,
    /// What the rule says.
    pub effect: Effect,
    /// Always zero.
    pub pad: [u8; 2],
}

impl Interval {
    /// What is said about its ports.
    #[inline(always)]
    pub const fn ruling(&self) -> Ruling {
        Ruling { by: self.by, effect: self.effect }
    }

    /// Whether a port is one of its own.
    #[inline(always)]
    pub const fn is_around(&self, proto: Proto, port: u16) -> bool {
        self.proto.0 == proto.0 && self.first <= port && port <= self.last
    }

    #[inline(always)]
    fn is_before(&self, proto: Proto, port: u16) -> bool {
        self.proto.0 < proto.0 || self.proto == proto && self.last < port
    }

    #[inline(always)]
    fn is_behind(&self, proto: Proto, port: u16) -> bool {
        self.proto.0 > proto.0 || self.proto == proto && self.first > port
    }
}

/// Key of the `verdicts` map.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct VerdictKey {
    /// What rules.
    pub rules: RuleSetId,
    /// About whom.
    pub peer: PeerClass,
    /// Number of the page, from zero.
    pub page: u32,
    /// Always zero.
    pub pad: u32,
}

impl VerdictKey {
    /// A page of what `rules` say about `peer`.
    #[inline(always)]
    pub const fn new(rules: RuleSetId, peer: PeerClass, page: u32) -> Self {
        Self { rules, peer, page, pad: 0 }
    }
}

/// Value of the `verdicts` map: intervals in the order of protocol and port, none overlapping another, over as many pages
/// as they need; each page but the last is full. A rule set without pages about a class denies it everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VerdictPage {
    /// The rule about what no interval names: other ports and protocols, ICMP among them. The same on each page.
    pub otherwise: RuleId,
    /// Pages that there are, at least one. The same on each page.
    pub pages: u16,
    /// Intervals of this page.
    pub count: u8,
    /// What `otherwise` says.
    pub effect: Effect,
    /// Always zero.
    pub pad: [u8; 4],
    /// The first `count` of them.
    pub intervals: [Interval; limits::PAGE_INTERVALS],
}

/// What one page knows about a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place<'a> {
    /// It decides.
    Here(&'a Interval),
    /// All its intervals are behind the port.
    Earlier,
    /// All its intervals are before the port.
    Later,
    /// Between its intervals.
    Nowhere,
}

impl VerdictPage {
    /// What is said about everything that no interval names.
    #[inline(always)]
    pub const fn rest(&self) -> Ruling {
        Ruling { by: self.otherwise, effect: self.effect }
    }

    #[inline(always)]
    fn find(&self, proto: Proto, port: u16) -> Place<'_> {
        let mut place = Place::Earlier;
        for (number, interval) in self.intervals.iter().enumerate() {
            if number >= self.count as usize || interval.is_behind(proto, port) {
                return place;
            }
            if !interval.is_before(proto, port) {
                return Place::Here(interval);
            }
            place = if number + 1 == self.count as usize { Place::Later } else { Place::Nowhere };
        }
        place
    }
}

/// What a rule set says about a port of a class of peers; see [`decide_around`].
#[inline(always)]
pub fn decide<'a>(page: impl Fn(u32) -> Option<&'a VerdictPage>, proto: Proto, port: u16) -> Ruling {
    decide_around(page, proto, port).ruling()
}

/// What a rule set says about a port of a class of peers, and about those beside it: the interval that names it, or the port
/// alone. `page` looks a page up. `port` is not in network order, and zero for protocols without ports.
///
/// One lookup, unless there are more than [`limits::PAGE_INTERVALS`] intervals; then as many as a search by halves takes.
#[inline(always)]
pub fn decide_around<'a>(page: impl Fn(u32) -> Option<&'a VerdictPage>, proto: Proto, port: u16) -> Interval {
    let alone = |Ruling { by, effect }| Interval { by, first: port, last: port, proto, effect, pad: [0; 2] };
    let Some(first) = page(0) else { return alone(Ruling::default()) };
    match first.find(proto, port) {
        Place::Here(interval) => return *interval,
        Place::Later if first.pages > 1 => {}
        Place::Earlier | Place::Later | Place::Nowhere => return alone(first.rest()),
    }
    let (mut low, mut high) = (1, first.pages as u32);
    for _ in 0..limits::PAGE_STEPS {
        if low >= high {
            break;
        }
        let middle = low + (high - low) / 2;
        // A page that is missing among others is a broken map.
        let Some(found) = page(middle) else { return alone(Ruling::default()) };
        match found.find(proto, port) {
            Place::Here(interval) => return *interval,
            Place::Earlier => high = middle,
            Place::Later => low = middle + 1,
            Place::Nowhere => break,
        }
    }
    alone(first.rest())
}

word! {
    /// Which parts of the policy maps are in use.
    #[derive(Debug)]
    pub struct PolicyFlags(pub u32);
}

impl PolicyFlags {
    /// `blocks4` has entries.
    pub const BLOCKS4: Self = Self(1);
    /// `blocks6` has entries.
    pub const BLOCKS6: Self = Self(2);
    /// Somebody reads `notices`.
    pub const WATCHED: Self = Self(4);
}

bits!(PolicyFlags);

/// Value of the `policy` map: one entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PolicyState {
    /// Counts changes after which established connections are judged again; zero: there is no policy.
    pub epoch: u32,
    /// What is in use.
    pub flags: PolicyFlags,
}

/// Key of the `denials` map: who denied. With [`RuleId::NONE`] it was the isolation that the rule set stands for.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct DenialKey {
    /// The rules that were asked.
    pub rules: RuleSetId,
    /// The one that denied.
    pub by: RuleId,
}

/// What is told through the `notices` ring while somebody listens: the end of a packet, or of a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Notice {
    /// Nanoseconds since the node's boot.
    pub at: u64,
    /// The rules that decided; [`RuleSetId::OPEN`] if no policy did.
    pub rules: RuleSetId,
    /// The rule.
    pub by: RuleId,
    /// Source address; IPv4 in the first word. Of the packet as it came in.
    pub src: [u32; 4],
    /// Destination address as the rules saw it, behind a Service that of the backend.
    pub dst: [u32; 4],
    /// Index of the hook's device.
    pub device: u32,
    /// Source port.
    pub sport: crate::addr::Port,
    /// Destination port.
    pub dport: crate::addr::Port,
    /// Protocol.
    pub proto: Proto,
    /// Number of the [`crate::Reason`].
    pub reason: u8,
    /// 4 or 6.
    pub family: u8,
    /// Always zero.
    pub pad: u8,
    /// Bytes of the packet.
    pub length: u32,
}

const _: () = assert!(size_of::<Policed>() == 24);
const _: () = assert!(size_of::<VerdictKey>() == 24);
const _: () = assert!(size_of::<Interval>() == 16);
const _: () = assert!(size_of::<VerdictPage>() == 16 + 16 * limits::PAGE_INTERVALS);
const _: () = assert!(size_of::<Notice>() == 72);

#[cfg(test)]
mod tests;
