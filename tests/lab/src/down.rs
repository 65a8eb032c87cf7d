//! Takes labs down by what is written of them, also the labs of processes that are gone.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};

use crate::binary::Program;
use crate::name::LabId;
use crate::process::in_netns;
use crate::state::State;
use crate::{bpffs, cgroup, netns, parallel};

/// Takes down every lab whose owner has died. A lab that does not go is reported and left for the next time.
pub fn sweep() {
    let labs = State::all().unwrap_or_else(|error| {
        eprintln!("looking for left-over labs: {error:#}");
        Vec::new()
    });
    for lab in labs.iter().filter(|lab| lab.is_orphan()) {
        if let Err(error) = take_down(lab) {
            eprintln!(
                "lab {} of process {}, which is gone, was not taken down: {error:#}",
                lab.id, lab.owner.pid
            );
        }
    }
}

/// Takes one lab down by its id.
///
/// # Errors
/// There is no such lab, or something of it does not go.
pub fn by_id(id: &LabId) -> Result<()> {
    take_down(&State::read(id)?)
}

/// Removes every trace of a lab. Each step is tried, whatever became of those before; the state goes last and only if all
/// else went, so that what is left can be found.
///
/// # Errors
/// Names the steps that failed.
pub fn take_down(state: &State) -> Result<()> {
    let mut errors = Vec::new();
    let mut step = |result: Result<()>| errors.extend(result.err().map(|error| format!("{error:#}")));
    step(cgroup::kill(&state.cgroup));
    step(clean_agents(state));
    step(bpffs::remove(&state.id.bpf_dir()));
    step(cgroup::remove(&state.cgroup));
    step(remove_namespaces(&state.id));
    if errors.is_empty() {
        let dir = state.id.state_dir();
        return fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()));
    }
    Err(anyhow!(errors.join("; ")))
}

/// Lets the product remove its own traces, on the nodes where it ran and that an earlier try has left. What it should leave
/// behind nevertheless goes with the namespaces, the cgroups and the pins.
fn clean_agents(state: &State) -> Result<()> {
    let ran = |name: &str| {
        state.id.state_dir().join("agents").join(name).exists()
            && netns::path(&state.id.host_netns(name)).exists()
    };
    let nodes: Vec<&String> =
        state.topology.nodes.iter().map(|node| &node.name).filter(|name| ran(name)).collect();
    if nodes.is_empty() {
        return Ok(());
    }
    let agent = Program::Agent.find()?;
    parallel::for_each(&nodes, |node| {
        let mut command = Command::new(&agent);
        command
            .arg("cleanup")
            .arg("--bpf-root")
            .arg(state.id.bpf_dir().join(node))
            .arg("--cgroup-root")
            .arg(state.cgroup.join(node))
            .stdin(Stdio::null());
        in_netns(&mut command, &netns::path(&state.id.host_netns(node)))?;
        let output = command.output().with_context(|| format!("starting {}", agent.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(anyhow!("cleanup on {node}: {}", said.trim())) }
    })
}

fn remove_namespaces(id: &LabId) -> Result<()> {
    for name in netns::list()?.iter().filter(|name| id.owns_netns(name)) {
        netns::remove(name)?;
    }
    Ok(())
}
