//! Entry of `proxy-agent`: reads the command line and does what it says. An error is one line with its causes.

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};
use proxy_agent::cli::{CleanupArgs, Cli, Command, LogArgs, MountArgs, RootArgs, RunArgs};
use proxy_agent::config::Config;
use proxy_agent::health::Pages;
use proxy_agent::kernel::cleanup::{self, Farewell};
use proxy_agent::kernel::drain::Drained;
use proxy_agent::kernel::preflight::bpffs::{self, Found};
use proxy_agent::kernel::record;
use proxy_agent::{observe, run};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub(crate) fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let Cli { command, log } = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let result = match command {
        Command::Run(args) if args.cleanup => clean(&args.roots, Farewell::AtOnce, &log),
        Command::Run(args) => run_agent(*args, &log, flags(&matches)),
        Command::Cleanup(CleanupArgs { roots, drain, chroot }) => {
            let farewell = drain.map_or(Farewell::AtOnce, Farewell::Drain);
            chroot.enter().and_then(|()| clean(&roots, farewell, &log))
        }
        Command::MountBpf(MountArgs { at }) => mount_bpf(&at),
        Command::Version => {
            println!("{}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxy-agent: {}", observe::causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// The flags of the subcommand with the values in force, as they were given, for `/flagz`.
fn flags(matches: &ArgMatches) -> Vec<(String, String)> {
    let Some((name, given)) = matches.subcommand() else { return Vec::new() };
    let command = Cli::command();
    let args = command.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
    let value = |arg: &clap::Arg| {
        let raw = given.try_get_raw(arg.get_id().as_str()).ok().flatten()?;
        let texts: Vec<_> = raw.map(|text| text.to_string_lossy().into_owned()).collect();
        Some((arg.get_long()?.to_owned(), texts.join(",")))
    };
    args.filter_map(value).collect()
}

/// As many descriptors as the process may have: each health check and each of its clients takes one, and those who start it often
/// leave it at a thousand for the sake of programs that use select(2).
fn raise_descriptors() -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

fn run_agent(args: RunArgs, log: &LogArgs, flags: Vec<(String, String)>) -> anyhow::Result<()> {
    observe::log::init(log)?;
    let config = Config::from_args(args)?;
    for note in &config.notes {
        tracing::info!("{note}");
    }
    if let Some(score) = config.oom_score_adj
        && let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string())
    {
        tracing::warn!(score, %error, "the kernel does not take --oom-score-adj");
    }
    if let Err(error) = raise_descriptors() {
        tracing::warn!(%error, "the limit of descriptors cannot be raised");
    }
    let pages = Pages::new(config.shown(), flags, SystemTime::now());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sluice")
        .enable_all()
        .build()?;
    // What blocks in a thread of its own (a scrape, a name lookup) must not keep the process from ending.
    let result = runtime.block_on(async { tokio::spawn(run::run(config, pages)).await? });
    runtime.shutdown_background();
    result
}

fn mount_bpf(at: &Path) -> anyhow::Result<()> {
    match bpffs::mount_at(at)? {
        Found::Mounted => println!("{} is a BPF file system", at.display()),
        Found::Missing => println!("mounted a BPF file system at {}", at.display()),
    }
    Ok(())
}

fn clean(roots: &RootArgs, farewell: Farewell, log: &LogArgs) -> anyhow::Result<()> {
    observe::log::init(log)?;
    let removed = cleanup::cleanup(&roots.bpf_root, Path::new(record::RUN_ROOT), farewell)?;
    if let Some(Drained { ended, handed, cut }) = removed.drained {
        println!("{ended} connections have ended, {handed} were handed to netfilter, {cut} were cut");
    }
    println!("removed {} links and {} maps of {}", removed.links, removed.maps, roots.bpf_root.display());
    Ok(())
}
