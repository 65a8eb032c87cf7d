//! What helps: a few kinds of commands that setup runs itself, or a sentence for a person.

use std::{fmt, process::Command, sync::Once};

use anyhow::Result;

use crate::{child, progress};

/// How a need is met.
#[derive(Debug, Clone)]
pub(crate) enum Remedy {
    /// Distribution packages.
    Apt(Vec<String>),
    /// A command of its own, with its environment.
    Run {
        /// What to call it while it runs.
        label: &'static str,
        /// Variables for the command.
        env: Vec<(&'static str, String)>,
        /// Program and arguments.
        command: Vec<String>,
    },
    /// Several, in order.
    All(Vec<Remedy>),
    /// Setup cannot help; a person can.
    Hand(String),
}

impl Remedy {
    /// A command without variables.
    pub(crate) fn command(label: &'static str, command: &[&str]) -> Self {
        Self::Run { label, env: Vec::new(), command: command.iter().map(ToString::to_string).collect() }
    }

    /// Whether [`Remedy::apply`] does something.
    pub(crate) fn is_automatic(&self) -> bool {
        match self {
            Self::Apt(_) | Self::Run { .. } => true,
            Self::All(all) => all.iter().all(Self::is_automatic),
            Self::Hand(_) => false,
        }
    }

    pub(crate) fn apply(&self) -> Result<()> {
        match self {
            Self::Apt(packages) => {
                refresh();
                let mut apt = Command::new("apt-get");
                apt.env("DEBIAN_FRONTEND", "noninteractive").args([
                    "install",
                    "-y",
                    "--no-install-recommends",
                ]);
                progress::run(&format!("installing {}", packages.join(" ")), apt.args(packages))
            }
            Self::Run { label, env, command } => {
                let mut run = Command::new(&command[0]);
                progress::run(
                    label,
                    run.args(&command[1..]).envs(env.iter().map(|(name, value)| (name, value))),
                )
            }
            Self::All(all) => all.iter().try_for_each(Self::apply),
            Self::Hand(_) => Ok(()),
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apt(packages) => write!(f, "           apt-get install {}", packages.join(" ")),
            Self::Run { env, command, .. } => {
                write!(f, "           ")?;
                for (name, value) in env {
                    write!(f, "{name}={value} ")?;
                }
                let quoted = |word: &String| match word.contains([' ', '^', '|']) {
                    true => format!("'{word}'"),
                    false => word.clone(),
                };
                write!(f, "{}", command.iter().map(quoted).collect::<Vec<_>>().join(" "))
            }
            Self::All(all) => {
                for (index, one) in all.iter().enumerate() {
                    write!(f, "{}{one}", if index == 0 { "" } else { "\n" })?;
                }
                Ok(())
            }
            Self::Hand(text) => write!(f, "           {text}"),
        }
    }
}

/// The version of a package that apt would install, as far as its lists know.
pub(crate) fn apt_offers(package: &str) -> Option<String> {
    let text = child::ask("apt-cache", &["policy", package])?;
    let candidate = text.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim().to_owned();
    (candidate != "(none)").then_some(candidate)
}

/// `apt-get update`, at most once per run: a fresh machine has no package lists, and old ones name packages that are
/// no longer there.
pub(crate) fn refresh() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if child::ask("apt-get", &["--version"]).is_none() {
            return;
        }
        let mut apt = Command::new("apt-get");
        if let Err(error) = progress::run("updating package lists", apt.arg("update")) {
            // One broken mirror of many need not matter: the install that follows tells.
            eprintln!("  {error:#}");
        }
    });
}
