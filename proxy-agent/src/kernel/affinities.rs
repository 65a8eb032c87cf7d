//! Which affinities are over, and their removal. Judging is pure, time is an argument.

use std::{collections::BTreeMap, io};

use proxy_common::{AffinityKey, AffinityValue, Frontend, ServiceId};

use super::{map::Table, pins::Pinned};

/// Whether an affinity is over: its Service has no affinity any more, or its time-out (item 97) has passed.
fn is_forgotten(value: &AffinityValue, timeout: Option<u32>, now_seconds: u32) -> bool {
    let age = now_seconds.wrapping_sub(value.seen);
    timeout.is_none_or(|timeout| age <= u32::MAX / 2 && age > timeout)
}

/// Removes those that are over; gives how many.
pub(super) fn collect(maps: &Pinned) -> io::Result<usize> {
    let now = boot_seconds();
    let mut known = Vec::new();
    maps.affinity.scan(|keys, values| known.extend(keys.iter().copied().zip(values.iter().copied())))?;
    if known.is_empty() {
        return Ok(0);
    }
    let mut timeouts = BTreeMap::new();
    maps.v4.frontends.scan(|_, frontends| note_timeouts(&mut timeouts, frontends))?;
    maps.v6.frontends.scan(|_, frontends| note_timeouts(&mut timeouts, frontends))?;
    let over = |key: &AffinityKey, value: &AffinityValue| {
        is_forgotten(value, timeouts.get(&key.service).copied(), now)
    };
    let mut removed = 0;
    for (key, _) in known.iter().filter(|(key, value)| over(key, value)) {
        removed += usize::from(remove_if_over(&maps.affinity, key, |value| over(key, value))?);
    }
    Ok(removed)
}

/// Removes an affinity if it is over; says whether it was.
///
/// It is read anew and not judged by what the scan has found: a client that comes back just after its time has another one by
/// now, which holds for its next connections. Should that happen even between the look and the removal, it is put back.
fn remove_if_over(
    table: &Table<AffinityKey, AffinityValue>,
    key: &AffinityKey,
    over: impl Fn(&AffinityValue) -> bool,
) -> io::Result<bool> {
    if !table.get(key)?.is_some_and(|value| over(&value)) {
        return Ok(false);
    }
    let Some(value) = table.take(key)? else { return Ok(false) };
    if !over(&value) {
        table.put_new(key, &value)?;
        return Ok(false);
    }
    Ok(true)
}

fn note_timeouts(timeouts: &mut BTreeMap<ServiceId, u32>, frontends: &[Frontend]) {
    for frontend in frontends.iter().filter(|frontend| frontend.affinity > 0) {
        timeouts.insert(frontend.service, frontend.affinity);
    }
}

/// `CLOCK_BOOTTIME` in seconds, as [`AffinityValue::seen`] has it.
fn boot_seconds() -> u32 {
    rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sys::RawMap;

    #[test]
    fn an_affinity_ends_with_its_time_or_its_service() {
        let value = AffinityValue { seen: 1_000, ..AffinityValue::default() };
        assert!(!is_forgotten(&value, Some(10), 1_010));
        assert!(is_forgotten(&value, Some(10), 1_011));
        assert!(is_forgotten(&value, None, 1_000));
        assert!(!is_forgotten(&value, Some(10), 999), "written after the clock was read");
    }

    #[test]
    fn a_client_that_comes_back_while_its_affinity_is_collected_keeps_the_new_one() {
        let raw = RawMap::hash(size_of::<AffinityKey>(), size_of::<AffinityValue>(), 8).unwrap();
        let table = Table::<AffinityKey, AffinityValue>::new(raw).unwrap();
        let key = AffinityKey { service: ServiceId(1), ..AffinityKey::default() };
        let at = |seen| AffinityValue { seen, ..AffinityValue::default() };
        let over = |value: &AffinityValue| is_forgotten(value, Some(10), 1_011);
        let left = || table.entries().unwrap();
        // After the scan, and after the look.
        table.put(&key, &at(1_005)).unwrap();
        assert!(!remove_if_over(&table, &key, over).unwrap());
        assert_eq!(left(), [(key, at(1_005))]);
        table.put(&key, &at(1_000)).unwrap();
        let comes_back = |value: &AffinityValue| {
            let is_over = over(value);
            if is_over {
                table.put(&key, &at(1_011)).unwrap();
            }
            is_over
        };
        assert!(!remove_if_over(&table, &key, comes_back).unwrap());
        assert_eq!(left(), [(key, at(1_011))]);
        // It stays away.
        table.put(&key, &at(1_000)).unwrap();
        assert!(remove_if_over(&table, &key, over).unwrap());
        assert!(!remove_if_over(&table, &key, over).unwrap(), "it is gone");
        assert_eq!(left(), []);
    }
}
