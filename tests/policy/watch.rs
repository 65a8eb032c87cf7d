//! Connections: new ones between pairs of pods, as fast as they can be made, of which none may pass that no state allows; and
//! some that stay open, which are allowed in every state and may not break.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use sluice_lab::{Load, Outcome, Probe, Protocol};

use crate::stage::{PATIENCE, Stage};
use crate::state::{KEPT_PORT, PORT, State};

/// Over IPv4 and IPv6 by turns.
const PAIRS: [(&str, &str); 16] = [
    ("a", "b"),
    ("a", "c"),
    ("b", "d"),
    ("c", "a"),
    ("d", "b"),
    ("c", "d"),
    ("d", "e"),
    ("a", "e"),
    ("e", "b"),
    ("a", "k"),
    ("k", "c"),
    ("l", "n"),
    ("n", "l"),
    ("b", "n"),
    ("n", "a"),
    ("m", "d"),
];
/// Longer than an answer takes, shorter than the kernel's first repetition of a SYN.
const GIVE_UP: Duration = Duration::from_millis(400);
const KEPT: [(&str, &str); 4] = [("k", "l"), ("l", "k"), ("k", "m"), ("m", "l")];

/// Until when connections of a pair were allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Legal {
    Still,
    Until(SystemTime),
}

struct Pair {
    from: &'static str,
    to: &'static str,
    family: usize,
    load: Option<Load>,
    legal: Legal,
}

/// All loads.
pub(crate) struct Watch {
    pairs: Vec<Pair>,
    pub(crate) answers: u64,
}

impl Watch {
    /// Starts them in a state that is in force.
    pub(crate) fn start(stage: &Stage, state: &State) -> Self {
        let since = SystemTime::now();
        let pair = |(index, (from, to)): (usize, (&'static str, &'static str))| {
            let legal = if state.allows(from, to) { Legal::Still } else { Legal::Until(since) };
            Pair { from, to, family: index % 2, load: None, legal }
        };
        let mut watch = Self { pairs: PAIRS.into_iter().enumerate().map(pair).collect(), answers: 0 };
        watch.resume(stage, state);
        watch
    }

    /// Ends the loads of a pod that is about to go.
    pub(crate) fn pause(&mut self, pod: &str) -> Vec<String> {
        let complaints = self.complaints();
        for pair in self.pairs.iter_mut().filter(|pair| pair.from == pod) {
            if let Some(load) = pair.load.take() {
                self.answers += u64::from(load.stop().unwrap().tally.answers());
            }
        }
        complaints
    }

    /// Starts what is not running.
    pub(crate) fn resume(&mut self, stage: &Stage, state: &State) {
        for pair in self.pairs.iter_mut().filter(|pair| pair.load.is_none()) {
            let to = SocketAddr::new(state.pods[pair.to].ips[pair.family], PORT);
            let probe = Probe { timeout: GIVE_UP, concurrency: 2, ..Probe::new(Protocol::Tcp, to) };
            pair.load = Some(stage.lab.pod(pair.from).unwrap().load(&to.to_string(), &probe).unwrap());
        }
    }

    /// Another state is about to come into force: until [`Watch::settled`], what may pass on the way to it may pass.
    pub(crate) fn change(&mut self, old: &State, new: &State) {
        let may_pass = |pair: &&mut Pair| old.may_pass_on_the_way(new, pair.from, pair.to);
        for pair in self.pairs.iter_mut().filter(may_pass) {
            pair.legal = Legal::Still;
        }
    }

    /// A pod is not there since then.
    pub(crate) fn gone(&mut self, pod: &str, at: SystemTime) {
        let its = |pair: &&mut Pair| pair.from == pod || pair.to == pod;
        for pair in self.pairs.iter_mut().filter(its).filter(|pair| pair.legal == Legal::Still) {
            pair.legal = Legal::Until(at);
        }
    }

    /// This state has been in force everywhere since then.
    pub(crate) fn settled(&mut self, state: &State, at: SystemTime) {
        for pair in &mut self.pairs {
            if pair.legal == Legal::Still && !state.allows(pair.from, pair.to) {
                pair.legal = Legal::Until(at);
            }
        }
    }

    /// Connections that passed when no state allowed them.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.pairs.iter().filter_map(Pair::complaint).collect()
    }

    /// Waits until every pair that may connect has done so since then.
    pub(crate) fn await_answers(&self, since: SystemTime) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut silent: Vec<&Pair> = self.pairs.iter().filter(|pair| pair.legal == Legal::Still).collect();
        while Instant::now() < deadline && !silent.is_empty() {
            silent.retain(|pair| pair.last().is_none_or(|last| last < since));
        }
        silent
            .iter()
            .map(|pair| format!("{} -> {} is allowed and gets no answer", pair.from, pair.to))
            .collect()
    }

    /// Ends all loads.
    pub(crate) fn end(&mut self) {
        for load in self.pairs.iter_mut().filter_map(|pair| pair.load.take()) {
            self.answers += u64::from(load.stop().unwrap().tally.answers());
        }
    }
}

impl Pair {
    /// When the last attempt began that was answered.
    fn last(&self) -> Option<SystemTime> {
        let report = self.load.as_ref()?.read().unwrap();
        report.last.values().max().copied()
    }

    fn complaint(&self) -> Option<String> {
        let Legal::Until(end) = self.legal else { return None };
        let late = self.last()?.duration_since(end).ok()?;
        let Self { from, to, family, .. } = self;
        Some(format!("{from} -> {to} (address {family}) passed {late:?} after the last state that allows it"))
    }
}

/// Connections that stay open, each with a message under way all the time.
pub(crate) struct Kept {
    over: Arc<AtomicBool>,
    exchanges: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

impl Kept {
    /// Opens them.
    pub(crate) fn open(stage: &Stage, state: &State) -> Self {
        let (over, exchanges) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let ends = KEPT.iter().flat_map(|ends| [0, 1].map(|family| (*ends, family)));
        let threads = ends.map(|((from, to), family)| {
            let place = stage.lab.pod(from).unwrap();
            let probe = Probe::new(Protocol::Tcp, SocketAddr::new(state.pods[to].ips[family], KEPT_PORT));
            let id = format!("kept {}", probe.to);
            let first = place.open(&id, &probe).unwrap();
            assert!(matches!(first, Outcome::Answered(_)), "{from} -> {to}: {first:?}");
            let (over, exchanges) = (Arc::clone(&over), Arc::clone(&exchanges));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    match place.use_flow(&id, Duration::from_secs(20), 1) {
                        Ok(Outcome::Answered(_)) => exchanges.fetch_add(1, Ordering::Relaxed),
                        other => return Err(format!("{from} -> {to} (address {family}) broke: {other:?}")),
                    };
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(())
            })
        });
        Self { threads: threads.collect(), over, exchanges }
    }

    /// Those that have broken.
    pub(crate) fn broken(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Ends them; says which have broken, or how many messages were exchanged.
    pub(crate) fn end(self) -> Result<usize, Vec<String>> {
        self.over.store(true, Ordering::Relaxed);
        let ends = self.threads.into_iter().map(|thread| thread.join().unwrap());
        let broken: Vec<String> = ends.filter_map(Result::err).collect();
        if broken.is_empty() { Ok(self.exchanges.load(Ordering::Relaxed)) } else { Err(broken) }
    }
}
