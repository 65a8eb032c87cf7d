//! A distribution's kernel as a folder: looked for with apt, downloaded and unpacked, installed nowhere.

use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use crate::{child, progress};

/// Flavours that are left out: `cloud` has no 9p, `rt` is another scheduler, the others are no kernels.
const OTHERS: [&str; 4] = ["cloud", "rt", "dbg", "unsigned"];

/// A kernel that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// `6.1`.
    pub(super) series: String,
    /// As `uname -r` says it.
    pub(crate) release: String,
    folder: PathBuf,
}

/// The newest release of a series that apt offers.
pub(crate) fn newest(series: &str) -> Option<String> {
    let names = child::ask("apt-cache", &["pkgnames", &format!("linux-image-{series}.")])?;
    let releases = names.lines().filter_map(|name| name.trim().strip_prefix("linux-image-"));
    let ours = releases.filter(|release| {
        release.ends_with(flavour())
            && !OTHERS.iter().any(|other| release.split('-').any(|part| part == *other))
    });
    ours.max_by(|one, other| compare(one, other)).map(str::to_owned)
}

/// Where the kernel's name ends, as the distribution spells the processor.
const fn flavour() -> &'static str {
    "-amd64"
}

/// By the numbers in them: `6.1.0-9` is before `6.1.0-56`.
fn compare(one: &str, other: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u32> {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
    };
    numbers(one).cmp(&numbers(other))
}

impl Kernel {
    /// Downloads and unpacks what is not there yet.
    pub(crate) fn fetch(series: &str, release: &str, room: &Path) -> Result<Self> {
        let folder = room.join(release);
        let kernel = Self { series: series.to_owned(), release: release.to_owned(), folder };
        // Written last.
        if kernel.modules().join("modules.dep").exists() && kernel.image().exists() {
            return Ok(kernel);
        }
        let package = format!("linux-image-{release}");
        let download = room.join("download");
        fs::create_dir_all(&download).with_context(|| format!("cannot make {}", download.display()))?;
        let mut apt = Command::new("apt-get");
        apt.current_dir(&download).args(["download", &package]);
        progress::run(&format!("downloading {package}"), &mut apt)?;
        let archive = found(&download, &package)?;
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(&archive).arg(&kernel.folder);
        progress::run(&format!("unpacking {package}"), &mut unpack)?;
        kernel.uncompress()?;
        let mut depmod = Command::new("/usr/sbin/depmod");
        depmod.arg("-b").arg(&kernel.folder).arg(release);
        progress::run("looking which module needs which", &mut depmod)?;
        fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;
        Ok(kernel)
    }

    /// The uncompressed kernel.
    pub(super) fn image(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// The folder that is `/lib/modules` of it.
    pub(super) fn all_modules(&self) -> PathBuf {
        self.folder.join("lib/modules")
    }

    fn modules(&self) -> PathBuf {
        self.all_modules().join(&self.release)
    }

    /// A module's files with those that it needs before it; none where it is built in.
    pub(super) fn module(&self, name: &str) -> Result<Vec<PathBuf>> {
        let folder = self.folder.display().to_string();
        let args = ["-n", "-d", &folder, "-S", &self.release, "--show-depends", name];
        let lines = child::ask("/usr/sbin/modprobe", &args)
            .ok_or_else(|| anyhow!("Linux {} has no module {name}", self.release))?;
        Ok(lines
            .lines()
            .filter_map(|line| line.strip_prefix("insmod "))
            .map(|path| path.trim().into())
            .collect())
    }

    /// Uncompressing is work that takes an emulated processor minutes. The header is that of
    /// <https://docs.kernel.org/arch/x86/boot.html>.
    fn uncompress(&self) -> Result<()> {
        let path = self.folder.join("boot").join(format!("vmlinuz-{}", self.release));
        let packed = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let payload = payload(&packed).ok_or_else(|| anyhow!("{} is no kernel", path.display()))?;
        let image = unpacked(payload, &self.folder.join("payload"))?;
        ensure!(image.starts_with(b"\x7fELF"), "{} holds no ELF file", path.display());
        fs::write(self.image(), image).with_context(|| format!("cannot write {}", self.image().display()))
    }
}

fn found(folder: &Path, package: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let prefix = format!("{package}_");
    let mut files = entries.filter_map(Result::ok).map(|entry| entry.path());
    files
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
        .ok_or_else(|| anyhow!("apt-get left no {package} in {}", folder.display()))
}

/// The compressed kernel inside a `vmlinuz`.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    (image.get(0x202..0x206)? == b"HdrS").then_some(())?;
    let sectors = match image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(*sectors),
    };
    let start = (sectors + 1) * 512 + word(0x248)?;
    image.get(start..start + word(0x24c)?)
}

/// What a compressed file or stream holds. The kernel puts the size behind a stream, which the tools need not like.
pub(super) fn unpacked(bytes: &[u8], beside: &Path) -> Result<Vec<u8>> {
    let tools: [(&[u8], &[&str]); 3] = [
        (b"\xfd7zXZ\0", &["xz", "-dc", "--single-stream"]),
        (b"\x28\xb5\x2f\xfd", &["zstd", "-dc"]),
        (b"\x1f\x8b", &["gzip", "-dc"]),
    ];
    let Some((_, tool)) = tools.iter().find(|(magic, _)| bytes.starts_with(magic)) else {
        if bytes.starts_with(b"\x7fELF") {
            return Ok(bytes.to_vec());
        }
        bail!("compressed in a way that is not known: {:02x?}", bytes.get(..4).unwrap_or_default());
    };
    fs::write(beside, bytes).with_context(|| format!("cannot write {}", beside.display()))?;
    let input = fs::File::open(beside).with_context(|| format!("cannot read {}", beside.display()))?;
    let mut run = Command::new(tool[0]);
    let output = run.args(&tool[1..]).stdin(input).stderr(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {}", tool[0]))?;
    fs::remove_file(beside).with_context(|| format!("cannot remove {}", beside.display()))?;
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_in_the_order_of_their_numbers() {
        let mut releases = ["6.1.0-56-amd64", "6.1.0-9-amd64", "6.12.117+deb12-amd64", "6.12.9+deb12-amd64"];
        releases.sort_by(|one, other| compare(one, other));
        let sorted = ["6.1.0-9-amd64", "6.1.0-56-amd64", "6.12.9+deb12-amd64", "6.12.117+deb12-amd64"];
        assert_eq!(releases, sorted);
    }

    #[test]
    fn the_compressed_kernel_is_where_the_header_says() {
        let mut image = vec![0; 4096];
        image[0x1f1] = 2;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&5_u32.to_le_bytes());
        image[3 * 512 + 16..][..5].copy_from_slice(b"stuff");
        assert_eq!(payload(&image), Some(&b"stuff"[..]));
        image[0x1f1] = 255;
        assert_eq!(payload(&image), None);
        assert_eq!(payload(b"short"), None);
    }
}
