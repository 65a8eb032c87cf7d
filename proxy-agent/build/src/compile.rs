//! Runs the nested cargo that compiles an eBPF crate, cut off from the cargo that runs the build script.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, toolchain::Toolchain};

/// The target of all kernel programs: the byte order of the machines we support is little-endian.
pub const TARGET: &str = "bpfel-unknown-none";

/// Flags of every crate in the object, `core` included.
///
/// - debug information is what BTF is made from;
/// - `v3` has 32-bit jumps and is understood by every kernel from 5.1 on;
/// - without `--disable-expand-memcpy-in-order` the linker turns every struct copy and zeroing into a call to a
///   byte-by-byte loop: ten times the verified instructions (<https://github.com/aya-rs/aya/issues/510>).
pub const FLAGS: [&str; 5] = [
    "-Cdebuginfo=2",
    "-Cpanic=abort",
    "-Ctarget-cpu=v3",
    "-Clink-arg=--btf",
    "-Clink-arg=--disable-expand-memcpy-in-order",
];

/// What the outer cargo leaves in the environment of its children and what must not reach the nested one.
/// `CARGO_HOME` and the settings of registries, network and proxies stay.
const KEPT: [&str; 5] = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"];
const SCRUBBED: [&str; 13] = [
    "CARGO",
    "RUSTC",
    "RUSTFLAGS",
    "RUSTDOC",
    "RUSTUP_TOOLCHAIN",
    "DEP_",
    "TARGET",
    "HOST",
    "PROFILE",
    "OPT_LEVEL",
    "OUT_DIR",
    "NUM_JOBS",
    "MAKEFLAGS",
];

/// One binary target of one eBPF crate, to be compiled.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// The crate's directory.
    pub crate_dir: &'a Path,
    /// The binary target.
    pub bin: &'a str,
    /// Its features.
    pub features: &'a [&'a str],
    /// Where the nested cargo keeps its artefacts.
    pub target_dir: &'a Path,
    /// The compiler.
    pub toolchain: &'a Toolchain,
    /// The linker.
    pub linker: &'a Path,
}

impl Job<'_> {
    /// Compiles; gives the path of the object.
    ///
    /// # Errors
    /// [`Error::Stack`] when the linker names functions with too large a frame, else [`Error::Compile`] with the output.
    pub fn run(&self) -> Result<PathBuf, Error> {
        let mut cargo = self.cargo("build");
        let output =
            cargo.output().map_err(|source| Error::Spawn { program: cargo.get_program().into(), source })?;
        if output.status.success() {
            return Ok(self.target_dir.join(TARGET).join("release").join(self.bin));
        }
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(match stack_overflows(&output) {
            Some(functions) => Error::Stack { functions },
            None => Error::Compile { rustc: self.toolchain.rustc.display().to_string(), output },
        })
    }

    /// [`FLAGS`], and one that keeps the path of the checkout out of the object.
    fn flags(&self) -> OsString {
        let mut flags = OsString::from(FLAGS.join("\x1f"));
        let absolute = self.crate_dir.canonicalize().unwrap_or_else(|_| self.crate_dir.to_owned());
        if let Some(checkout) = absolute.parent() {
            flags.push("\x1f--remap-path-prefix=");
            flags.push(checkout);
            // A path that still leads from the compiler's directory to the file: the linker copies source lines into BTF.
            flags.push("=..");
        }
        flags
    }

    /// The nested cargo with `verb` (`build`, `check`), its environment and all arguments but the verb's own.
    #[must_use]
    pub fn cargo(&self, verb: &str) -> Command {
        let outer = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let program = self.toolchain.cargo.as_ref().map_or(outer, OsString::from);
        let mut cargo = Command::new(program);
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            let starts = |prefix: &&str| text.starts_with(*prefix);
            if SCRUBBED.iter().any(starts) && !KEPT.iter().any(starts) {
                cargo.env_remove(&name);
            }
        }
        cargo
            .current_dir(self.crate_dir)
            .env("RUSTC", &self.toolchain.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags())
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", self.linker)
            .args([verb, "--release", "--target", TARGET, "-Zbuild-std=core", "--bin", self.bin])
            .arg("--target-dir")
            .arg(self.target_dir);
        if !self.features.is_empty() {
            cargo.arg("--features").arg(self.features.join(","));
        }
        if self.crate_dir.join("Cargo.lock").exists() {
            cargo.arg("--locked");
        }
        cargo
    }
}

/// The functions that the linker complains about, each once, with the file it names first that is not the library's.
fn stack_overflows(output: &str) -> Option<String> {
    let mut sites = BTreeMap::new();
    for line in output.lines().filter(|line| line.contains("BPF stack limit is exceeded")) {
        let (_, place) = line.split_once("ERROR llvm: ")?;
        let (site, rest) = place.split_once(": in function ")?;
        let symbol = rest.split_whitespace().next()?;
        let file = site.rsplitn(3, ':').last()?;
        let kept = sites.entry(symbol).or_insert(file);
        if kept.contains("/library/core/") {
            *kept = file;
        }
    }
    let named =
        sites.into_iter().map(|(symbol, file)| format!("{:#} ({file})", rustc_demangle::demangle(symbol)));
    Some(named.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linkers_many_lines_about_one_frame_name_the_function_once() {
        let line = "ERROR llvm: src/stk.rs:9:60: in function _RNvCsxnXiwdx0Th_3stk4deep i32 (ptr): Looks like the \
                    BPF stack limit is exceeded. Please move large on stack variables into BPF per-cpu array map.";
        let again = line.replace(":9:60:", ":0:0:");
        let output = format!("   Compiling x\n          {line}\n\n          {again}\nError: LLVM issued\n");
        assert_eq!(stack_overflows(&output).as_deref(), Some("stk::deep (src/stk.rs)"));
        assert_eq!(stack_overflows("error: linking failed"), None);
    }
}
