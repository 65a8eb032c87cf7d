//! A command that runs in a container with all of the node below a directory, as `kubectl debug node/NODE` starts one, and is
//! to do what it would do on the node. The image has no shell and no `chroot`. Knows no command.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

/// Where the node's files are.
#[derive(Args, Debug, Clone, Default)]
pub struct ChrootArgs {
    /// Take this directory for the root of all files, as `/host` is in `kubectl debug node/NODE`
    #[arg(long, global = true, value_name = "DIR")]
    pub chroot: Option<PathBuf>,
}

impl ChrootArgs {
    /// From now on every path of this process begins there.
    ///
    /// # Errors
    /// With the directory, if it is none or may not be entered.
    pub fn enter(&self) -> anyhow::Result<()> {
        let Some(root) = &self.chroot else { return Ok(()) };
        let entered = rustix::process::chroot(root).and_then(|()| rustix::process::chdir("/"));
        entered.with_context(|| format!("--chroot: {} cannot be entered", root.display()))
    }
}
