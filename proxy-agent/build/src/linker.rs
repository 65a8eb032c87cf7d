//! Finds bpf-linker: LLVM's link-time optimiser for BPF, without which rustc cannot make an object with BTF.

use std::{
    env,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use object::{Object as _, ObjectSection as _};

use crate::Error;

/// Names the linker to use.
pub const OVERRIDE: &str = "SLUICE_BPF_LINKER";

/// The linker: named, in `PATH`, or where `cargo install` leaves it.
///
/// # Errors
/// [`Error::LinkerOverride`] or [`Error::NoLinker`].
pub fn find() -> Result<PathBuf, Error> {
    if let Some(named) = env::var_os(OVERRIDE).map(PathBuf::from) {
        return if executable(&named) { Ok(named) } else { Err(Error::LinkerOverride(named)) };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    env::split_paths(&path)
        .chain([cargo_home, home].into_iter().flatten().map(|root| root.join("bin")))
        .map(|dir| dir.join("bpf-linker"))
        .find(|file| executable(file))
        .ok_or(Error::NoLinker)
}

fn executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Major version of the LLVM that a linker loads; `None` when it carries its own.
#[must_use]
pub fn llvm(linker: &Path) -> Option<u32> {
    let file = std::fs::read(linker).ok()?;
    let elf = object::File::parse(file.as_slice()).ok()?;
    // The name of the shared object is one of the dynamic strings: `libLLVM.so.22.1`.
    let bytes = elf.section_by_name(".dynstr")?.data().ok()?;
    let name: &[u8] = b"libLLVM.so.";
    let at = bytes.windows(name.len()).position(|window| window == name)? + name.len();
    let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit());
    String::from_utf8(digits.copied().collect()).ok()?.parse().ok()
}
