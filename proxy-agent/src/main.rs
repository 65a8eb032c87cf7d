//! Entry of `proxy-agent`: reads the command line and does what it says. An error is one line with its causes.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use proxy_agent::cli::{Cli, Command, LogArgs, RootArgs, RunArgs};
use proxy_agent::config::Config;
use proxy_agent::kernel::{cleanup, record};
use proxy_agent::{observe, run};

fn main() -> ExitCode {
    let Cli { command, log } = Cli::parse();
    let result = match command {
        Command::Run(args) => run_agent(*args, &log),
        Command::Cleanup(roots) => clean(&roots, &log),
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

fn run_agent(args: RunArgs, log: &LogArgs) -> anyhow::Result<()> {
    observe::log::init(log)?;
    let config = Config::from_args(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sluice")
        .enable_all()
        .build()?;
    // What blocks in a thread of its own (a scrape, a name lookup) must not keep the process from ending.
    let result = runtime.block_on(async { tokio::spawn(run::run(config)).await? });
    runtime.shutdown_background();
    result
}

fn clean(roots: &RootArgs, log: &LogArgs) -> anyhow::Result<()> {
    observe::log::init(log)?;
    let removed = cleanup::cleanup(&roots.bpf_root, Path::new(record::RUN_ROOT))?;
    println!("removed {} links and {} maps of {}", removed.links, removed.maps, roots.bpf_root.display());
    Ok(())
}
