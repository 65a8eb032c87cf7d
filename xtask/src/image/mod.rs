//! `cargo xtask image`: static binaries for each platform and an OCI image of them, without a container engine. The same
//! binaries make the same bytes.

mod archive;
mod layout;
mod materials;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

pub(crate) use self::archive::Entry;
use self::layout::Platform;
use crate::{build, child, setup};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Platforms: amd64, arm64
    #[arg(long, value_delimiter = ',', default_value = "amd64,arm64")]
    platform: Vec<String>,
    /// Full name of the image
    #[arg(long, default_value = "sluice.dev/sluice:dev")]
    name: String,
    /// Pack binaries that were built before
    #[arg(long)]
    no_build: bool,
}

/// The most that a node may have to pull.
const LIMIT: usize = 20 << 20;
const PROGRAMS: [&str; 2] = ["proxy-agent", "proxyctl"];

/// A platform and what builds for it.
struct Target {
    architecture: &'static str,
    triple: &'static str,
    /// Compiles the assembly and C of the cryptography.
    compiler: &'static str,
    /// Runs its programs elsewhere; also linked statically, as `…-static`.
    emulator: &'static str,
}

const TARGETS: [Target; 2] = [
    Target {
        architecture: "amd64",
        triple: "x86_64-unknown-linux-musl",
        compiler: "musl-gcc",
        emulator: "qemu-x86_64",
    },
    Target {
        architecture: "arm64",
        triple: "aarch64-unknown-linux-musl",
        compiler: "aarch64-linux-gnu-gcc",
        emulator: "qemu-aarch64",
    },
];

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::have("image tools")?;
    let mut platforms = Vec::new();
    for name in &options.platform {
        let target = TARGETS.iter().find(|target| target.architecture == name);
        let target = target.with_context(|| format!("{name:?} is neither amd64 nor arm64"))?;
        if !options.no_build {
            compile(target)?;
        }
        for program in PROGRAMS {
            println!("{name}: {}", version(target, program)?);
        }
        platforms.push(Platform { architecture: target.architecture, files: files(target)? });
    }
    let version = env!("CARGO_PKG_VERSION");
    let about = layout::About { name: &options.name, version, entrypoint: &["/proxy-agent"] };
    let image = layout::build(&about, &platforms, gzip)?;
    let again = layout::build(&about, &platforms, gzip)?;
    ensure!(
        layout::digest(&image.archive) == layout::digest(&again.archive),
        "two archives of the same binaries differ"
    );
    let folder = build::artefacts("image");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    write(&folder.join("sluice.tar"), &image.archive)?;
    write(&folder.join("sluice.cdx.json"), materials::bill()?.as_bytes())?;
    for (architecture, size) in &image.pulled {
        println!("{architecture}: {:.1} MiB to pull", *size as f64 / f64::from(1 << 20));
        ensure!(*size < LIMIT, "that is more than {} MiB", LIMIT >> 20);
    }
    println!("{} {}", options.name, image.digest);
    Ok(())
}

/// The archive of an image of these files, for this machine's own platform.
///
/// # Errors
/// The compressor is missing.
pub(crate) fn packed(name: &str, entrypoint: &[&str], files: Vec<Entry>) -> Result<Vec<u8>> {
    let about = layout::About { name, version: env!("CARGO_PKG_VERSION"), entrypoint };
    let architecture = TARGETS.iter().find(|target| target.triple.starts_with(std::env::consts::ARCH));
    let architecture = architecture.context("no image is made for this architecture")?.architecture;
    Ok(layout::build(&about, &[Platform { architecture, files }], gzip)?.archive)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    println!(
        "{} ({:.1} MiB, {})",
        path.display(),
        bytes.len() as f64 / f64::from(1 << 20),
        layout::digest(bytes)
    );
    Ok(())
}

/// Builds the static binaries. No path of this machine is in them, so that another one's are the same.
fn compile(target: &Target) -> Result<()> {
    ready(target)?;
    let mut cargo =
        child::cargo(["build", "--release", "--locked", "-p", "proxy-agent", "--bins", "--target"]);
    let variable = target.triple.replace('-', "_");
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))?;
    let flags = [
        format!("--remap-path-prefix={}=/sluice", child::root().display()),
        format!("--remap-path-prefix={home}=/cargo"),
        "-Ctarget-feature=+crt-static".to_owned(),
    ];
    cargo
        .arg(target.triple)
        .env(format!("CC_{variable}"), target.compiler)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    if target.architecture == "arm64" {
        // Everything to be linked is in Rust's own library for the target; a linker that knows all platforms is enough.
        cargo.env(format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()), "rust-lld");
    }
    child::run(&mut cargo)
}

/// Says what is missing to build for a target.
fn ready(target: &Target) -> Result<()> {
    if child::ask("rustup", &["--version"]).is_some() {
        let mut rustup = Command::new("rustup");
        child::run(rustup.current_dir(child::root()).args(["target", "add", target.triple]))?;
    }
    if child::ask(target.compiler, &["--version"]).is_none() {
        bail!("there is no {}: cargo xtask setup --only 'image tools'", target.compiler);
    }
    Ok(())
}

fn binary(target: &Target, name: &str) -> PathBuf {
    build::artefacts(target.triple).join("release").join(name)
}

/// What a program says of itself: here if it can run here, else under emulation.
fn version(target: &Target, program: &str) -> Result<String> {
    let path = binary(target, program);
    ensure!(path.is_file(), "there is no {}", path.display());
    let text = path.display().to_string();
    let emulated = |emulator: &str| child::ask(emulator, &[&text, "--version"]);
    let said = child::ask(&text, &["--version"])
        .or_else(|| emulated(target.emulator))
        .or_else(|| emulated(&format!("{}-static", target.emulator)));
    said.with_context(|| format!("{text} does not run, nor under {}", target.emulator))
}

fn files(target: &Target) -> Result<Vec<Entry>> {
    let program = |name: &str| {
        let path = binary(target, name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Entry::file(name, 0o755, bytes))
    };
    let programs = PROGRAMS.iter().map(|name| program(name)).collect::<Result<Vec<_>>>()?;
    // Directories that the manifests mount something at, since the root is read-only.
    let mounts = ["etc/", "etc/sluice/", "host/", "host/bpf/", "host/cgroup/", "run/", "run/sluice/"];
    Ok(mounts.into_iter().map(Entry::directory).chain(programs).collect())
}

/// gzip(1) with neither name nor time in the header.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip");
    let mut child = gzip
        .args(["-9", "-n"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run gzip")?;
    let mut stdin = child.stdin.take().context("gzip has no input")?;
    std::thread::scope(|scope| {
        // Should gzip end early, its exit code says so.
        scope.spawn(move || drop(stdin.write_all(bytes)));
        let output = child.wait_with_output().context("cannot wait for gzip")?;
        ensure!(output.status.success(), "gzip failed ({})", output.status);
        Ok(output.stdout)
    })
}
