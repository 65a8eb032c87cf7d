//! Builds `proxy-ebpf` for `bpfel-unknown-none` and checks the object before anybody embeds it.
//!
//! ```text
//! toolchain ─► linker ─► compile ─► object (refuse) ─► OUT_DIR/sluice.o
//! ```
//!
//! `proxy-agent/build.rs` calls [`Script::run`]; `cargo xtask setup` asks the same [`toolchain`] and [`linker`]
//! what is missing, so that the remedy it applies is the one the build would have named.
//! It does not know what the programs do, and it does not load them.

pub mod compile;
mod error;
pub mod linker;
pub mod object;
pub mod toolchain;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

pub use error::Error;

use crate::compile::Job;

/// Names a prebuilt object: it is checked and copied, and no BPF toolchain is needed.
pub const PREBUILT: &str = "SLUICE_BPF_OBJECT";

/// What a build script asks for: one binary target of one eBPF crate.
#[derive(Debug, Clone)]
pub struct Script<'a> {
    /// The eBPF crate's directory.
    pub crate_dir: &'a Path,
    /// Further directories whose sources end up in the object (path dependencies of the eBPF crate).
    pub sources: &'a [&'a Path],
    /// The binary target; the object is left in `OUT_DIR` as `<bin>.o`.
    pub bin: &'a str,
    /// Features of the eBPF crate.
    pub features: &'a [&'a str],
}

impl Script<'_> {
    /// Runs as a build script: writes `OUT_DIR/<bin>.o`, or tells cargo why not, one `error:` line per line of the message.
    pub fn run(&self) {
        self.watch();
        if let Err(error) = self.build() {
            // `cargo::error` fails the build without the dump of everything this script printed.
            for line in error.to_string().lines() {
                println!("cargo::error={line}");
            }
        }
    }

    fn watch(&self) {
        for name in [PREBUILT, toolchain::OVERRIDE, linker::OVERRIDE, "PATH"] {
            println!("cargo::rerun-if-env-changed={name}");
        }
        for dir in self.sources.iter().chain([&self.crate_dir]) {
            for part in ["src", "Cargo.toml", "Cargo.lock"] {
                let path = dir.join(part);
                // Naming a file that is not there makes cargo run the script at every build.
                if path.exists() {
                    println!("cargo::rerun-if-changed={}", path.display());
                }
            }
        }
        if let Some(object) = env::var_os(PREBUILT) {
            println!("cargo::rerun-if-changed={}", Path::new(&object).display());
        }
    }

    fn build(&self) -> Result<(), Error> {
        let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(Error::NotABuildScript)?);
        let object = match env::var_os(PREBUILT) {
            Some(path) => PathBuf::from(path),
            None => Job {
                crate_dir: self.crate_dir,
                bin: self.bin,
                features: self.features,
                target_dir: &target_dir(&out),
                toolchain: &toolchain::find()?,
                linker: &linker::find()?,
            }
            .run()?,
        };
        let bytes = fs::read(&object).map_err(|source| Error::Object { path: object.clone(), source })?;
        object::check(&bytes)?;
        let bytes = object::without_dwarf(&bytes)?;
        let copy = out.join(format!("{}.o", self.bin));
        fs::write(&copy, bytes).map_err(|source| Error::Object { path: copy, source })
    }
}

/// One directory for all profiles: `check`, `build` and `build --release` of the agent embed the same object,
/// so it is compiled once. Cargo marks the root of its target directory with `CACHEDIR.TAG`.
fn target_dir(out: &Path) -> PathBuf {
    out.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()).unwrap_or(out).join("bpf")
}
