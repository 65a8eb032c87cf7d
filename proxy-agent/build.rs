//! Compiles the kernel programs and leaves them in `OUT_DIR/sluice.o`, where `kernel` embeds them from.
//! What is searched, which flags are used and what is refused: see the crate `bpf-build`.

use std::path::Path;

fn main() {
    bpf_build::Script {
        crate_dir: Path::new("../proxy-ebpf"),
        sources: &[Path::new("../proxy-common")],
        bin: "sluice",
        features: if std::env::var_os("CARGO_FEATURE_LAYOUT_NEXT").is_some() {
            &["layout-next"]
        } else {
            &[]
        },
    }
    .run();
}
