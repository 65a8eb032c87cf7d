//! Which affinities are over, and their removal. Judging is pure, time is an argument.

use std::{collections::BTreeMap, io};

use proxy_common::{AffinityKey, AffinityValue, Frontend, ServiceId};

use super::pins::Pinned;

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
    let over = |(key, value): &(AffinityKey, AffinityValue)| {
        is_forgotten(value, timeouts.get(&key.service).copied(), now)
    };
    let mut removed = 0;
    for (key, _) in known.iter().filter(|entry| over(entry)) {
        removed += usize::from(maps.affinity.remove(key)?);
    }
    Ok(removed)
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

    #[test]
    fn an_affinity_ends_with_its_time_or_its_service() {
        let value = AffinityValue { seen: 1_000, ..AffinityValue::default() };
        assert!(!is_forgotten(&value, Some(10), 1_010));
        assert!(is_forgotten(&value, Some(10), 1_011));
        assert!(is_forgotten(&value, None, 1_000));
        assert!(!is_forgotten(&value, Some(10), 999), "written after the clock was read");
    }
}
