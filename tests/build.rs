//! Compiles the kernel programs for the tests that load them without the agent, as the agent's own build does.

use std::path::Path;

fn main() {
    bpf_build::Script {
        crate_dir: Path::new("../proxy-ebpf"),
        sources: &[Path::new("../proxy-common")],
        bin: "sluice",
        features: &[],
    }
    .run();
}
