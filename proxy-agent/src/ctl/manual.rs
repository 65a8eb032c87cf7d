//! What is made from the definition of the commands: completions for shells, and manual pages. Reads nothing.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;
pub use clap_complete::Shell;

use super::Cli;

const PROGRAM: &str = "proxyctl";

/// The script that completes `proxyctl` in a shell.
pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes one page per command into `dir` and says where; without it gives that of `proxyctl` itself.
pub(super) fn pages(dir: Option<&Path>) -> anyhow::Result<String> {
    let mut command = Cli::command();
    command.build();
    let Some(dir) = dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return Ok(String::from_utf8_lossy(&page).into_owned());
    };
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    clap_mangen::generate_to(command, dir)
        .with_context(|| format!("pages cannot be written to {}", dir.display()))?;
    Ok(format!("the pages are in {}; try: man -l {}/{PROGRAM}.1\n", dir.display(), dir.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every command and its commands, as their pages are named.
    fn names(command: &clap::Command, name: &str, all: &mut BTreeSet<String>) {
        all.insert(format!("{name}.1"));
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            names(inner, &format!("{name}-{}", inner.get_name()), all);
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        pages(Some(dir.path())).unwrap();
        let written: BTreeSet<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.contains("-help"))
            .collect();
        let mut wanted = BTreeSet::new();
        names(&Cli::command(), PROGRAM, &mut wanted);
        assert_eq!(written, wanted);
        let page = fs::read_to_string(dir.path().join("proxyctl-drops.1")).unwrap();
        assert!(page.contains("What was dropped or rejected"), "{page}");
        assert!(pages(None).unwrap().contains("proxyctl"));
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(shell);
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
