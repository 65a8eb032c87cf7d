//! What a running agent takes, by /proc, and what its log says about when it did what.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

/// Memory, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Memory {
    /// Resident, but for `mapped`.
    pub own: u64,
    /// Of that, heap and stacks. The rest are pages of its program.
    pub heap: u64,
    /// Arrays of the kernel's maps that it has mapped: the kernel counts them here as well as among its maps.
    pub mapped: u64,
    /// The most that was ever resident, `mapped` included.
    pub peak: u64,
    /// Of the maps that it holds open, as the kernel accounts them.
    pub maps: u64,
}

/// Reads it.
///
/// # Errors
/// The process is gone.
pub fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the agent is gone")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").trim().parse::<u64>().ok()
    };
    let bytes = |name: &str| field(name).unwrap_or_default() * 1_024;
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let number =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse::<u64>().ok();
        if let (Some(id), Some(size)) = (number("map_id:"), number("memlock:")) {
            maps.insert(id, size);
        }
    }
    let mapped = mapped(&fs::read_to_string(format!("/proc/{pid}/smaps"))?);
    Ok(Memory {
        own: bytes("VmRSS").saturating_sub(mapped),
        heap: bytes("RssAnon"),
        mapped,
        peak: bytes("VmHWM"),
        maps: maps.values().sum(),
    })
}

/// Bytes of mappings of maps, by the text of `smaps`.
fn mapped(text: &str) -> u64 {
    let mut is_map = false;
    let mut sum = 0;
    for line in text.lines() {
        match line.strip_prefix("Rss:") {
            Some(size) if is_map => {
                sum += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1_024;
            }
            Some(_) => {}
            // The first line of a mapping begins with its addresses, all others with a name and a colon.
            None if line.split(' ').next().is_some_and(|word| !word.ends_with(':')) => {
                is_map = line.ends_with("anon_inode:bpf-map");
            }
            None => {}
        }
    }
    sum
}

/// When the agent came how far in its start, in seconds of the log's clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Start {
    /// It began.
    pub began: f64,
    /// The programs were loaded and attached.
    pub loaded: f64,
    /// What the kernel held was taken over.
    pub adopted: f64,
    /// The last of the lists was decoded.
    pub listed: f64,
    /// The first full plan was in the kernel.
    pub serving: f64,
}

impl Start {
    /// Reads the last start in a log that was written with `proxy_agent::source=debug`; `None` until it is over.
    #[must_use]
    pub fn of(log: &str) -> Option<Self> {
        let lines: Vec<(f64, &str)> = log.lines().filter_map(stamped).collect();
        let first = lines.iter().rposition(|(_, line)| line.contains(" starting "))?;
        let last =
            |text: &str| lines[first..].iter().rev().find(|(_, line)| line.contains(text)).map(|(at, _)| *at);
        let listed = ["\"Service\"", "\"EndpointSlice\"", "\"Node\""].map(|kind| {
            let said =
                lines[first..].iter().find(|(_, line)| line.contains(" listed ") && line.contains(kind));
            said.map(|(at, _)| *at)
        });
        Some(Self {
            began: lines[first].0,
            loaded: last("the programs are loaded and attached")?,
            adopted: last("took over what the kernel holds")?,
            listed: listed.into_iter().try_fold(0.0, |latest: f64, at| Some(latest.max(at?)))?,
            serving: last("the first full plan is made")?,
        })
    }
}

/// A line with its time of day.
fn stamped(line: &str) -> Option<(f64, &str)> {
    let (time, rest) = line.split_once("Z ")?;
    let mut parts = time.split_once('T')?.1.split(':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some((hours * 3_600.0 + minutes * 60.0 + seconds, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_maps_are_told_from_others() {
        let text = "7f00-7f01 rw-s 00000000 00:10 12 anon_inode:bpf-map\nSize: 8 kB\nRss: 8 kB\n\
            7f02-7f03 rw-p 00000000 00:00 0 \nRss: 100 kB\n7f04-7f05 r--s 0 00:10 12 anon_inode:bpf-map\nRss: 4 kB\n";
        assert_eq!(mapped(text), 12 * 1_024);
    }

    #[test]
    fn the_last_start_in_a_log_is_read_once_it_is_over() {
        let log = "2026-01-01T00:00:00.5Z  INFO starting version=\"0\"\n\
            2026-01-01T00:00:09.0Z  INFO the first full plan is made kept=0\n\
            2026-01-01T00:01:00.5Z  INFO starting version=\"0\"\n\
            2026-01-01T00:01:01.5Z  INFO the programs are loaded and attached\n\
            2026-01-01T00:01:01.6Z  INFO took over what the kernel holds frontends=0\n\
            2026-01-01T00:01:01.7Z DEBUG listed kind=\"Node\" objects=1\n\
            2026-01-01T00:01:02.7Z DEBUG listed kind=\"EndpointSlice\" objects=1\n\
            2026-01-01T00:01:02.5Z DEBUG listed kind=\"Service\" objects=1\n";
        assert_eq!(Start::of(log), None);
        let over = format!("{log}2026-01-01T00:01:02.75Z  INFO the first full plan is made kept=0\n");
        let start = Start { began: 60.5, loaded: 61.5, adopted: 61.6, listed: 62.7, serving: 62.75 };
        assert_eq!(Start::of(&over), Some(start));
    }
}
