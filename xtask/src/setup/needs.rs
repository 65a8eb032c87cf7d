//! The table of needs, cheapest and most fundamental first. A line more here is all that a new need takes.

use super::{Need, Weight, compiler, disk, linker, machine};

pub(super) const NEEDS: &[Need] = &[
    Need { name: "root", weight: Weight::Required, packaged: false, look: machine::root },
    Need { name: "kernel", weight: Weight::Required, packaged: false, look: machine::kernel },
    Need { name: "kernel BTF", weight: Weight::Required, packaged: false, look: machine::btf },
    Need { name: "cgroup2", weight: Weight::Required, packaged: false, look: machine::cgroup2 },
    Need { name: "bpffs", weight: Weight::Required, packaged: false, look: machine::bpffs },
    Need { name: "iproute2", weight: Weight::Required, packaged: true, look: machine::iproute2 },
    Need { name: "BPF compiler", weight: Weight::Required, packaged: true, look: compiler::look },
    Need { name: "bpf-linker", weight: Weight::Required, packaged: true, look: linker::look },
    Need { name: "disk room", weight: Weight::For("all of the tests"), packaged: false, look: disk::look },
    Need { name: "Go", weight: Weight::For("the cluster tests"), packaged: false, look: machine::go },
    Need {
        name: "pod tools",
        weight: Weight::For("the upstream suite"),
        packaged: true,
        look: machine::pod_tools,
    },
    Need {
        name: "rule tools",
        weight: Weight::For("measuring against kube-proxy"),
        packaged: true,
        look: machine::rule_tools,
    },
    Need {
        name: "emulator",
        weight: Weight::For("other kernels (`cargo xtask kernels`)"),
        packaged: true,
        look: machine::emulator,
    },
    Need {
        name: "browser",
        weight: Weight::For("the test of `proxyctl report` in a browser"),
        packaged: true,
        look: machine::browser,
    },
    Need {
        name: "image tools",
        weight: Weight::For("`cargo xtask image`"),
        packaged: true,
        look: machine::image_tools,
    },
    Need {
        name: "clippy for BPF",
        weight: Weight::For("linting the kernel programs for BPF"),
        packaged: true,
        look: compiler::clippy,
    },
    Need {
        name: "cargo-deny",
        weight: Weight::For("the check of licences"),
        packaged: false,
        look: machine::deny,
    },
];
