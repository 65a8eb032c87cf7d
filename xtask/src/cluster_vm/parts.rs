//! What a node is made of: the distribution's containerd, runc and CNI plugins, upstream's kubelet, and two images. Unpacked
//! and built below `target`, where the machines see them at the same path.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    child,
    image::{self, Entry},
    kernels::machine,
    progress,
};

/// Packages that are unpacked and not installed.
const PACKAGES: [&str; 3] = ["containerd", "runc", "containernetworking-plugins"];
/// The image of the sandboxes and of the pods: one static program that is a shell, a web server and its client.
pub(super) const BUSYBOX: &str = "sluice.dev/busybox:vm";

/// Where everything is.
#[derive(Debug)]
pub(super) struct Parts {
    /// Folder of the control plane's programs.
    pub(super) cluster: PathBuf,
    pub(super) kubelet: PathBuf,
    /// Root of the unpacked packages.
    pub(super) packages: PathBuf,
    /// Archives for `ctr images import`.
    pub(super) images: Vec<PathBuf>,
}

impl Parts {
    /// Builds, downloads and unpacks what is not there yet.
    pub(super) fn gather(room: &Path, image: &Path) -> Result<Self> {
        let cluster = built("cluster")?;
        let cluster = cluster.parent().context("the control plane lies in no folder")?.to_owned();
        let busybox = room.join("busybox.tar");
        let program = machine::busybox().context("no static busybox")?;
        let program = fs::read(&program).with_context(|| format!("cannot read {program}"))?;
        // Until it is killed.
        let entrypoint = ["/busybox", "sleep", "2147483647"];
        let files = vec![Entry::file("busybox", 0o755, program), Entry::directory("tmp/")];
        fs::write(&busybox, image::packed(BUSYBOX, &entrypoint, files)?).context("cannot write an image")?;
        // The machines have another /tmp than the host.
        let sluice = room.join("sluice.tar");
        fs::copy(image, &sluice).with_context(|| format!("cannot copy {}", image.display()))?;
        Ok(Self {
            cluster,
            kubelet: built("kubelet")?,
            packages: unpacked(room)?,
            images: vec![sluice, busybox],
        })
    }

    /// A program of a package, as `usr/bin/containerd`.
    pub(super) fn packaged(&self, path: &str) -> String {
        self.packages.join(path).display().to_string()
    }
}

/// A program of `tests/cluster`.
fn built(name: &str) -> Result<PathBuf> {
    let mut script = Command::new(child::root().join("tests/cluster/build.sh"));
    let output = script.arg(name).stderr(Stdio::inherit()).output().context("cannot run build.sh")?;
    ensure!(output.status.success(), "build.sh {name} failed ({})", output.status);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(said.lines().last().context("build.sh named no program")?.into())
}

fn unpacked(room: &Path) -> Result<PathBuf> {
    let root = room.join("packages");
    // Written last.
    let done = root.join("done");
    if done.exists() {
        return Ok(root);
    }
    let download = room.join("download");
    fs::create_dir_all(&download).with_context(|| format!("cannot make {}", download.display()))?;
    let mut apt = Command::new("apt-get");
    apt.current_dir(&download).arg("download").args(PACKAGES);
    progress::run(&format!("downloading {}", PACKAGES.join(", ")), &mut apt)?;
    for entry in fs::read_dir(&download).context("cannot list what was downloaded")?.flatten() {
        child::run(Command::new("dpkg-deb").arg("--extract").arg(entry.path()).arg(&root))?;
    }
    fs::remove_dir_all(&download).context("cannot remove what was downloaded")?;
    fs::write(&done, "").context("cannot say that packages are there")?;
    Ok(root)
}
