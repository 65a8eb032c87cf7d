//! The table of steps, cheapest first. A line more here is all that a new step takes.

use std::fmt;

use crate::setup::INSTALL_DENY;

/// When a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tier {
    /// Always.
    Fast,
    /// Not with `--fast`.
    Full,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) tier: Tier,
    pub(super) action: Action,
}

/// What a step does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    /// Cargo in the workspace.
    Cargo(&'static [&'static str]),
    /// A verb of cargo on `proxy-ebpf`, for the host, and its further arguments.
    Kernel(&'static str, &'static [&'static str]),
    /// Clippy for the kernel programs.
    KernelLint,
    /// Another verb of xtask.
    Xtask(&'static [&'static str]),
    /// The fixture runner over this folder and those in `SLUICE_FIXTURES`.
    Cases(&'static str),
    /// `cargo deny`, which is installed if need be. Without advisories: they are news, not a property of the commit, and need a network.
    Deny,
}

/// Work that may begin long before the step that needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Errand {
    pub(super) name: &'static str,
    /// The step that waits for it.
    pub(super) before: &'static str,
    pub(super) command: &'static [&'static str],
}

use Action::{Cargo, Cases, Deny, Kernel, KernelLint, Xtask};
use Tier::{Fast, Full};

const LINT: &[&str] = &["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"];
/// Without the packages whose tests need the programs in the kernel, namespaces or a cluster: they have their own steps.
const UNIT: &[&str] =
    &["test", "--no-fail-fast", "--workspace", "--exclude", "tests", "--exclude", "sluice-lab"];

/// The agent that upgrades go to: beside the one of every day, whose dependencies it shares.
const NEXT: &[&str] = &[
    "build",
    "-p",
    "proxy-agent",
    "-p",
    "sluice-lab",
    "--features",
    "proxy-agent/layout-next",
    "--bin",
    "proxy-agent-next",
    "--bin",
    "proxyctl-next",
];

/// A target of the package `tests` is asked for with `--workspace`: naming the package would build its dependencies
/// once more, with the few features that it alone needs.
pub(super) const STEPS: &[Step] = &[
    Step { name: "format", tier: Fast, action: Cargo(&["fmt", "--all", "--check"]) },
    Step { name: "kernel format", tier: Fast, action: Kernel("fmt", &["--check"]) },
    Step { name: "tidy", tier: Fast, action: Xtask(&["tidy"]) },
    Step { name: "abi", tier: Fast, action: Xtask(&["abi"]) },
    Step { name: "reasons", tier: Fast, action: Xtask(&["reasons"]) },
    Step { name: "lint", tier: Full, action: Cargo(LINT) },
    Step { name: "kernel lint", tier: Full, action: KernelLint },
    Step {
        name: "build",
        tier: Fast,
        action: Cargo(&["build", "-p", "proxy-agent", "-p", "sluice-lab", "--bins"]),
    },
    Step { name: "unit", tier: Fast, action: Cargo(UNIT) },
    Step {
        name: "rig",
        tier: Full,
        action: Cargo(&[
            "test",
            "--no-fail-fast",
            "--workspace",
            "--lib",
            "--",
            "apiserver::",
            "cluster::",
            "upstream::",
            "peer::",
        ]),
    },
    Step { name: "kernel unit", tier: Fast, action: Kernel("test", &["--no-fail-fast"]) },
    Step {
        name: "packets",
        tier: Fast,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "packets"]),
    },
    Step {
        name: "fuzz",
        tier: Full,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "fuzz"]),
    },
    Step {
        name: "worlds",
        tier: Full,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "worlds"]),
    },
    Step {
        name: "sockets",
        tier: Fast,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "socket"]),
    },
    Step { name: "lab", tier: Fast, action: Cargo(&["test", "--no-fail-fast", "-p", "sluice-lab"]) },
    Step { name: "demo", tier: Full, action: Xtask(&["demo"]) },
    Step {
        name: "life",
        tier: Full,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "life"]),
    },
    Step {
        name: "disaster",
        tier: Full,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "disaster"]),
    },
    Step {
        name: "soak",
        tier: Full,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "soak"]),
    },
    Step { name: "next layout", tier: Full, action: Cargo(NEXT) },
    Step {
        name: "upgrade",
        tier: Full,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "upgrade"]),
    },
    Step {
        name: "policy",
        tier: Full,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "policy"]),
    },
    Step {
        name: "masquerade matrix",
        tier: Full,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "masquerade_matrix"]),
    },
    Step {
        name: "north",
        tier: Full,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "north"]),
    },
    Step { name: "fixtures", tier: Full, action: Cases("tests/fixtures") },
    Step { name: "manifests", tier: Full, action: Xtask(&["manifests"]) },
    Step { name: "licences", tier: Full, action: Deny },
    Step {
        name: "cluster",
        tier: Full,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "cluster"]),
    },
    Step {
        name: "migration",
        tier: Full,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "migration"]),
    },
    Step {
        name: "deployment",
        tier: Full,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "deploy"]),
    },
    Step {
        name: "rolling update",
        tier: Full,
        action: Cargo(&["test", "--no-fail-fast", "--workspace", "--test", "rolling"]),
    },
    Step {
        name: "benches run",
        tier: Full,
        action: Xtask(&["bench", "connect", "--smoke", "--folder", "target/bench/smoke"]),
    },
    Step {
        name: "upstream sockets",
        tier: Full,
        action: Xtask(&["e2e", "--again", "--road", "socket", "--focus", UPSTREAM_SOCKETS]),
    },
    Step {
        name: "upstream packets",
        tier: Full,
        action: Xtask(&["e2e", "--again", "--road", "packet", "--focus", UPSTREAM_PACKETS]),
    },
];

/// A handful of Kubernetes' own specs, each of a few seconds; `cargo xtask e2e` runs all.
const UPSTREAM_SOCKETS: &str = "hairpin back to themselves|rejected when no endpoints exist|preserve source pod IP|\
    the ports exposed by restartable init|affinity work for service with type clusterIP";
const UPSTREAM_PACKETS: &str = "hairpin back to themselves|externalTrafficPolicy=Local for type=NodePort|ExternalIP when|\
    health check node port if there are only|affinity work for NodePort";

pub(super) const AHEAD: &[Errand] = &[
    Errand { name: "control plane build", before: "cluster", command: &["bash", "tests/cluster/build.sh"] },
    Errand {
        name: "upstream suite build",
        before: "upstream sockets",
        command: &["bash", "tests/cluster/build.sh", "suite"],
    },
    Errand { name: "licence checker build", before: "licences", command: INSTALL_DENY },
];

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fast => "fast",
            Self::Full => "full",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cargo(args) => write!(f, "cargo {}", args.join(" ")),
            Self::Kernel(verb, args) => write!(f, "cargo {verb} {} (proxy-ebpf)", args.join(" ")),
            Self::KernelLint => write!(f, "clippy for the BPF target"),
            Self::Xtask(args) => write!(f, "cargo xtask {}", args.join(" ")),
            Self::Cases(folder) => write!(f, "cargo xtask fixtures {folder} $SLUICE_FIXTURES"),
            Self::Deny => write!(f, "cargo deny check licenses bans sources"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target that nobody runs proves nothing.
    #[test]
    fn every_target_of_the_package_tests_has_a_step() {
        let manifest = include_str!("../../../tests/Cargo.toml");
        let targets = manifest.split("[[test]]").skip(1).filter_map(|target| target.split('"').nth(1));
        for target in targets {
            let runs = |step: &Step| matches!(step.action, Cargo(args) if args.contains(&target));
            assert!(STEPS.iter().any(runs), "no step runs {target}");
        }
    }

    #[test]
    fn every_errand_has_a_step_that_waits_for_it() {
        for errand in AHEAD {
            assert!(STEPS.iter().any(|step| step.name == errand.before), "{}", errand.name);
        }
    }
}
