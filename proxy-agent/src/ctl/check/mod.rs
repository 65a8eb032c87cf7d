//! `proxyctl check`: what a user runs after installing, or when something is odd. Looks at the node, the programs, the agent and
//! the maps, opens a few connections, and changes nothing. Each finding that is not well says what to do next.

mod agent;
mod finding;
mod node;
mod programs;
mod rivals;
mod room;
mod service;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Args;

use self::finding::{CheckPage, Finding};
use super::output::{Format, print};
use super::reader::Reader;
use crate::kernel::Topology;
use crate::kernel::netlink;

/// What `proxyctl check` looks at.
#[derive(Args, Debug, Clone)]
pub struct CheckArgs {
    /// Connect to this Service instead of default/kubernetes
    #[arg(long, value_name = "NS/NAME[:PORT]")]
    pub service: Option<String>,
    /// Where the agent serves its health
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10256")]
    pub healthz: SocketAddr,
}

/// Looks at everything.
///
/// # Errors
/// When something has failed: the list is printed then already.
pub(super) fn run(bpf_root: &Path, args: &CheckArgs, format: Format) -> anyhow::Result<String> {
    let page = page(bpf_root, args);
    let text = format.one(&page)?;
    if page.failures == 0 {
        return Ok(text);
    }
    print(&text).context("standard output")?;
    bail!("{} of {} checks failed", page.failures, page.findings.len())
}

/// What is to be said.
pub(super) fn page(bpf_root: &Path, args: &CheckArgs) -> CheckPage {
    CheckPage::of(findings(bpf_root, args))
}

fn findings(bpf_root: &Path, args: &CheckArgs) -> Vec<Finding> {
    let topology = topology();
    let reader = Reader::open(bpf_root);
    let (programs, devices) = match (&reader, &topology) {
        (Ok(reader), Ok(topology)) => {
            let unread = |error| (vec![unread("programs", &error)], Vec::new());
            programs::findings(reader, topology).unwrap_or_else(unread)
        }
        (Ok(_), Err(error)) => (vec![unread("programs", error)], Vec::new()),
        (Err(_), _) => (Vec::new(), Vec::new()),
    };
    let mut findings = node::findings(bpf_root, &devices);
    findings.extend(rivals::findings());
    findings.extend(programs);
    match &reader {
        Ok(reader) => {
            findings.extend(agent::findings(reader, args.healthz));
            findings.extend(room::findings(reader).unwrap_or_else(|error| vec![unread("maps", &error)]));
            let services = service::findings(reader, args.service.as_deref());
            findings.extend(services.unwrap_or_else(|error| vec![unread("services", &error)]));
        }
        Err(error) => {
            let next = "see that the DaemonSet's pod runs on this node, and that --bpf-root is the agent's";
            findings.push(Finding::fail("maps", format!("{error:#}"), next));
        }
    }
    findings
}

fn unread(area: &'static str, error: &anyhow::Error) -> Finding {
    Finding::fail(area, format!("cannot be looked at: {error:#}"), "run as root")
}

/// The network as it is at this moment.
fn topology() -> anyhow::Result<Topology> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let receiver = runtime.block_on(netlink::follow()).context("the node's devices cannot be read")?;
    let topology = receiver.borrow().clone();
    Ok(topology)
}
