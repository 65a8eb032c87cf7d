//! Why there is no object, each with the command that helps.

use std::{io, path::PathBuf};

use crate::{object::Defect, toolchain::Rejected};

/// What stops the build of the kernel programs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `OUT_DIR` is not set.
    #[error("OUT_DIR is not set: this function belongs into a build script")]
    NotABuildScript,
    /// No compiler that can build `core` for BPF.
    #[error(
        "the kernel programs need a rustc {} or newer that has its library sources; none was found{}\n\
         run `cargo xtask setup`, or yourself one of\n\
         \x20   rustup toolchain install nightly --component rust-src\n\
         \x20   apt-get install rustc-web rust-web-src\n\
         or set {} to a prebuilt object",
        crate::toolchain::OLDEST, list(.0), crate::PREBUILT
    )]
    NoToolchain(Vec<Rejected>),
    /// No `bpf-linker`.
    #[error(
        "the kernel programs are linked by bpf-linker, which is neither in PATH nor in cargo's bin directory\n\
         run `cargo xtask setup`, or install 0.13 yourself: https://github.com/aya-rs/bpf-linker#installation\n\
         or set {} to its path",
        crate::linker::OVERRIDE
    )]
    NoLinker,
    /// The path in `SLUICE_BPF_LINKER` is not an executable file.
    #[error("{} is set to {}, which is no executable file", crate::linker::OVERRIDE, .0.display())]
    LinkerOverride(PathBuf),
    /// The nested cargo could not be started.
    #[error("cannot run {}", program.display())]
    Spawn {
        /// What should have run.
        program: PathBuf,
        /// Why it did not.
        source: io::Error,
    },
    /// A function needs more than the 512 bytes of stack that the kernel gives.
    #[error(
        "stack overflow in the kernel programs: {functions}\n\
         the kernel gives a program and everything it calls 512 bytes; move the large value into a per-CPU map, or \
         split the function so that the value does not live across a call"
    )]
    Stack {
        /// The linker's lines that name the functions.
        functions: String,
    },
    /// The nested build failed for another reason.
    #[error("the build of the kernel programs with {rustc} failed:\n{output}")]
    Compile {
        /// The compiler in use.
        rustc: String,
        /// Everything that the nested cargo wrote to its standard error.
        output: String,
    },
    /// The object cannot be read or copied.
    #[error("cannot read or write the object {}: {source}", path.display())]
    Object {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The object is there, but the kernel would refuse it or misread it.
    #[error("the object of the kernel programs is refused:{}", defects(.0))]
    Refused(Vec<Defect>),
}

fn list(rejected: &[Rejected]) -> String {
    rejected.iter().map(|one| format!("\n    {one}")).collect()
}

fn defects(defects: &[Defect]) -> String {
    defects.iter().map(|one| format!("\n    {one}")).collect()
}
