//! Pods of a running lab come and go.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use crate::lab::{Lab, create_spaces, hold};
use crate::place::{Place, PlaceKind};
use crate::state::PodState;
use crate::topology::PodSpec;
use crate::{cgroup, netns, parallel, plan, ready};

impl Lab {
    /// Adds pods to the running lab.
    ///
    /// # Errors
    /// Names the pod and the step.
    pub fn pods_add(&self, pods: &[PodSpec]) -> Result<()> {
        if pods.is_empty() {
            return Ok(());
        }
        let links = self.register(pods)?;
        let topology = self.topology();
        let mut plans = Vec::new();
        for (pod, link) in pods.iter().zip(&links) {
            let node = topology.node(&pod.node).with_context(|| format!("there is no node {}", pod.node))?;
            let name = self.id().pod_netns(&pod.node, &pod.name);
            plans.push((pod, plan::pod(&topology, node, pod, &device(*link), &name), name));
        }
        create_spaces(plans.iter().map(|(_, plan, name)| (name, &plan.space)))?;
        let mut node_lines: BTreeMap<&String, Vec<String>> = BTreeMap::new();
        for (pod, plan, _) in &plans {
            node_lines.entry(&pod.node).or_default().extend(plan.node_lines.iter().cloned());
        }
        let node_lines: Vec<_> = node_lines.into_iter().collect();
        parallel::for_each(&node_lines, |(node, lines)| netns::ip(&self.id().host_netns(node), lines))?;
        let places: Vec<Place> =
            pods.iter().zip(&links).map(|(pod, link)| self.pod_place(pod, *link)).collect();
        let work: Vec<_> = plans.iter().zip(&places).collect();
        parallel::for_each(&work, |((_, plan, name), place)| {
            netns::ip(name, &plan.space.lines)?;
            self.start_probe(place)
        })?;
        let mut signs = Vec::new();
        for (pod, place) in pods.iter().zip(&places) {
            signs.extend(ready::pod(place, &self.node(&pod.node)?));
        }
        ready::wait(signs)
    }

    /// Adds one pod to the running lab.
    ///
    /// # Errors
    /// As [`Lab::pods_add`].
    pub fn pod_add(&self, pod: &PodSpec) -> Result<Place> {
        self.pods_add(std::slice::from_ref(pod))?;
        self.pod(&pod.name)
    }

    /// Takes a pod away: its processes, its devices, its namespace.
    ///
    /// # Errors
    /// There is no such pod, or something of it does not go.
    pub fn pod_remove(&self, name: &str) -> Result<()> {
        let place = self.pod(name)?;
        let PlaceKind::Pod { node, link } = &place.kind else { return Ok(()) };
        hold(&self.places).remove(name);
        cgroup::remove(&place.cgroup)?;
        if let Some(mut child) = hold(&self.children).remove(name) {
            child.wait().with_context(|| format!("waiting for the probe of {name}"))?;
        }
        netns::ip(&self.id().host_netns(node), &[format!("link del {}", device(*link))])?;
        netns::remove(&place.netns)?;
        // It is in the way of a pod of the same name.
        fs::remove_file(&place.socket).with_context(|| format!("removing {}", place.socket.display()))?;
        let mut state = hold(&self.state);
        state.topology.pods.retain(|pod| pod.name != name);
        state.links.retain(|link| link.name != name);
        state.write()
    }

    /// Writes the pods into the state and gives each a device number.
    fn register(&self, pods: &[PodSpec]) -> Result<Vec<u32>> {
        let mut state = hold(&self.state);
        let mut topology = state.topology.clone();
        topology.pods.extend(pods.iter().cloned());
        state.topology = topology.checked()?;
        // Numbers are not used again: a program may still be going away from the old device.
        let first = state.links.iter().map(|link| link.link).max().unwrap_or(0) + 1;
        let links: Vec<u32> = (first..).take(pods.len()).collect();
        let new = pods.iter().zip(&links).map(|(pod, link)| PodState { name: pod.name.clone(), link: *link });
        state.links.extend(new);
        state.write()?;
        Ok(links)
    }
}

/// Name of a pod's device on its node.
#[must_use]
pub fn device(link: u32) -> String {
    format!("pod{link}")
}
