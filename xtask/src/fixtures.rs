//! `cargo xtask fixtures`: plays folders of cases; the lab's binary does it, or for `--implementation kube-proxy` the one that
//! has the real control plane and the real kube-proxy.

use anyhow::{Result, bail};

use crate::lab::{self, Binary};

/// Arguments, handed on as they are but for `--implementation`.
#[derive(Debug, Clone, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
    args: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let (implementation, args) = taken_out(&options.args);
    match implementation.as_deref() {
        None | Some("sluice") => lab::hand_on("fixtures", &args),
        Some("kube-proxy") => lab::become_binary(Binary::FixturesPeer, &args),
        Some(other) => bail!("--implementation is sluice or kube-proxy, not {other:?}"),
    }
}

/// The value of `--implementation`, and the other arguments.
fn taken_out(args: &[String]) -> (Option<String>, Vec<String>) {
    let (mut value, mut rest) = (None, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.strip_prefix("--implementation") {
            Some("") => value = Some(args.next().cloned().unwrap_or_default()),
            Some(given) if given.starts_with('=') => value = given.get(1..).map(str::to_owned),
            Some(_) | None => rest.push(arg.clone()),
        }
    }
    (value, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_implementation_is_taken_out_wherever_it_stands() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for line in ["a --implementation kube-proxy --filter x", "--implementation=kube-proxy a --filter x"] {
            assert_eq!(taken_out(&words(line)), (Some("kube-proxy".to_owned()), words("a --filter x")));
        }
        assert_eq!(taken_out(&words("a --jobs 2")), (None, words("a --jobs 2")));
        assert_eq!(taken_out(&words("a --implementation")), (Some(String::new()), words("a")));
    }
}
