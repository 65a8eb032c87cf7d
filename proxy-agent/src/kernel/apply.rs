//! Makes the writes of a plan, strictly in their order, long runs of frontends in one system call each. A write
//! that fails stops nothing but the frontends that would point at slots which were not written.

use std::{io, ops::Range};

use proxy_common::{Family, Frontend, FrontendKey, Segment};
use proxy_model::{Plan, Planner, Served, Write};

use super::io::MapIo;

/// Longest run of frontends in one call: bounds the time in the kernel to some milliseconds.
const RUN: usize = 4_096;

/// A write that was not made.
#[derive(Debug)]
pub struct Failure {
    /// Its index in the plan's writes of the family.
    pub index: usize,
    /// Why; `None` for a frontend that was not tried because its slots were not written.
    pub error: Option<io::Error>,
}

/// What became of the writes of one family.
#[derive(Debug, Default)]
pub struct Made {
    /// Frontends inserted or replaced.
    pub written: usize,
    /// Frontends deleted.
    pub deleted: usize,
    /// Slots filled.
    pub slots: usize,
    /// Source ranges inserted or deleted.
    pub ranges: usize,
    /// Writes that were not made, in the order of the plan.
    pub failures: Vec<Failure>,
}

/// What became of a plan.
#[derive(Debug, Default)]
#[must_use = "failed writes must be told to the planner"]
pub struct Outcome {
    /// IPv4.
    pub v4: Made,
    /// IPv6.
    pub v6: Made,
}

impl Outcome {
    /// Every write was made.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.v4.failures.is_empty() && self.v6.failures.is_empty()
    }

    /// Tells the planner what was not made of its last plan; the next plan tries it again.
    pub fn report(&self, plan: &Plan, planner: &mut Planner) {
        fn each<F: Served>(made: &Made, plan: &Plan, planner: &mut Planner) {
            for write in made.failures.iter().filter_map(|failure| F::writes(plan).get(failure.index)) {
                planner.failed(write);
            }
        }
        each::<proxy_common::V4>(&self.v4, plan, planner);
        each::<proxy_common::V6>(&self.v6, plan, planner);
        planner.written();
    }
}

/// Makes the writes of one family.
pub fn apply<F: Family>(writes: &[Write<F>], io: &mut impl MapIo<F>) -> Made {
    let mut made = Made::default();
    let mut broken: Vec<Range<u64>> = Vec::new();
    let mut next = 0;
    while let Some(write) = writes.get(next) {
        match write {
            Write::Slots { start, slots } => {
                match io.write_slots(*start, slots) {
                    Ok(()) => made.slots += slots.len(),
                    Err(error) => {
                        broken.push(u64::from(*start)..u64::from(*start) + slots.len() as u64);
                        made.failures.push(Failure { index: next, error: Some(error) });
                    }
                }
                next += 1;
            }
            Write::PutRange { key } => next = note_range(next, io.put_range(key), &mut made),
            Write::DeleteRange { key } => next = note_range(next, io.delete_range(key), &mut made),
            Write::PutFrontend { .. } => next = put_run(writes, next, &broken, io, &mut made),
            Write::DeleteFrontend { .. } => next = delete_run(writes, next, io, &mut made),
        }
    }
    made.failures.sort_by_key(|failure| failure.index);
    made
}

/// Notes what became of a range; gives the index after it. Its frontend is written all the same: without the range it
/// serves too few, never too many.
fn note_range(index: usize, result: io::Result<()>, made: &mut Made) -> usize {
    match result {
        Ok(()) => made.ranges += 1,
        Err(error) => made.failures.push(Failure { index, error: Some(error) }),
    }
    index + 1
}

/// Makes the run of puts that begins at `first`; gives the index after it.
fn put_run<F: Family>(
    writes: &[Write<F>],
    first: usize,
    broken: &[Range<u64>],
    io: &mut impl MapIo<F>,
    made: &mut Made,
) -> usize {
    let puts = writes[first..].iter().map_while(|write| match write {
        Write::PutFrontend { key, value } => Some((*key, *value)),
        Write::Slots { .. }
        | Write::DeleteFrontend { .. }
        | Write::PutRange { .. }
        | Write::DeleteRange { .. } => None,
    });
    let run: Vec<(FrontendKey<F::Addr>, Frontend)> = puts.take(RUN).collect();
    let end = first + run.len();
    let mut whole = Vec::with_capacity(run.len());
    for (index, (key, value)) in (first..end).zip(run) {
        if [value.cluster, value.local].iter().any(|segment| overlaps(broken, *segment)) {
            made.failures.push(Failure { index, error: None });
        } else {
            whole.push((index, key, value));
        }
    }
    let keys: Vec<_> = whole.iter().map(|(_, key, _)| *key).collect();
    let values: Vec<_> = whole.iter().map(|(_, _, value)| *value).collect();
    io.publish_slots();
    let indices: Vec<_> = whole.iter().map(|(index, ..)| *index).collect();
    made.written += past_errors(&indices, made, |from| io.put_frontends(&keys[from..], &values[from..]));
    end
}

/// Makes the run of deletions that begins at `first`; gives the index after it.
fn delete_run<F: Family>(
    writes: &[Write<F>],
    first: usize,
    io: &mut impl MapIo<F>,
    made: &mut Made,
) -> usize {
    let deletions = writes[first..].iter().map_while(|write| match write {
        Write::DeleteFrontend { key } => Some(*key),
        Write::Slots { .. }
        | Write::PutFrontend { .. }
        | Write::PutRange { .. }
        | Write::DeleteRange { .. } => None,
    });
    let keys: Vec<_> = deletions.take(RUN).collect();
    let indices: Vec<_> = (first..first + keys.len()).collect();
    made.deleted += past_errors(&indices, made, |from| io.delete_frontends(&keys[from..]));
    first + keys.len()
}

/// Calls `make` with the position to go on from until all are through: an error ends a call, not the run.
/// Gives how many were made.
fn past_errors(
    indices: &[usize],
    made: &mut Made,
    mut make: impl FnMut(usize) -> (usize, io::Result<()>),
) -> usize {
    let (mut at, mut done) = (0, 0);
    while at < indices.len() {
        let (count, result) = make(at);
        done += count;
        at += count;
        if let Err(error) = result {
            made.failures.push(Failure { index: indices[at.min(indices.len() - 1)], error: Some(error) });
            at += 1;
        } else if count == 0 {
            // Neither progress nor an error: no implementation does it, and none shall hang the agent.
            break;
        }
    }
    done
}

fn overlaps(broken: &[Range<u64>], segment: Segment) -> bool {
    let (start, end) = (u64::from(segment.start), u64::from(segment.start) + u64::from(segment.len));
    broken.iter().any(|range| range.start < end && start < range.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_common::{Addr4, Backend, BackendFlags, Port, Proto, RangeKey, ServiceId, V4};
    use std::collections::{BTreeMap, BTreeSet, VecDeque};
    use std::net::Ipv4Addr;

    /// Maps in memory, and the errors that the next calls meet: each call takes one from the front.
    #[derive(Default)]
    struct Fake {
        slots: BTreeMap<u32, Backend<Addr4>>,
        frontends: BTreeMap<FrontendKey<Addr4>, Frontend>,
        /// (entries made before the error, error number) per call of `put_frontends`.
        puts: VecDeque<Option<(usize, i32)>>,
        deletes: VecDeque<Option<(usize, i32)>>,
        slot_errors: VecDeque<Option<i32>>,
        ranges: BTreeSet<RangeKey<Addr4>>,
        range_errors: VecDeque<Option<i32>>,
        calls: usize,
        unpublished: bool,
    }

    impl MapIo<V4> for Fake {
        fn write_slots(&mut self, start: u32, slots: &[Backend<Addr4>]) -> io::Result<()> {
            if let Some(Some(errno)) = self.slot_errors.pop_front() {
                return Err(io::Error::from_raw_os_error(errno));
            }
            self.unpublished = true;
            self.slots.extend((start..).zip(slots.iter().copied()));
            Ok(())
        }

        fn publish_slots(&mut self) {
            self.unpublished = false;
        }

        fn put_frontends(
            &mut self,
            keys: &[FrontendKey<Addr4>],
            values: &[Frontend],
        ) -> (usize, io::Result<()>) {
            self.calls += 1;
            assert!(!self.unpublished, "a frontend before its slots");
            let fault = self.puts.pop_front().flatten();
            let count = fault.map_or(keys.len(), |(before, _)| before);
            self.frontends.extend(keys[..count].iter().copied().zip(values.iter().copied()));
            (count, fault.map_or(Ok(()), |(_, errno)| Err(io::Error::from_raw_os_error(errno))))
        }

        fn delete_frontends(&mut self, keys: &[FrontendKey<Addr4>]) -> (usize, io::Result<()>) {
            self.calls += 1;
            let fault = self.deletes.pop_front().flatten();
            let count = fault.map_or(keys.len(), |(before, _)| before);
            self.frontends.retain(|key, _| !keys[..count].contains(key));
            (count, fault.map_or(Ok(()), |(_, errno)| Err(io::Error::from_raw_os_error(errno))))
        }

        fn put_range(&mut self, key: &RangeKey<Addr4>) -> io::Result<()> {
            if let Some(Some(errno)) = self.range_errors.pop_front() {
                return Err(io::Error::from_raw_os_error(errno));
            }
            self.ranges.insert(*key);
            Ok(())
        }

        fn delete_range(&mut self, key: &RangeKey<Addr4>) -> io::Result<()> {
            if let Some(Some(errno)) = self.range_errors.pop_front() {
                return Err(io::Error::from_raw_os_error(errno));
            }
            self.ranges.remove(key);
            Ok(())
        }
    }

    fn key(host: u8) -> FrontendKey<Addr4> {
        FrontendKey::new(Ipv4Addr::new(10, 96, 0, host).into(), Port::new(80), Proto::TCP)
    }

    fn put(host: u8, start: u32, len: u32) -> Write<V4> {
        let cluster = Segment { start, len };
        let value = Frontend { cluster, service: ServiceId(u32::from(host)), ..Frontend::default() };
        Write::PutFrontend { key: key(host), value }
    }

    fn slots(start: u32, len: u8) -> Write<V4> {
        let slot =
            |host| Backend::new(Ipv4Addr::new(10, 1, 0, host).into(), Port::new(8080), BackendFlags::LOCAL);
        Write::Slots { start, slots: (0..len).map(slot).collect() }
    }

    fn outline(made: &Made) -> (usize, usize, usize, Vec<(usize, Option<i32>)>) {
        let failures =
            made.failures.iter().map(|f| (f.index, f.error.as_ref().and_then(io::Error::raw_os_error)));
        (made.slots, made.written, made.deleted, failures.collect())
    }

    #[test]
    fn a_whole_plan_is_made_with_one_call_a_run() {
        let mut fake = Fake::default();
        let writes =
            [slots(0, 2), slots(2, 1), put(1, 0, 2), put(2, 2, 1), Write::DeleteFrontend { key: key(9) }];
        let made = apply(&writes, &mut fake);
        assert_eq!(outline(&made), (3, 2, 1, vec![]));
        assert_eq!((fake.slots.len(), fake.frontends.len(), fake.calls), (3, 2, 2));
    }

    #[test]
    fn an_error_in_the_middle_of_a_run_loses_that_write_alone() {
        let mut fake = Fake { puts: VecDeque::from([Some((1, libc::E2BIG))]), ..Fake::default() };
        let made = apply(&[put(1, 0, 0), put(2, 0, 0), put(3, 0, 0)], &mut fake);
        assert_eq!(outline(&made), (0, 2, 0, vec![(1, Some(libc::E2BIG))]));
        assert_eq!(fake.frontends.keys().copied().collect::<Vec<_>>(), [key(1), key(3)]);
    }

    #[test]
    fn every_kind_of_failure_is_reported_by_its_own_index_and_nothing_else_is_lost() {
        for errno in [libc::ENOMEM, libc::E2BIG, libc::EBUSY] {
            let mut fake = Fake {
                puts: VecDeque::from([Some((0, errno)), None]),
                deletes: VecDeque::from([Some((1, errno))]),
                ..Fake::default()
            };
            let gone = |host| Write::DeleteFrontend { key: key(host) };
            let made = apply(&[put(1, 0, 0), put(2, 0, 0), gone(3), gone(4), gone(5)], &mut fake);
            assert_eq!(outline(&made), (0, 1, 2, vec![(0, Some(errno)), (3, Some(errno))]));
        }
    }

    #[test]
    fn a_frontend_is_not_switched_to_slots_that_were_not_written() {
        let mut fake = Fake { slot_errors: VecDeque::from([Some(libc::EINVAL)]), ..Fake::default() };
        let made = apply(&[slots(0, 2), slots(2, 2), put(1, 0, 2), put(2, 2, 2), put(3, 1, 1)], &mut fake);
        assert_eq!(outline(&made), (2, 1, 0, vec![(0, Some(libc::EINVAL)), (2, None), (4, None)]));
        assert_eq!(fake.frontends.keys().copied().collect::<Vec<_>>(), [key(2)]);
    }

    #[test]
    fn a_range_that_fails_is_reported_and_its_frontend_serves_too_few() {
        let range = |len| RangeKey::new(ServiceId(1), Addr4::default(), len);
        let mut fake = Fake {
            ranges: BTreeSet::from([range(1), range(2)]),
            range_errors: VecDeque::from([Some(libc::ENOSPC), None, Some(libc::ENOMEM)]),
            ..Fake::default()
        };
        let gone = |len| Write::DeleteRange { key: range(len) };
        let writes = [
            Write::PutRange { key: range(8) },
            Write::PutRange { key: range(9) },
            put(1, 0, 0),
            gone(1),
            gone(2),
        ];
        let made = apply(&writes, &mut fake);
        assert_eq!(outline(&made), (0, 1, 0, vec![(0, Some(libc::ENOSPC)), (3, Some(libc::ENOMEM))]));
        assert_eq!((made.ranges, fake.ranges), (2, BTreeSet::from([range(1), range(9)])));
    }
}
