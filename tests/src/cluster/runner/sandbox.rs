//! Where the processes of one Pod run: a pod of the lab, or the node itself. Made, filled with processes, removed; knows nothing
//! of the API.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::system::sethostname;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use sluice_lab::process::{in_cgroup, in_netns};
use sluice_lab::{Lab, PodSpec, cgroup, netns};
use tokio::process::Child;

use super::super::binary::ClusterBinary;
use super::workload::{Network, Process, Run, Workload};

/// The place of a Pod.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    name: String,
    network: Network,
    host_name: String,
    pub(super) netns: PathBuf,
    pub(super) cgroup: PathBuf,
}

impl Sandbox {
    /// Makes the place, with the addresses that the API holds.
    ///
    /// # Errors
    /// The node is none of the lab's, an address is not in its ranges, or the machine refuses.
    pub(super) fn make(lab: &Lab, workload: &Workload) -> Result<Self> {
        let name = workload.key.in_lab();
        match workload.network {
            Network::Own => {
                let spec =
                    PodSpec { name: name.clone(), node: workload.node.clone(), ips: workload.ips.clone() };
                let place = lab.pod_add(&spec)?;
                let (netns, cgroup) = (netns::path(&place.netns), place.cgroup);
                Ok(Self { name, network: Network::Own, host_name: workload.key.name.clone(), netns, cgroup })
            }
            Network::Node => {
                let netns = netns::path(&lab.node(&workload.node)?.netns);
                let cgroup = lab.node_cgroup(&workload.node).join("pods").join(&name);
                cgroup::create(&cgroup)?;
                Ok(Self { name, network: Network::Node, host_name: workload.node.clone(), netns, cgroup })
            }
        }
    }

    /// Kills what runs here and removes the place.
    ///
    /// # Errors
    /// Something of it does not go.
    pub(super) fn remove(&self, lab: &Lab) -> Result<()> {
        match self.network {
            Network::Own => lab.pod_remove(&self.name),
            Network::Node => cgroup::remove(&self.cgroup),
        }
    }

    /// Starts the process of a container; `None` where there is nothing to run. It ends with the calling thread.
    ///
    /// # Errors
    /// The program is missing or the machine refuses.
    pub(super) fn start(
        &self,
        process: &Process,
        binary: &ClusterBinary,
        logs: &Path,
    ) -> Result<Option<Child>> {
        let (program, arguments) = match &process.run {
            Run::Agnhost(arguments) => (OsString::from(binary.program("agnhost")), arguments.as_slice()),
            Run::Machine(words) => match words.split_first() {
                Some((program, arguments)) => (program.into(), arguments),
                None => return Ok(None),
            },
            Run::Nothing => return Ok(None),
        };
        let log = logs.join(format!("{}.{}.log", self.name, process.name));
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("opening {}", log.display()))?;
        let mut command = Command::new(&program);
        command.args(arguments).envs(process.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        in_netns(&mut command, &self.netns)?;
        in_cgroup(&mut command, &self.cgroup)?;
        under_name(&mut command, &self.host_name);
        let mut command = tokio::process::Command::from(command);
        let child = command.kill_on_drop(true).spawn();
        child.map(Some).with_context(|| format!("starting {}", program.display()))
    }
}

/// Lets a command start under a host name of its own, and end with the thread that starts it.
fn under_name(command: &mut Command, name: &str) {
    let name = name.as_bytes().to_vec();
    let prepare = move || -> io::Result<()> {
        // SAFETY: only NEWUTS is unshared, which concerns neither memory nor files; the child has one thread.
        unsafe { unshare_unsafe(UnshareFlags::NEWUTS) }?;
        sethostname(&name)?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes three system calls on memory it owns; it allocates nothing and takes
    // no lock.
    unsafe { command.pre_exec(prepare) };
}
