//! bpf-linker, compiled against an LLVM that reads what the BPF compiler writes.

use bpf_build::linker;

use super::{Remedy, State, compiler, remedy::apt_offers};

/// The release of bpf-linker, and the majors of LLVM that it can be built with.
const VERSION: &str = "^0.13";
const RELEASE: &str = "0.13.0";
const LLVMS: std::ops::RangeInclusive<u32> = 21..=23;

pub(super) fn look() -> State {
    let wanted = compiler::find().ok().map(|compiler| compiler.llvm);
    match linker::find() {
        Ok(path) => match (linker::llvm(&path), wanted) {
            (Some(has), Some(wanted)) if has < wanted => {
                let why = format!("{} has LLVM {has}, the BPF compiler writes LLVM {wanted}", path.display());
                State::Missing(why, install(Some(wanted)))
            }
            (Some(has), _) => State::Present(format!("{} (LLVM {has})", path.display())),
            (None, _) => State::Present(path.display().to_string()),
        },
        Err(bpf_build::Error::LinkerOverride(path)) => {
            let hand = format!(
                "{} names {}, which is no executable file: unset it",
                linker::OVERRIDE,
                path.display()
            );
            State::Missing("not there".into(), Remedy::Hand(hand))
        }
        Err(_) => State::Missing("not installed".into(), install(wanted)),
    }
}

fn install(wanted: Option<u32>) -> Remedy {
    let oldest = wanted.unwrap_or(*LLVMS.start()).max(*LLVMS.start());
    let Some(llvm) = (oldest..=*LLVMS.end()).find(|llvm| apt_offers(&format!("llvm-{llvm}-dev")).is_some())
    else {
        return prebuilt();
    };
    let packages = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    let others = ["zlib1g-dev", "libzstd-dev", "g++"].map(Into::into);
    let feature = format!("llvm-{llvm}");
    let command = ["cargo", "install", "bpf-linker", "--version", VERSION, "--locked", "--force"];
    let features = ["--no-default-features", "--features", &feature];
    Remedy::All(vec![
        Remedy::Apt(packages.into_iter().chain(others).collect()),
        Remedy::Run {
            label: "compiling bpf-linker (a minute or two)",
            // Without it the linker's build takes the first `llvm-config` in PATH, of whatever version.
            env: vec![("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"))],
            command: command.into_iter().chain(features).map(Into::into).collect(),
        },
    ])
}

/// Where apt has no LLVM that is new enough: the static binary that bpf-linker's authors publish and recommend,
/// <https://github.com/aya-rs/bpf-linker#manual-download>.
fn prebuilt() -> Remedy {
    let Some(cargo_bin) = std::env::home_dir().map(|home| home.join(".cargo/bin")) else {
        return Remedy::Hand(
            "put bpf-linker 0.13 (https://github.com/aya-rs/bpf-linker/releases) into PATH".into(),
        );
    };
    let url = format!(
        "https://github.com/aya-rs/bpf-linker/releases/download/v{RELEASE}/bpf-linker-{}-unknown-linux-musl.tar.zst",
        std::env::consts::ARCH
    );
    let unpack = format!("curl -fsSL {url} | tar --zstd -xf - -C {}", cargo_bin.display());
    Remedy::All(vec![
        Remedy::Apt(["curl", "ca-certificates", "zstd"].map(Into::into).into()),
        Remedy::command("downloading bpf-linker", &["bash", "-o", "pipefail", "-c", &unpack]),
    ])
}
