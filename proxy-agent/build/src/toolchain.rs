//! Finds a compiler that can build `core` for BPF: any rustc whose library sources are installed.
//!
//! `-Zbuild-std` is a nightly feature of cargo; `RUSTC_BOOTSTRAP=1` gives it to a stable compiler too, so that a
//! distribution's rustc with its source package serves as well as a rustup nightly with `rust-src`.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Error;

/// Names the compiler to use; it is still checked for library sources.
pub const OVERRIDE: &str = "SLUICE_BPF_RUSTC";

/// The oldest compiler that builds the kernel programs: the workspace's `rust-version`.
pub const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Where a compiler was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The environment variable [`OVERRIDE`].
    Override,
    /// `rustup which --toolchain nightly rustc`.
    RustupNightly,
    /// `$RUSTC`, or the `rustc` of the build that is running.
    Current,
    /// The distribution's `/usr/bin/rustc`.
    System,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Override => OVERRIDE,
            Self::RustupNightly => "rustup nightly",
            Self::Current => "current rustc",
            Self::System => "system rustc",
        })
    }
}

/// A compiler that can build `core` for BPF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// Where it was found.
    pub origin: Origin,
    /// The real compiler, never a rustup proxy.
    pub rustc: PathBuf,
    /// The cargo beside it; `None`: use the one that runs.
    pub cargo: Option<PathBuf>,
    /// The clippy driver beside it.
    pub clippy_driver: Option<PathBuf>,
    /// Release, as `1.96.0`.
    pub release: String,
    /// Major version of its LLVM: bpf-linker must be linked with this one or a newer.
    pub llvm: u32,
}

/// A compiler that does not do, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where it was looked for.
    pub origin: Origin,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Not installed.
    Absent,
    /// It does not run, or prints something else than a version.
    NotARustc(PathBuf),
    /// Older than [`OLDEST`].
    TooOld(PathBuf, String),
    /// No `lib/rustlib/src/rust/library/core` in its sysroot.
    NoSources(PathBuf),
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        match &self.why {
            Why::Absent => write!(f, "not installed"),
            Why::NotARustc(path) => write!(f, "{} is no working rustc", path.display()),
            Why::TooOld(path, release) => write!(f, "{} is {release}, too old", path.display()),
            Why::NoSources(path) => write!(f, "{} has no library sources (rust-src)", path.display()),
        }
    }
}

/// The first compiler that does, in the order of [`Origin`].
///
/// # Errors
/// [`Error::NoToolchain`] with the reason for each place.
pub fn find() -> Result<Toolchain, Error> {
    let mut rejected = Vec::new();
    for (origin, rustc) in candidates() {
        let found = match rustc {
            None => Err(Why::Absent),
            Some(rustc) => probe(origin, &rustc),
        };
        match found {
            Ok(toolchain) => return Ok(toolchain),
            Err(why) => rejected.push(Rejected { origin, why }),
        }
        if origin == Origin::Override {
            // Whoever names a compiler wants to hear that it does not do, not to get another one.
            break;
        }
    }
    Err(Error::NoToolchain(rejected))
}

/// Where to look, in order. Nothing is looked at before it is asked for, because each place costs a process.
fn candidates() -> impl Iterator<Item = (Origin, Option<PathBuf>)> {
    let named = env::var_os(OVERRIDE).map(|path| (Origin::Override, Some(PathBuf::from(path))));
    let places = [Origin::RustupNightly, Origin::Current, Origin::System].into_iter().map(|origin| {
        let rustc = match origin {
            Origin::Override => None,
            Origin::RustupNightly => rustup_nightly(),
            Origin::Current => Some(env::var_os("RUSTC").map_or_else(|| "rustc".into(), PathBuf::from)),
            Origin::System => Some("/usr/bin/rustc".into()).filter(|path: &PathBuf| path.exists()),
        };
        (origin, rustc)
    });
    named.into_iter().chain(places)
}

fn rustup_nightly() -> Option<PathBuf> {
    let mut rustup = Command::new("rustup");
    // A question must not download a toolchain.
    rustup.env("RUSTUP_AUTO_INSTALL", "0").args(["which", "--toolchain", "nightly", "rustc"]);
    stdout(&mut rustup).map(PathBuf::from)
}

fn probe(origin: Origin, rustc: &Path) -> Result<Toolchain, Why> {
    let ask = |rustc: &Path, question: &[&str]| stdout(Command::new(rustc).args(question));
    let broken = || {
        if rustc.is_absolute() { Why::NotARustc(rustc.into()) } else { Why::Absent }
    };
    let sysroot = PathBuf::from(ask(rustc, &["--print", "sysroot"]).ok_or_else(broken)?);
    // A rustup proxy would pick its toolchain anew in the nested build: name the compiler it stands for.
    let real = sysroot.join("bin/rustc");
    let rustc = if real.exists() { real } else { rustc.to_owned() };
    if !sysroot.join("lib/rustlib/src/rust/library/core").exists() {
        return Err(Why::NoSources(rustc));
    }
    let version = ask(&rustc, &["-vV"]).unwrap_or_default();
    let release = field(&version, "release:").ok_or_else(|| Why::NotARustc(rustc.clone()))?.to_owned();
    if numbers(&release) < numbers(OLDEST) {
        return Err(Why::TooOld(rustc, release));
    }
    let llvm = field(&version, "LLVM version:").and_then(|text| text.split('.').next()?.parse().ok());
    let sibling = |name| Some(rustc.with_file_name(name)).filter(|path| path.exists());
    Ok(Toolchain {
        origin,
        cargo: sibling("cargo"),
        clippy_driver: sibling("clippy-driver"),
        llvm: llvm.ok_or_else(|| Why::NotARustc(rustc.clone()))?,
        release,
        rustc,
    })
}

/// Standard output, trimmed, of a command that succeeds.
fn stdout(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// `1.97.0-nightly` → `[1, 97]`: enough to compare with [`OLDEST`].
fn numbers(release: &str) -> Vec<u32> {
    release.split('.').take(2).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number_not_by_text() {
        assert!(numbers("1.100.0-nightly") > numbers("1.95"));
        assert!(numbers("1.63.0") < numbers("1.95"));
        assert_eq!(numbers("1.95.0"), numbers("1.95"));
    }

    #[test]
    fn a_program_that_is_no_rustc_is_rejected_by_its_path() {
        let why = probe(Origin::Override, Path::new("/bin/true")).expect_err("true is no rustc");
        assert_eq!(why, Why::NotARustc("/bin/true".into()));
        let text = Rejected { origin: Origin::Override, why }.to_string();
        assert_eq!(text, "SLUICE_BPF_RUSTC: /bin/true is no working rustc");
    }
}
