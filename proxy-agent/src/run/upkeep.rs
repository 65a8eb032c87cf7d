//! Cleaning up beside the loop: two threads that do nothing else, so that no change of a Service waits for a scan of the
//! tables. What the next collection finds anyway is no reason to try again.

use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Instant;
use std::{io, sync::Arc, thread};

use proxy_common::{V4, V6};
use proxy_model::{IpFamily, Moved};

use crate::kernel::{Caretaker, Collected, Error, LetGo, Serving};
use crate::observe::Metrics;
use crate::observe::metrics::KernelStep;

/// UDP Service ports whose clients may be with backends that serve them no more. The kernel must hold the plan that said
/// so; of a Service whose frontend could not be written, clients come back to where they were until they are told of again,
/// and no other Service's have to wait.
#[derive(Debug, Default)]
pub(super) struct Leavers {
    pub(super) v4: Moved<V4>,
    pub(super) v6: Moved<V6>,
}

/// Orders to both threads. They end with this, or with the process.
#[derive(Debug)]
pub(super) struct Upkeep {
    let_go: Sender<Leavers>,
    collect: SyncSender<Serving>,
}

impl Upkeep {
    /// Starts both; each has a caretaker of its own, because clients that are let go do not wait for a collection either.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn start(let_go: Caretaker, collect: Caretaker, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let (upkeep, leavers, ticks) = Self::channels();
        let told = metrics.clone();
        spawn("let go", move || {
            while let Some(leavers) = all_that_wait(&leavers) {
                part(&let_go, &leavers, &told);
            }
        })?;
        let (mut caretaker, told) = (collect, metrics.clone());
        spawn("collect", move || {
            loop {
                name_parties(&caretaker);
                let Ok(serving) = ticks.recv() else { break };
                match caretaker.collect(Instant::now(), &serving) {
                    Ok(removed) => told.collected(&removed),
                    Err(error) => {
                        told.kernel_refused(KernelStep::Collection, 1);
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "what is over could not be removed"
                        )
                    }
                }
            }
        })?;
        Ok(upkeep)
    }

    fn channels() -> (Self, Receiver<Leavers>, Receiver<Serving>) {
        let (let_go, leavers) = mpsc::channel();
        let (collect, ticks) = mpsc::sync_channel(1);
        (Self { let_go, collect }, leavers, ticks)
    }

    /// Lets go whom this change has moved, after those of changes before it.
    pub(super) fn let_go(&self, leavers: Leavers) {
        // The thread lives as long as the process, unless it panicked, which was said then.
        let _ = self.let_go.send(leavers);
    }

    /// Removes what is over, unless that is still going on and another order waits for it.
    pub(super) fn collect(&self, serving: Serving) {
        let _ = self.collect.try_send(serving);
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(run).map(drop)
}

/// Until it is done packets of pods cost as much as they did without it. The next tick tries again.
fn name_parties(caretaker: &Caretaker) {
    if let Err(error) = caretaker.name_parties() {
        tracing::warn!(error = &error as &dyn std::error::Error, "who has connections is not known");
    }
}

/// Waits for an order, and takes those that came in meanwhile along: of a Service that changed twice, the last word counts.
fn all_that_wait(orders: &Receiver<Leavers>) -> Option<Leavers> {
    let mut all = orders.recv().ok()?;
    for later in orders.try_iter() {
        all.v4.extend(later.v4);
        all.v6.extend(later.v6);
    }
    Some(all)
}

fn part(caretaker: &Caretaker, leavers: &Leavers, metrics: &Metrics) {
    let Leavers { v4, v6 } = leavers;
    if !v4.is_empty() {
        tell(IpFamily::Ipv4, Instant::now(), caretaker.let_go(v4, &Moved::<V6>::new()), metrics);
    }
    if !v6.is_empty() {
        tell(IpFamily::Ipv6, Instant::now(), caretaker.let_go(&Moved::<V4>::new(), v6), metrics);
    }
}

fn tell(family: IpFamily, began: Instant, (gone, result): (LetGo, Result<(), Error>), metrics: &Metrics) {
    if let Err(error) = result {
        metrics.kernel_refused(KernelStep::Collection, 1);
        tracing::warn!(error = &error as &dyn std::error::Error, "not all UDP clients could be moved");
    }
    let LetGo { flows, half_open, sockets } = gone;
    metrics.let_go(family, began.elapsed(), flows + half_open);
    metrics.collected(&Collected { flows, half_open, affinity: 0 });
    if gone != LetGo::default() {
        tracing::info!(%family, flows, half_open, sockets, "moved UDP clients of backends that are gone");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::TryRecvError;

    use proxy_common::{Addr4, Port, ServiceId};

    use super::*;

    fn leavers(service: u32, ports: &[u16]) -> Leavers {
        let servers = ports.iter().map(|port| (Addr4::default(), Port::new(*port))).collect();
        Leavers { v4: [(ServiceId(service), servers)].into(), v6: Moved::<V6>::new() }
    }

    #[test]
    fn whoever_gives_an_order_waits_for_nobody_and_the_last_word_counts() {
        // Nobody takes orders here: both threads are in the middle of something.
        let (upkeep, orders, ticks) = Upkeep::channels();
        for (service, ports) in [(1, &[1_u16, 2][..]), (2, &[3]), (1, &[2])] {
            upkeep.let_go(leavers(service, ports));
        }
        (0..3).for_each(|_| upkeep.collect(Serving::default()));
        let all = all_that_wait(&orders).unwrap();
        let ports =
            |service| all.v4[&ServiceId(service)].iter().map(|(_, port)| port.number()).collect::<Vec<_>>();
        assert_eq!((ports(1), ports(2)), (vec![2], vec![3]));
        assert!(ticks.try_recv().is_ok());
        assert_eq!(ticks.try_recv().err(), Some(TryRecvError::Empty), "one is enough");
    }
}
