//! `proxyctl top`: who is asked for, what is lost and which connections there are, again and again on one screen, until `q`; once
//! and plainly with `--once`. Reads the maps, like everything here.

mod screen;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use proxy_common::ServiceId;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use self::screen::Screen;
use super::drops::{Counted, Shown, rate};
use super::output::Format;
use super::reader::Reader;
use super::{FlowArgs, flow};

/// How `proxyctl top` shows.
#[derive(Args, Debug, Clone)]
pub struct TopArgs {
    /// Time between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub every: u64,
    /// Prints one look, of the first interval, and ends
    #[arg(long)]
    pub once: bool,
}

/// What there was at one moment.
#[derive(Debug, Default)]
struct Look {
    /// Opened, refused and dropped connections of each Service port.
    services: BTreeMap<String, [u64; 3]>,
    lost: Counted,
    flows: Vec<flow::FlowRow>,
}

impl Look {
    fn take(reader: &Reader) -> anyhow::Result<Self> {
        let mut services: BTreeMap<String, [u64; 3]> = BTreeMap::new();
        for (id, tally) in reader.pinned.counts.tallies()? {
            if id == ServiceId::NONE {
                continue;
            }
            // Both families of a port are one line.
            let sums = services.entry(reader.label(id)).or_default();
            for (sum, one) in sums.iter_mut().zip([tally.opened, tally.refused, tally.dropped]) {
                *sum += one;
            }
        }
        let flows = flow::list(reader, &FlowArgs::default())?;
        Ok(Self { services, lost: Counted::read(reader)?, flows })
    }

    /// What to show of it, with rates since an earlier one.
    fn screen(self, earlier: Option<(Duration, &Self)>) -> Screen {
        let mut open: BTreeMap<&str, usize> = BTreeMap::new();
        for row in &self.flows {
            *open.entry(row.service()).or_default() += 1;
        }
        let since = |name: &str, now: u64| {
            let (time, then) = earlier?;
            Some(rate(now, then.services.get(name).map_or(0, |[opened, ..]| *opened), time))
        };
        let known = self.services.iter().map(|(name, sums)| (name.as_str(), *sums));
        let only_flows =
            open.keys().filter(|name| !self.services.contains_key(**name)).map(|name| (*name, [0; 3]));
        let mut services: Vec<_> = known
            .chain(only_flows)
            .map(|(name, [opened, refused, dropped])| screen::ServiceLine {
                service: name.to_owned(),
                flows: open.get(name).copied().unwrap_or(0),
                opened,
                per_second: since(name, opened),
                refused,
                dropped,
            })
            .collect();
        services.sort_by(screen::ServiceLine::order);
        let lost = earlier.map(|(time, then)| (time, &then.lost));
        let mut drops = self.lost.rows(lost, Shown::Counted);
        drops.sort_by(|one, two| two.count.cmp(&one.count).then(one.reason.cmp(two.reason)));
        Screen { services, drops, flows: self.flows.iter().map(screen::FlowLine::of).collect() }
    }
}

/// Looks until somebody has seen enough.
pub(super) fn run(bpf_root: &Path, args: &TopArgs, format: Format) -> anyhow::Result<String> {
    let every = Duration::from_secs(args.every);
    let reader = Reader::open(bpf_root)?;
    if args.once {
        let (begin, first) = (Instant::now(), Look::take(&reader)?);
        std::thread::sleep(every);
        return format.one(&Look::take(&reader)?.screen(Some((begin.elapsed(), &first))));
    }
    if !io::stdout().is_terminal() {
        bail!("standard output is no terminal; `proxyctl top --once` prints one look");
    }
    let mut terminal = ratatui::try_init().context("the terminal cannot be used")?;
    let result = follow(&mut terminal, bpf_root, every);
    ratatui::restore();
    result.map(|()| String::new())
}

fn follow(terminal: &mut ratatui::DefaultTerminal, bpf_root: &Path, every: Duration) -> anyhow::Result<()> {
    let mut before: Option<(Instant, Look)> = None;
    loop {
        // Opened anew: an agent may have exchanged a map, and names come and go.
        let reader = Reader::open(bpf_root)?;
        let (at, look) = (Instant::now(), Look::take(&reader)?);
        let earlier = before.as_ref().map(|(then, look)| (at.duration_since(*then), look));
        let kept = Look { services: look.services.clone(), lost: look.lost.clone(), flows: Vec::new() };
        let screen = look.screen(earlier);
        terminal.draw(|frame| screen.draw(frame))?;
        before = Some((at, kept));
        let next = at + every;
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            if event::poll(left)? && is_enough(&event::read()?) {
                return Ok(());
            }
            // The size may have changed.
            terminal.draw(|frame| screen.draw(frame))?;
        }
    }
}

fn is_enough(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let interrupted = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (interrupted || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn services_come_by_what_they_do_now_with_rates_since_the_earlier_look() {
        let look = |web: u64| Look {
            services: BTreeMap::from([("a/idle:http".into(), [9, 0, 0]), ("b/web:http".into(), [web, 1, 2])]),
            ..Look::default()
        };
        let first = look(10);
        let screen = look(30).screen(Some((Duration::from_secs(4), &first)));
        let lines: Vec<_> =
            screen.services.iter().map(|line| (line.service.as_str(), line.per_second)).collect();
        assert_eq!(lines, [("b/web:http", Some(5.0)), ("a/idle:http", Some(0.0))]);
        assert_eq!(look(1).screen(None).services[0].per_second, None);
    }

    #[test]
    fn q_escape_and_control_c_are_enough() {
        let key = |code, modifiers| is_enough(&Event::Key(KeyEvent::new(code, modifiers)));
        let none = KeyModifiers::NONE;
        assert!(key(KeyCode::Char('q'), none) && key(KeyCode::Esc, none));
        assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), none) && !is_enough(&Event::FocusGained));
    }
}
