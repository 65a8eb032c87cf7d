//! One run of a kernel in an emulated machine: it sees the host's files, runs one script and turns itself off. The
//! processor is emulated, so no rights and no hardware are needed, and everything is ten times slower.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::child;

use super::{
    archive::Archive,
    package::{self, Kernel},
};

/// Brought into the first file system: what leads to the host's files.
const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];
const EMULATOR: &str = "qemu-system-x86_64";
const GUEST: &str = include_str!("guest.sh");
/// A second one never comes up under [`CLOCK`].
const PROCESSORS: &str = "1";
const MEMORY: &str = "3G";
/// The guest's clock counts its instructions, one a nanosecond: however slow or busy the host is, a deadline in the guest is
/// as far away as on a machine of that speed. While the guest has nothing to do, it follows the host's.
const CLOCK: [&str; 2] = ["-icount", "shift=0,sleep=on"];
/// How often the results are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A machine that runs; dropped, it is gone.
pub(crate) struct Machine {
    process: Child,
    console: PathBuf,
}

/// A cable from the machine to a device of the host's, in a network namespace of its own.
#[derive(Debug, Clone)]
pub(crate) struct Cable {
    /// Name under `/run/netns`.
    pub(crate) netns: String,
    pub(crate) tap: String,
    pub(crate) mac: String,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself; both fail only then.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Machine {
    /// Whether it still runs.
    ///
    /// # Errors
    /// It ended otherwise than by turning itself off; the end of its console is in the message.
    pub(crate) fn runs(&mut self) -> Result<bool> {
        match self.process.try_wait().context("cannot wait for the emulator")? {
            None => Ok(true),
            Some(status) if status.success() => Ok(false),
            Some(status) => bail!("the emulator ended with {status}; the console said:\n{}", self.said()),
        }
    }

    /// The last lines of the console.
    pub(crate) fn said(&self) -> String {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// Boots, runs `job` and waits until the machine is off. `seen` is called now and then, to tell how far it is.
pub(super) fn run(
    kernel: &Kernel,
    job: &str,
    out: &Path,
    limit: Duration,
    mut seen: impl FnMut(),
) -> Result<()> {
    let mut machine = boot(kernel, job, out, None)?;
    let deadline = Instant::now() + limit;
    while machine.runs()? {
        if Instant::now() > deadline {
            bail!("not done after {} s; the console said:\n{}", limit.as_secs(), machine.said());
        }
        seen();
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Starts a machine that runs `job` (a bash script) and then turns itself off. `out` is `/mnt/kernels` there.
pub(crate) fn boot(kernel: &Kernel, job: &str, out: &Path, cable: Option<&Cable>) -> Result<Machine> {
    let write = |name: &str, content: &[u8]| {
        let path = out.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok::<_, anyhow::Error>(path)
    };
    write("job", job.as_bytes())?;
    let first = write("first.cpio", &first_files(kernel, out)?)?;
    let console = out.join("console");
    let process = start(kernel, &first, out, &console, cable)?;
    Ok(Machine { process, console })
}

fn start(kernel: &Kernel, first: &Path, out: &Path, console: &Path, cable: Option<&Cable>) -> Result<Child> {
    let share = |name: &str, path: &Path, options: &str| {
        let device = format!("virtio-9p-pci,fsdev={name},mount_tag={name}");
        let folder = format!("local,id={name},path={},security_model=none{options}", path.display());
        ["-fsdev".to_owned(), folder, "-device".to_owned(), device]
    };
    let mut qemu = match cable {
        None => Command::new("setpriv"),
        Some(cable) => {
            let mut nsenter = Command::new("nsenter");
            nsenter.arg(format!("--net=/run/netns/{}", cable.netns)).arg("setpriv");
            nsenter
        }
    };
    // It goes when we do, however we do.
    qemu.args(["--pdeathsig", "KILL", EMULATOR]);
    qemu.args(["-M", "q35,accel=tcg", "-cpu", "max"])
        .args(CLOCK)
        .args(["-smp", PROCESSORS, "-m", MEMORY, "-nodefaults", "-no-reboot", "-display", "none"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-kernel")
        .arg(kernel.image())
        .arg("-initrd")
        .arg(first)
        .args(["-append", "console=ttyS0 quiet no_timer_check mitigations=off nokaslr panic=-1 rdinit=/init"])
        .args(share("root", Path::new("/"), ",readonly=on,multidevs=remap"))
        .args(share("out", out, ""))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if let Some(Cable { tap, mac, .. }) = cable {
        qemu.arg("-netdev").arg(format!("tap,id=cable,ifname={tap},script=no,downscript=no"));
        qemu.arg("-device").arg(format!("virtio-net-pci,netdev=cable,mac={mac}"));
    }
    qemu.spawn().with_context(|| format!("cannot start {EMULATOR}"))
}

fn first_files(kernel: &Kernel, out: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "modules", "dev"] {
        archive.directory(folder);
    }
    archive.console();
    let busybox = busybox().context("no static busybox")?;
    archive.file("bin/busybox", &fs::read(&busybox).with_context(|| format!("cannot read {busybox}"))?);
    archive.file("init", GUEST.as_bytes());
    let mut order: Vec<String> = Vec::new();
    for name in MODULES {
        for path in kernel.module(name)? {
            let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if order.contains(&file) {
                continue;
            }
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            archive.file(&format!("modules/{file}"), &package::unpacked(&bytes, &out.join("packed"))?);
            order.push(file);
        }
    }
    archive.file("modules/order", order.join("\n").as_bytes());
    archive.file("modules/folder", kernel.all_modules().display().to_string().as_bytes());
    Ok(archive.finish())
}

/// One that needs no library: those of the host are not there yet when it is needed.
pub(crate) fn busybox() -> Option<String> {
    let places = ["/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox"];
    // `ldd` fails for what is linked statically.
    let is_static = |path: &&&str| Path::new(path).exists() && child::ask("ldd", &[path]).is_none();
    places.iter().find(is_static).map(ToString::to_string)
}
