//! What a Pod asks its node for: addresses, a network of its own or the node's, programs to run, ports they will listen on.
//! Taken from the API object once; pure.

use std::fmt;
use std::net::IpAddr;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Container, Pod};
use sluice_lab::Protocol;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl PodKey {
    /// What the Pod is called in the lab, where names are flat.
    #[must_use]
    pub fn in_lab(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whose network a Pod uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    Own,
    Node,
}

/// Whether somebody has deleted the Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    Ends,
}

/// What a container runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// The commands of the agnhost image.
    Agnhost(Vec<String>),
    /// A program of the machine, found by `PATH`.
    Machine(Vec<String>),
    /// Nothing: images are not pulled, and of this one nothing is known.
    Nothing,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) run: Run,
    /// Variables with a plain value; references are left out.
    pub(super) environment: Vec<(String, String)>,
    /// Once all of them are open, it serves.
    pub(super) ports: Vec<(Protocol, u16)>,
}

/// A Pod that has a node and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) key: PodKey,
    pub(super) uid: String,
    pub(super) node: String,
    pub(super) ips: Vec<IpAddr>,
    pub(super) network: Network,
    pub(super) fate: Fate,
    pub(super) processes: Vec<Process>,
}

/// Namespace and name of a Pod.
///
/// # Errors
/// It has none, which no API server lets pass.
pub(super) fn key_of(pod: &Pod) -> Result<PodKey> {
    let name = pod.metadata.name.clone().context("a Pod without a name")?;
    let namespace =
        pod.metadata.namespace.clone().with_context(|| format!("Pod {name} without a namespace"))?;
    Ok(PodKey { namespace, name })
}

impl Workload {
    /// What a Pod asks for; `None` before it has a node and addresses, and after it has come to its end.
    ///
    /// # Errors
    /// An address that is none.
    pub(super) fn of(pod: &Pod) -> Result<Option<Self>> {
        let key = key_of(pod)?;
        let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { return Ok(None) };
        let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let ips = status.pod_ips.as_deref().unwrap_or_default();
        let (Some(node), false, false) = (&spec.node_name, ips.is_empty(), over) else { return Ok(None) };
        let address = |ip: &str| ip.parse().with_context(|| format!("Pod {key}: podIP {ip:?}"));
        Ok(Some(Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            node: node.clone(),
            ips: ips.iter().map(|ip| address(&ip.ip)).collect::<Result<_>>()?,
            network: if spec.host_network == Some(true) { Network::Node } else { Network::Own },
            fate: if pod.metadata.deletion_timestamp.is_some() { Fate::Ends } else { Fate::Lives },
            processes: spec.containers.iter().map(process_of).collect(),
            key,
        }))
    }
}

fn process_of(container: &Container) -> Process {
    let command = container.command.clone().unwrap_or_default();
    let arguments = container.args.clone().unwrap_or_default();
    let variables = container.env.iter().flatten();
    let ports = container.ports.iter().flatten().filter_map(|port| {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            // Of other protocols it cannot be seen from outside whether somebody listens.
            Some(_) => return None,
        };
        Some((protocol, u16::try_from(port.container_port).ok()?))
    });
    Process {
        name: container.name.clone(),
        run: run_of(container.image.as_deref().unwrap_or_default(), command, arguments),
        environment: variables.filter_map(|v| Some((v.name.clone(), v.value.clone()?))).collect(),
        ports: ports.collect(),
    }
}

fn run_of(image: &str, mut command: Vec<String>, arguments: Vec<String>) -> Run {
    let is_agnhost =
        image.rsplit('/').next().is_some_and(|last| last.split([':', '@']).next() == Some("agnhost"));
    match command.first().map(String::as_str) {
        // The image's entry point is the program, `pause` its default argument.
        None if is_agnhost && arguments.is_empty() => Run::Agnhost(vec!["pause".to_owned()]),
        None if is_agnhost => Run::Agnhost(arguments),
        None => Run::Nothing,
        Some("/agnhost" | "agnhost") => {
            command.remove(0);
            command.extend(arguments);
            Run::Agnhost(command)
        }
        Some(_) => {
            command.extend(arguments);
            Run::Machine(command)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(extra: &[(&str, Value)]) -> Pod {
        let mut pod = json!({
            "metadata": {"namespace": "default", "name": "web", "uid": "u1"},
            "spec": {"nodeName": "a", "containers": [{
                "name": "c", "image": "registry.k8s.io/e2e-test-images/agnhost:2.53", "args": ["netexec", "--http-port=8080"],
                "env": [{"name": "A", "value": "b"}, {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
                "ports": [{"containerPort": 8080}, {"containerPort": 8081, "protocol": "UDP"},
                          {"containerPort": 8082, "protocol": "SCTP"}],
            }]},
            "status": {"phase": "Pending", "podIPs": [{"ip": "10.244.0.2"}, {"ip": "fd00:10:244::2"}]},
        });
        for (pointer, value) in extra {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_pod_with_node_and_addresses_is_work() {
        let strings = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            Workload::of(&pod(&[])).unwrap(),
            Some(Workload {
                key: PodKey { namespace: "default".to_owned(), name: "web".to_owned() },
                uid: "u1".to_owned(),
                node: "a".to_owned(),
                ips: vec!["10.244.0.2".parse().unwrap(), "fd00:10:244::2".parse().unwrap()],
                network: Network::Own,
                fate: Fate::Lives,
                processes: vec![Process {
                    name: "c".to_owned(),
                    run: Run::Agnhost(strings(&["netexec", "--http-port=8080"])),
                    environment: vec![("A".to_owned(), "b".to_owned())],
                    ports: vec![(Protocol::Tcp, 8080), (Protocol::Udp, 8081)],
                }],
            })
        );
    }

    #[test]
    fn a_pod_without_node_or_addresses_or_that_is_over_is_no_work() {
        for (pointer, value) in [
            ("/spec/nodeName", Value::Null),
            ("/status/podIPs", json!([])),
            ("/status/phase", json!("Succeeded")),
            ("/status/phase", json!("Failed")),
        ] {
            assert_eq!(Workload::of(&pod(&[(pointer, value)])).unwrap(), None, "{pointer}");
        }
    }

    #[test]
    fn deletion_and_host_network_are_seen() {
        let changed = [
            ("/metadata/deletionTimestamp", json!("2030-01-01T00:00:00Z")),
            ("/spec/hostNetwork", json!(true)),
        ];
        let workload = Workload::of(&pod(&changed)).unwrap().unwrap();
        assert_eq!((workload.fate, workload.network), (Fate::Ends, Network::Node));
    }

    #[test]
    fn what_runs_depends_on_image_and_command() {
        let run = |image: &str, command: &[&str], arguments: &[&str]| {
            let list = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
            run_of(image, list(command), list(arguments))
        };
        let words = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(run("agnhost", &[], &[]), Run::Agnhost(words(&["pause"])));
        assert_eq!(run("x/agnhost@sha256:0", &[], &["dns-suffix"]), Run::Agnhost(words(&["dns-suffix"])));
        assert_eq!(run("y", &["/agnhost", "connect"], &["b"]), Run::Agnhost(words(&["connect", "b"])));
        assert_eq!(run("agnhost", &["/bin/sleep"], &["9"]), Run::Machine(words(&["/bin/sleep", "9"])));
        assert_eq!(run("registry.k8s.io/pause:3.10", &[], &[]), Run::Nothing);
        assert_eq!(run("not-agnhost", &[], &["x"]), Run::Nothing);
    }
}
