//! Cleaning up beside the loop: two threads that do nothing else, so that no change of a Service waits for a scan of the
//! tables. What the next collection finds anyway is no reason to try again.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::{Duration, Instant};
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

impl Leavers {
    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Of a Service that changed twice, the last word counts.
    fn extend(&mut self, later: Self) {
        self.v4.extend(later.v4);
        self.v6.extend(later.v6);
    }
}

/// How long it is until sockets that the packet road still carries are looked at again: shorter than its entries live, and
/// so seldom that visiting each pod costs nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What the thread that lets go does next.
#[derive(Debug)]
enum Next {
    /// Lets these go.
    Part(Leavers),
    /// Looks whether those that were carried still are.
    LookAgain,
    /// Nobody gives orders any more.
    End,
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
            let mut carried = Leavers::default();
            loop {
                match next(&leavers, &carried) {
                    Next::Part(leavers) => {
                        if part(&let_go, &leavers, &told) > 0 {
                            carried.extend(leavers);
                        }
                    }
                    Next::LookAgain => {
                        if look_again(&let_go, &carried, &told) == Ok(0) {
                            carried = Leavers::default();
                        }
                    }
                    Next::End => break,
                }
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

/// Waits for an order, and takes those that came in meanwhile along; while there are sockets that are carried, not for long.
fn next(orders: &Receiver<Leavers>, carried: &Leavers) -> Next {
    let first = match carried.is_empty() {
        true => orders.recv().map_err(RecvTimeoutError::from),
        false => orders.recv_timeout(LOOK_AGAIN),
    };
    match first {
        Ok(mut all) => {
            orders.try_iter().for_each(|later| all.extend(later));
            Next::Part(all)
        }
        Err(RecvTimeoutError::Timeout) => Next::LookAgain,
        Err(RecvTimeoutError::Disconnected) => Next::End,
    }
}

/// Gives how many sockets are still carried.
fn part(caretaker: &Caretaker, leavers: &Leavers, metrics: &Metrics) -> usize {
    let Leavers { v4, v6 } = leavers;
    let mut carried = 0;
    if !v4.is_empty() {
        let began = Instant::now();
        carried += tell(IpFamily::Ipv4, began, caretaker.let_go(v4, &Moved::<V6>::new()), metrics);
    }
    if !v6.is_empty() {
        let began = Instant::now();
        carried += tell(IpFamily::Ipv6, began, caretaker.let_go(&Moved::<V4>::new(), v6), metrics);
    }
    carried
}

fn tell(
    family: IpFamily,
    began: Instant,
    (gone, result): (LetGo, Result<(), Error>),
    metrics: &Metrics,
) -> usize {
    let _ = warn_of(result, metrics);
    let LetGo { flows, half_open, sockets, carried } = gone;
    metrics.let_go(family, began.elapsed(), flows + half_open);
    metrics.collected(&Collected { flows, half_open, affinity: 0 });
    if flows + half_open + sockets > 0 {
        tracing::info!(%family, flows, half_open, sockets, "moved UDP clients of backends that are gone");
    }
    carried
}

/// Gives how many sockets are still carried, if all could be looked at.
fn look_again(caretaker: &Caretaker, carried: &Leavers, metrics: &Metrics) -> Result<usize, Unknown> {
    let (LetGo { sockets, carried, .. }, result) = caretaker.let_go_of_carried(&carried.v4, &carried.v6);
    if sockets > 0 {
        tracing::info!(sockets, "closed UDP sockets that the packet road served until they were idle");
    }
    warn_of(result, metrics).map(|()| carried)
}

/// Not all sockets could be looked at; why was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Unknown;

fn warn_of(result: Result<(), Error>, metrics: &Metrics) -> Result<(), Unknown> {
    result.map_err(|error| {
        metrics.kernel_refused(KernelStep::Collection, 1);
        tracing::warn!(error = &error as &dyn std::error::Error, "not all UDP clients could be moved");
        Unknown
    })
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
        let Next::Part(all) = next(&orders, &Leavers::default()) else { panic!("there are orders") };
        let ports =
            |service| all.v4[&ServiceId(service)].iter().map(|(_, port)| port.number()).collect::<Vec<_>>();
        assert_eq!((ports(1), ports(2)), (vec![2], vec![3]));
        assert!(ticks.try_recv().is_ok());
        assert_eq!(ticks.try_recv().err(), Some(TryRecvError::Empty), "one is enough");
    }
}
