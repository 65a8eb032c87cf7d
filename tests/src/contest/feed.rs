//! The peers: the real kube-proxy, told of the Services by an API server, writes its rules into a contender's node and is ended;
//! the rules stay. So a peer is measured without what its process costs.
//!
//! A real API server takes minutes for ten thousand Services, and what it would say is known.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::contender::Rules;
use super::stage::Stage;
use super::world::{self, NODE};
use crate::apiserver::{ApiServer, Door, Streaming};
use crate::cluster::binary::ClusterBinary;
use crate::cluster::kube_proxy::{Files, KubeProxy, Mode, Settings};

/// What the kernel takes for nftables' rules of 10,000 Services, and as much again.
const PATIENCE: Duration = Duration::from_secs(150);
/// Both iptables are one program that goes by its name.
const TOOLS: [&str; 6] =
    ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"];

/// An API server that holds the first so many Services of the world.
pub struct Feed {
    server: ApiServer,
    binary: ClusterBinary,
    services: usize,
}

impl Feed {
    /// Starts one that is reached from the nodes of all stages, with no Service but the special ones.
    ///
    /// # Errors
    /// It does not start, or kube-proxy is not built.
    pub fn start(stages: &[Stage]) -> Result<Self> {
        let binary = ClusterBinary::build()?;
        let door = |stage: &Stage| Ok(Door::Inside(stage.lab.node(NODE)?.netns));
        let doors: Vec<Door> = stages.iter().map(door).collect::<Result<_>>()?;
        let server = ApiServer::start(&doors, Streaming::Offered)?;
        let topology = world::topology()?;
        let cidr = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": [world::SERVICE_CIDR]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        let objects = world::surroundings(&topology).into_iter().chain(world::services(&topology, 0));
        objects.chain([cidr]).try_for_each(|object| server.put(&object))?;
        Ok(Self { server, binary, services: 0 })
    }

    /// Makes it hold so many.
    ///
    /// # Errors
    /// None of note.
    pub fn grow(&mut self, services: usize) -> Result<()> {
        // Each is two objects, behind those of the special ones.
        let all = world::services(&world::topology()?, services);
        let special = all.len() - 2 * services;
        let new = all.iter().skip(special + 2 * self.services.min(services));
        new.into_iter().try_for_each(|object| self.server.put(object))?;
        self.services = self.services.max(services);
        Ok(())
    }

    /// Has kube-proxy write its rules for all Services into a stage's node, and waits until each of them is reached. Says how long
    /// the rules took, from the start of kube-proxy, which is ended.
    ///
    /// # Errors
    /// It has ended, or Services are not reached in time.
    pub fn write_rules(&self, stage: &mut Stage, rules: Rules) -> Result<Duration> {
        let began = Instant::now();
        let (mut proxy, tools) = self.start_proxy(stage, rules)?;
        let took = self.await_rules(stage, &mut proxy, began)?;
        drop(proxy);
        if rules == Rules::NftablesFlowtable {
            add_flow_table(stage)?;
        }
        // A virtual server is found by a hash.
        if let Some(tools) = tools
            && rules != Rules::Ipvs
        {
            stage.found_last(last_rule(stage, &tools.join("iptables-save"))?);
        }
        Ok(took)
    }

    /// Starts kube-proxy at a stage's node, and says in which folder its tools are.
    ///
    /// # Errors
    /// The machine refuses, or lacks the tools.
    pub fn start_proxy(&self, stage: &Stage, rules: Rules) -> Result<(KubeProxy, Option<PathBuf>)> {
        let folder = stage.lab.id().state_dir();
        let mode = match rules {
            Rules::Legacy | Rules::IptablesNft => Mode::Iptables,
            Rules::Nftables | Rules::NftablesFlowtable => Mode::Nftables,
            Rules::Ipvs => Mode::Ipvs,
        };
        let tools = match rules {
            Rules::Legacy | Rules::Ipvs => Some(tools(&folder, "xtables-legacy-multi")?),
            Rules::IptablesNft => Some(tools(&folder, "xtables-nft-multi")?),
            Rules::Nftables | Rules::NftablesFlowtable => None,
        };
        let kubeconfig = self.kubeconfig(stage)?;
        let files = Files { kubeconfig: &kubeconfig, folder: &folder, tools: tools.as_deref() };
        let proxy = KubeProxy::start(&stage.lab, NODE, &Settings::new(mode), &self.binary, &files)?;
        Ok((proxy, tools))
    }

    /// How the server is reached from a stage's node, as a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn kubeconfig(&self, stage: &Stage) -> Result<PathBuf> {
        let file = stage.lab.id().state_dir().join("feed.kubeconfig");
        self.server.write_kubeconfig(&file)?;
        Ok(file)
    }

    /// Tells everybody of an object.
    ///
    /// # Errors
    /// As [`ApiServer::put`].
    pub fn tell(&self, object: &Value) -> Result<()> {
        self.server.put(object)
    }

    /// One transaction brings all rules; the sweep over all of them is for certainty.
    fn await_rules(&self, stage: &mut Stage, proxy: &mut KubeProxy, began: Instant) -> Result<Duration> {
        while stage.reaches(vec![target(self.services - 1)], 100, 1)?.transactions == 0 {
            proxy.alive()?;
            if began.elapsed() > PATIENCE {
                bail!("kube-proxy has written no rules after {PATIENCE:?}: {}", proxy.last_words());
            }
        }
        let took = began.elapsed();
        self.sweep(stage)?;
        stage.forget_flows()?;
        Ok(took)
    }

    /// Connects to every Service.
    ///
    /// # Errors
    /// One of them is not reached.
    pub fn sweep(&self, stage: &mut Stage) -> Result<()> {
        let all = (0..self.services).map(target).collect();
        let sweep = stage.reaches(all, 1_500, 3 * self.services as u64)?;
        ensure!(sweep.failures == 0, "{:?}", sweep.first_failures);
        Ok(())
    }

    /// What takes part, for the record.
    #[must_use]
    pub fn version(&self) -> String {
        let program = self.binary.program("kube-proxy");
        let said = Command::new(program).arg("--version").output();
        said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    }
}

/// Where a Service is.
pub(super) fn target(number: usize) -> SocketAddr {
    SocketAddr::new(world::cluster_ip(number).into(), world::PORT)
}

/// A folder in which the tools of iptables are links to this program.
fn tools(folder: &Path, program: &str) -> Result<PathBuf> {
    let places = ["/usr/sbin", "/sbin", "/usr/bin"].map(|dir| Path::new(dir).join(program));
    let program = places.into_iter().find(|path| path.exists());
    let program = program.context("iptables is not installed (package iptables)")?;
    let folder = folder.join("tools");
    fs::create_dir_all(&folder)?;
    for tool in TOOLS {
        let link = folder.join(tool);
        symlink(&program, &link).with_context(|| format!("making {}", link.display()))?;
    }
    Ok(folder)
}

/// The Service whose rule is the last one in the chain that is walked: kube-proxy writes them in an order of chance.
fn last_rule(stage: &Stage, save: &Path) -> Result<usize> {
    let output = stage.lab.node(NODE)?.command(&save.to_string_lossy())?.args(["-t", "nat"]).output()?;
    ensure!(output.status.success(), "iptables-save: {}", String::from_utf8_lossy(&output.stderr).trim());
    last_in_chain(&String::from_utf8_lossy(&output.stdout)).context("no rule of a Service in KUBE-SERVICES")
}

fn last_in_chain(rules: &str) -> Option<usize> {
    let number = |line: &str| -> Option<usize> {
        let (_, rest) = line.strip_prefix("-A KUBE-SERVICES ")?.split_once("/web-")?;
        rest.split(':').next()?.parse().ok()
    };
    rules.lines().filter_map(number).next_back()
}

/// Established connections that are forwarded go into a flow table, as operators add one to nftables' rules.
fn add_flow_table(stage: &Stage) -> Result<()> {
    let pods = stage.lab.topology().pods.iter().filter(|pod| pod.node == NODE).count();
    let devices: Vec<String> =
        (1..=pods).map(|number| format!("pod{number}")).chain(["eth0".to_owned()]).collect();
    let rules = format!(
        "table ip fast {{ flowtable f {{ hook ingress priority 0; devices = {{ {} }}; }}
        chain forward {{ type filter hook forward priority 0; ct state established flow add @f; }} }}",
        devices.join(", ")
    );
    let output = stage.lab.node(NODE)?.command("nft")?.arg(rules).output()?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_of_the_chain_names_the_service() {
        let rules = "\
-A KUBE-SERVICES -d 10.97.0.3/32 -p tcp -m comment --comment \"bench/web-3:main cluster IP\" -m tcp --dport 80 -j KUBE-SVC-A
-A KUBE-SERVICES -d 10.97.0.17/32 -p tcp -m comment --comment \"bench/web-17:main cluster IP\" -m tcp --dport 80 -j KUBE-SVC-B
-A KUBE-SERVICES -d 10.96.1.2/32 -p tcp -m comment --comment \"bench/near:main cluster IP\" -m tcp --dport 80 -j KUBE-SVC-C
-A KUBE-SVC-A -d 10.97.0.9/32 -m comment --comment \"bench/web-9:main\" -j KUBE-MARK-MASQ
";
        assert_eq!(last_in_chain(rules), Some(17));
        assert_eq!(last_in_chain(""), None);
    }
}
