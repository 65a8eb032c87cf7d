//! The search for a verdict, against a count by hand.

extern crate std;
use super::*;
use std::vec::Vec;

fn interval(proto: Proto, first: u16, last: u16, by: u64) -> Interval {
    Interval { by: RuleId(by), first, last, proto, effect: Effect::ALLOW, pad: [0; 2] }
}

fn pages(intervals: &[Interval]) -> Vec<VerdictPage> {
    let count = intervals.len().div_ceil(limits::PAGE_INTERVALS).max(1);
    let mut pages = Vec::new();
    for number in 0..count {
        let mut page = VerdictPage { otherwise: RuleId(99), pages: count as u16, ..VerdictPage::default() };
        for (slot, interval) in
            page.intervals.iter_mut().zip(intervals.iter().skip(number * limits::PAGE_INTERVALS))
        {
            *slot = *interval;
            page.count += 1;
        }
        pages.push(page);
    }
    pages
}

#[test]
fn every_port_is_decided_by_its_interval_however_many_there_are() {
    for count in [0, 1, limits::PAGE_INTERVALS, limits::PAGE_INTERVALS + 1, 200] {
        // Every second port, of TCP and then of UDP.
        let of = |proto, from: u64| {
            (0..count as u64).map(move |n| interval(proto, 10 + 2 * n as u16, 10 + 2 * n as u16, from + n))
        };
        let all: Vec<_> = of(Proto::TCP, 1_000).chain(of(Proto::UDP, 2_000)).collect();
        let pages = pages(&all);
        let page = |number: u32| pages.get(number as usize);
        for (proto, from) in [(Proto::TCP, 1_000), (Proto::UDP, 2_000), (Proto::SCTP, 0), (Proto::ICMP, 0)] {
            for port in 0..=(10 + 2 * count as u16 + 3) {
                let n = port.wrapping_sub(10) / 2;
                let named = from != 0 && port >= 10 && port % 2 == 0 && usize::from(n) < count;
                let wanted = if named {
                    Ruling { by: RuleId(from + u64::from(n)), effect: Effect::ALLOW }
                } else {
                    Ruling { by: RuleId(99), effect: Effect::DENY }
                };
                assert_eq!(decide(page, proto, port), wanted, "{count} intervals, {proto:?} {port}");
            }
        }
    }
}

#[test]
fn rules_that_say_nothing_about_a_class_deny_it() {
    assert_eq!(decide(|_| None, Proto::TCP, 80), Ruling { by: RuleId::NONE, effect: Effect::DENY });
}

#[test]
fn the_bound_of_the_search_is_enough_for_every_port_on_its_own() {
    let pages = (3 * 65_536_usize).div_ceil(limits::PAGE_INTERVALS);
    assert!(pages <= usize::from(u16::MAX), "pages are counted in sixteen bits");
    assert!(1_usize << limits::PAGE_STEPS > pages, "{pages} pages");
}
