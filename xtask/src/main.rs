//! The verbs of the workshop: `cargo xtask VERB`. One file per verb, each with `Options` and `run`.
//!
//! It knows how to call things and what must be installed for that; it does not know what they do.

mod abi;
mod bench;
mod build;
mod child;
mod cluster_vm;
#[cfg(test)]
mod commands;
mod demo;
mod e2e;
mod fixtures;
mod fuzz;
mod golden;
mod image;
mod kernels;
mod lab;
mod manifests;
mod progress;
mod reasons;
mod rolling;
mod setup;
mod soak;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and shows Sluice", disable_help_subcommand = true)]
enum Verb {
    /// Install, or name, what is missing on this machine; does nothing when nothing is
    Setup(setup::Options),
    /// Build the agent and proxyctl with the kernel programs inside
    Build(build::Options),
    /// Show Services at work on two nodes made of network namespaces
    Demo(demo::Options),
    /// Run everything that can fail; ends with the line `N passed, N failed`
    Test(test::Options),
    /// Start, use and stop a lab of nodes, pods and clients
    Lab(lab::Options),
    /// Run folders of cases through real agents in the lab
    Fixtures(fixtures::Options),
    /// Send spoiled packets and random worlds through the real programs
    Fuzz(fuzz::Options),
    /// Update a Deployment again and again under new connections, none of which may fail
    Rolling(rolling::Options),
    /// Load and churn for as long as one likes: whether anything grows, stays or diverges
    Soak(soak::Options),
    /// Run Kubernetes' own sig-network specs against Sluice, or kube-proxy, in the lab
    E2e(e2e::Options),
    /// Measure the kernel programs
    Bench(bench::Options),
    /// Load and try all programs in kernels of other releases, in an emulated machine
    Kernels(kernels::Options),
    /// Run the manifests and the image on nodes with a real kubelet and containerd, in emulated machines
    ClusterVm(cluster_vm::Options),
    /// Check, or bless, the map layouts and generate docs/maps.md
    Abi(abi::Options),
    /// Check, or write, docs/reasons.md
    Reasons(reasons::Options),
    /// Build static binaries and an OCI image of them, without a container engine
    Image(image::Options),
    /// Check, or write, the manifests that the Helm chart makes
    Manifests(manifests::Options),
    /// Check the rules that no compiler checks: sizes, words, purity
    Tidy(tidy::Options),
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Setup(options) => setup::run(&options),
        Verb::Build(options) => build::run(&options),
        Verb::Demo(options) => demo::run(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Lab(options) => lab::run(&options),
        Verb::Fixtures(options) => fixtures::run(&options),
        Verb::Fuzz(options) => fuzz::run(&options),
        Verb::Rolling(options) => rolling::run(&options),
        Verb::Soak(options) => soak::run(&options),
        Verb::E2e(options) => e2e::run(&options),
        Verb::Bench(options) => bench::run(&options),
        Verb::Kernels(options) => kernels::run(&options),
        Verb::ClusterVm(options) => cluster_vm::run(&options),
        Verb::Abi(options) => abi::run(&options),
        Verb::Reasons(options) => reasons::run(&options),
        Verb::Image(options) => image::run(&options),
        Verb::Manifests(options) => manifests::run(&options),
        Verb::Tidy(options) => tidy::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
