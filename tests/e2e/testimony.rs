//! What a cluster looks like at the moment at which a test of it fails, for whoever was not there: what the API server says, and
//! what the agents' maps and counters do. Asserts nothing, and what cannot be asked is said instead of the answer.

use std::fmt::Write as _;

use sluice_lab::binary::Program;
use tests::cluster::Cluster;

const API: [&str; 2] = ["get pods,services,endpointslices -o wide", "get --raw=/readyz"];
const AGENT: [&[&str]; 4] = [&["status"], &["service", "get", "default/web"], &["drops"], &["counter"]];

/// All of it, in sections.
pub(crate) fn of(cluster: &Cluster) -> String {
    let mut text = String::new();
    let mut section = |name: &str, said: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "--- {name}\n{}", said.trim_end());
    };
    let kubectl = cluster.kubectl();
    for question in API {
        section(
            &format!("kubectl {question}"),
            &kubectl.run(question).unwrap_or_else(|error| format!("{error:#}")),
        );
    }
    section("what the pod runner could not do", &cluster.troubles().join("\n"));
    for node in cluster.lab().topology().nodes {
        for words in AGENT {
            let said = proxyctl(cluster, &node.name, words).unwrap_or_else(|error| format!("{error:#}"));
            section(&format!("{}: proxyctl {}", node.name, words.join(" ")), &said);
        }
    }
    text
}

fn proxyctl(cluster: &Cluster, node: &str, words: &[&str]) -> anyhow::Result<String> {
    let lab = cluster.lab();
    let program = Program::Agent.find()?.with_file_name("proxyctl");
    let mut command = lab.node(node)?.command(&program.to_string_lossy())?;
    let output = command.args(words).arg("--bpf-root").arg(lab.node_bpf_root(node)).output()?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
