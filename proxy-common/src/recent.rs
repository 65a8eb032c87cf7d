//! What was judged a moment ago: whoever opens connection after connection to the same port of the same peer is judged
//! once, until the agent writes to a map of policies. Knows where such a judgement stands, nothing of rules.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::addr::{Addr4, Addr6, Address, Port, Proto};
use crate::flow::FlowKey;
use crate::limits::RECENT;

word! {
    /// What was found about a connection. A denial is never noted: each one is counted under its rule.
    #[derive(Debug)]
    pub struct Finding(pub u8);
}

impl Finding {
    /// Nothing yet: the slot is empty.
    pub const NONE: Self = Self(0);
    /// Neither end is under a policy.
    pub const FREE: Self = Self(1);
    /// The rules of both ends let it pass.
    pub const ALLOWED: Self = Self(2);
}

word! {
    /// At whose hook the connection was judged, and so whose addresses were looked at beside the rules.
    #[derive(Debug)]
    pub struct Judge(pub u32);
}

impl Judge {
    /// A hook that no pod sends by.
    pub const ELSEWHERE: Self = Self(0);

    /// The hook of the device with this index, by which the client sends.
    #[inline(always)]
    #[must_use]
    pub const fn of_client(device: u32) -> Self {
        Self(device)
    }

    /// The same, by which the server answers.
    #[inline(always)]
    #[must_use]
    pub const fn of_server(device: u32) -> Self {
        Self(device | 1 << 31)
    }
}

/// Value of the `recent` maps, by [`slot`]. What it says holds as long as the `policywrites` map holds the number `writes`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Recent<A> {
    /// The client.
    pub src: A,
    /// The server, behind a Service the backend.
    pub dst: A,
    /// The server's port.
    pub port: Port,
    /// Protocol.
    pub proto: Proto,
    /// What was found.
    pub finding: Finding,
    /// Where.
    pub judge: Judge,
    /// Writes to the maps of policies before it was judged.
    pub writes: u32,
}

impl<A: Address> Recent<A> {
    /// What is known of the connection of `key`, of which the client's port does not count.
    #[inline(always)]
    pub fn recall(&self, key: &FlowKey<A>, judge: Judge, writes: u32) -> Finding {
        let is_it = self.writes == writes
            && self.judge == judge
            && self.src == key.src
            && self.dst == key.dst
            && self.port == key.dport
            && self.proto == key.proto;
        if is_it { self.finding } else { Finding::NONE }
    }

    /// Notes a finding; `writes` is what the count was before anything was looked up for it.
    #[inline(always)]
    pub fn note(&mut self, key: &FlowKey<A>, judge: Judge, writes: u32, finding: Finding) {
        (self.src, self.dst, self.port, self.proto) = (key.src, key.dst, key.dport, key.proto);
        (self.judge, self.writes, self.finding) = (judge, writes, finding);
    }
}

/// Where the judgement about the connection of `key` stands: below [`RECENT`]. Two connections may share a place; then the
/// last one has it.
#[inline(always)]
pub fn slot<A: Address>(key: &FlowKey<A>) -> u32 {
    /// 2^64 divided by the golden ratio: products with it differ in their upper bits.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (src, dst) = (key.src.to_words(), key.dst.to_words());
    let mut mix = (key.dport.wire() as u64) << 8 | key.proto.0 as u64;
    for (src, dst) in src.iter().zip(&dst).take(A::WORDS) {
        let both = (*src as u64) << 32 | *dst as u64;
        mix = (mix.rotate_left(29) ^ both).wrapping_mul(SPREAD);
    }
    (mix >> (64 - RECENT.trailing_zeros())) as u32
}

const _: () = assert!(RECENT.is_power_of_two());
const _: () = assert!(size_of::<Recent<Addr4>>() == 20);
const _: () = assert!(size_of::<Recent<Addr6>>() == 44);

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    const WRITES: u32 = 7;

    fn key<A: Address>(src: IpAddr, dst: IpAddr) -> FlowKey<A> {
        let of = |ip| A::from_ip(ip).unwrap();
        FlowKey::new(of(src), Port::new(40_000), of(dst), Port::new(80), Proto::TCP)
    }

    fn key4(host: u8) -> FlowKey<Addr4> {
        key(Ipv4Addr::new(10, 1, 0, host).into(), Ipv4Addr::new(10, 2, 0, 1).into())
    }

    #[test]
    fn what_was_found_holds_for_other_ports_of_the_client_and_for_nothing_else() {
        let key = key4(1);
        let judge = Judge::of_client(10);
        let mut recent = Recent::default();
        assert_eq!(recent.recall(&key, judge, WRITES), Finding::NONE);
        recent.note(&key, judge, WRITES, Finding::ALLOWED);
        let again = FlowKey { sport: Port::new(1), ..key };
        assert_eq!(recent.recall(&again, judge, WRITES), Finding::ALLOWED);
        let others = [
            (key4(2), judge, WRITES),
            (FlowKey { dst: key.src, ..key }, judge, WRITES),
            (FlowKey { dport: Port::new(81), ..key }, judge, WRITES),
            (FlowKey { proto: Proto::UDP, ..key }, judge, WRITES),
            (key, Judge::ELSEWHERE, WRITES),
            (key, Judge::of_client(11), WRITES),
            (key, Judge::of_server(10), WRITES),
            (key, judge, WRITES + 1),
        ];
        for (key, judge, writes) in others {
            assert_eq!(recent.recall(&key, judge, writes), Finding::NONE, "{key:?} {judge:?} {writes}");
        }
    }

    #[test]
    fn an_empty_slot_says_nothing_about_the_connection_of_zeros() {
        let nothing = FlowKey::<Addr4>::default();
        assert_eq!(Recent::default().recall(&nothing, Judge::ELSEWHERE, 0), Finding::NONE);
    }

    #[test]
    fn the_peers_of_a_pod_have_places_of_their_own() {
        let mut taken = [[0_u32; RECENT as usize]; 2];
        for host in 0..=u8::MAX {
            let v6 = |net, host| IpAddr::V6(Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, host));
            taken[0][slot(&key4(host)) as usize] += 1;
            taken[1][slot(&key::<Addr6>(v6(1, 1), v6(2, host.into()))) as usize] += 1;
        }
        for taken in taken {
            let lost: u32 = taken.iter().map(|count| count.saturating_sub(1)).sum();
            // As many as of a hash that knows nothing: 256 in 1,024 places lose 29 or so.
            assert!(lost < 60, "{lost} of 256 share a place");
        }
    }
}
