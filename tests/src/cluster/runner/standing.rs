//! One Pod that stands: its sandbox, and the task that follows its processes from the first listening socket to the last exit.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::{join_all, select_all};
use kube::Client;
use rustix::process::{Pid, Signal, kill_process};
use sluice_lab::Protocol;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Floor;
use super::listening::all_open;
use super::report::Report;
use super::sandbox::Sandbox;
use super::workload::Workload;

/// A process that does not open its ports within this time will not.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// What the processes of a Pod are to do. Goes up only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Run,
    Terminate,
    Die,
}

/// A Pod, from its first sight until its object is gone.
pub(super) struct Standing {
    pub(super) uid: String,
    /// `None` when it could not be made.
    sandbox: Option<Sandbox>,
    order: watch::Sender<Order>,
}

/// A process and the ports by which it is known to serve.
struct Member {
    name: String,
    child: Child,
    ports: Vec<(Protocol, u16)>,
}

impl Standing {
    /// Makes the place of a Pod and starts its processes; the rest is reported by a task as it happens.
    pub(super) fn set_up(
        floor: &Floor,
        client: Client,
        workload: &Workload,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let report = Report::new(client, workload, floor.journal.clone());
        let (order, orders) = watch::channel(Order::Run);
        let begin = Instant::now();
        let sandbox = match make(floor, workload) {
            Ok((sandbox, members)) => {
                let took = begin.elapsed().as_millis();
                let Workload { key, node, .. } = workload;
                floor
                    .journal
                    .note(&format!("pod {key} stands on {node}, {} processes, {took} ms", members.len()));
                tasks.spawn(follow(sandbox.clone(), members, report, orders));
                Some(sandbox)
            }
            Err(error) => {
                tasks.spawn(tell_failure(report, format!("{error:#}"), orders));
                None
            }
        };
        Self { uid: workload.uid.clone(), sandbox, order }
    }

    /// The Pod was deleted: its processes get SIGTERM, once.
    pub(super) fn terminate(&self) {
        self.order
            .send_if_modified(|order| std::mem::replace(order, (*order).max(Order::Terminate)) != *order);
    }

    /// Its processes are killed, and nothing more is reported.
    pub(super) fn die(&self) {
        self.order.send_replace(Order::Die);
    }

    /// The object is gone: kills what is left and removes the place.
    ///
    /// # Errors
    /// Something of the place does not go.
    pub(super) fn clear(self, floor: &Floor) -> Result<()> {
        self.die();
        self.sandbox.map_or(Ok(()), |sandbox| sandbox.remove(&floor.lab))
    }
}

async fn tell_failure(report: Report, why: String, mut orders: watch::Receiver<Order>) {
    tokio::select! {
        _ = orders.wait_for(|order| *order == Order::Die) => {}
        () = report.broken(&why) => {}
    }
}

fn make(floor: &Floor, workload: &Workload) -> Result<(Sandbox, Vec<Member>)> {
    let sandbox = Sandbox::make(&floor.lab, workload)?;
    let start = |process: &super::workload::Process| {
        let child = sandbox.start(process, &floor.binary, &floor.logs);
        let child = child.with_context(|| format!("container {}", process.name))?;
        Ok(child.map(|child| Member { name: process.name.clone(), child, ports: process.ports.clone() }))
    };
    match workload.processes.iter().filter_map(|process| start(process).transpose()).collect() {
        Ok(members) => Ok((sandbox, members)),
        Err(error) => {
            // The first error is the one to tell; what is left of the place goes with the lab.
            let _ = sandbox.remove(&floor.lab);
            Err(error)
        }
    }
}

/// Follows the processes of a Pod until the last one has ended and is reaped.
async fn follow(
    sandbox: Sandbox,
    mut members: Vec<Member>,
    report: Report,
    mut orders: watch::Receiver<Order>,
) {
    let life = live(&sandbox, &mut members, &report, orders.clone());
    tokio::select! {
        biased;
        _ = orders.wait_for(|order| *order == Order::Die) => {}
        () = life => return,
    }
    for member in &mut members {
        // One that has ended needs no killing.
        let _ = member.child.kill().await;
    }
}

async fn live(
    sandbox: &Sandbox,
    members: &mut [Member],
    report: &Report,
    mut orders: watch::Receiver<Order>,
) {
    let run = async {
        match wait_until_listening(members).await {
            Ok(()) => report.running(sandbox).await,
            Err(why) => return report.broken(&why).await,
        }
        let why = first_exit(members).await;
        report.broken(&why).await;
    };
    let terminate = async {
        // The sender is gone only when the Pod is cleared away, after the order to die.
        let _ = orders.wait_for(|order| *order >= Order::Terminate).await;
    };
    tokio::pin!(terminate);
    tokio::select! {
        () = &mut terminate => {}
        () = run => terminate.await,
    }
    end(members, report).await;
}

/// Waits for every declared port.
async fn wait_until_listening(members: &mut [Member]) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    for member in members {
        loop {
            if let Ok(Some(status)) = member.child.try_wait() {
                return Err(format!("container {} ended: {status}", member.name));
            }
            if member.child.id().is_some_and(|pid| all_open(pid, &member.ports)) {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("container {} does not listen on {:?}", member.name, member.ports));
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

/// Waits until one process has ended by itself; for ever, if there is none.
async fn first_exit(members: &mut [Member]) -> String {
    if members.is_empty() {
        return std::future::pending().await;
    }
    let exit = |member| Box::pin(exit_of(member));
    select_all(members.iter_mut().map(exit)).await.0
}

async fn exit_of(member: &mut Member) -> String {
    match member.child.wait().await {
        Ok(status) => format!("container {} ended: {status}", member.name),
        Err(error) => format!("container {}: {error}", member.name),
    }
}

/// SIGTERM to all, and word to the API when all have ended. Who stays is killed when the object goes.
async fn end(members: &mut [Member], report: &Report) {
    report.terminating();
    for member in &*members {
        let pid = member.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // The child is not waited for yet, so the number is still its own; that it has ended is no error.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    join_all(members.iter_mut().map(exit_of)).await;
    report.ended().await;
}
