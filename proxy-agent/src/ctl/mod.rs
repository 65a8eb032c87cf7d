//! `proxyctl`: reads the pinned maps of one `--bpf-root` and says what is there, whether an agent runs or not.
//! One file per noun; each turns maps into rows, and only `output` knows how rows look.

mod backend;
mod bugreport;
mod capture;
mod check;
mod counter;
mod drops;
mod dump;
mod explain;
mod flow;
mod manual;
mod map;
mod monitor;
mod output;
mod policy;
mod reader;
mod report;
mod service;
mod status;
mod top;
mod trace;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use bugreport::BugreportArgs;
pub use capture::CaptureArgs;
pub use check::CheckArgs;
pub use drops::DropsArgs;
pub use explain::{ExplainArgs, ProtoArg};
pub use flow::FlowArgs;
pub use manual::Shell;
pub use monitor::MonitorArgs;
pub use output::{Format, print};
pub use report::ReportArgs;
pub use top::TopArgs;
pub use trace::TraceArgs;

use crate::cli::chroot::ChrootArgs;
use reader::Reader;

/// What Sluice has put into the kernel of this node; no agent needs to run.
#[derive(Parser, Debug)]
#[command(name = "proxyctl", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to show.
    #[command(subcommand)]
    pub command: Command,
    /// Where from, and how.
    #[command(flatten)]
    pub global: Global,
}

/// Flags of every command.
#[derive(Args, Debug)]
pub struct Global {
    /// Directory of pinned maps and links
    #[arg(
        long,
        global = true,
        env = "SLUICE_BPF_ROOT",
        value_name = "DIR",
        default_value = "/sys/fs/bpf/sluice"
    )]
    pub bpf_root: PathBuf,
    /// How to print
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Where the node's files are.
    #[command(flatten)]
    pub chroot: ChrootArgs,
}

/// What to show.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Agent, adoption, programs and maps at a glance
    Status,
    /// Whether everything is as it should be, and what to do where it is not
    Check(CheckArgs),
    /// Services and what is behind them
    #[command(subcommand, visible_alias = "services")]
    Service(ServiceCommand),
    /// Endpoints that connections are sent to
    #[command(subcommand, visible_alias = "backends")]
    Backend(BackendCommand),
    /// Connections that are translated packet by packet
    #[command(subcommand, visible_alias = "flows")]
    Flow(FlowCommand),
    /// Policies that this node's pods are under
    #[command(subcommand, visible_alias = "policies")]
    Policy(PolicyCommand),
    /// What the policies make of a connection, and which rule decides
    Explain(ExplainArgs),
    /// What the programs do with the first packet of a connection, hook by hook; nothing is sent, nothing stays
    Trace(TraceArgs),
    /// What becomes of packets and new connections from now on, until interrupted
    Monitor(MonitorArgs),
    /// The packets at the hooks, with what became of each: lines, or a file for tcpdump and Wireshark
    Capture(CaptureArgs),
    /// What was dropped or rejected, why, and by which policy
    Drops(DropsArgs),
    /// All of it as one page for a browser, which needs no network
    Report(ReportArgs),
    /// What became of packets and socket calls, and why
    #[command(subcommand, visible_alias = "counters")]
    Counter(CounterCommand),
    /// The maps themselves
    #[command(subcommand, visible_alias = "maps")]
    Map(MapCommand),
    /// Who is asked for, what is lost and which connections there are, live
    Top(TopArgs),
    /// An archive for whoever is to find out from afar what is wrong; secrets are crossed out
    Bugreport(BugreportArgs),
    /// Completions for a shell, on standard output
    Completions {
        /// Which
        shell: Shell,
    },
    /// Manual pages: every command's into a directory, or one on standard output
    Man {
        /// Where to; without it `proxyctl.1` goes to standard output
        #[arg(value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// `proxyctl service …`.
#[derive(Subcommand, Debug)]
pub enum ServiceCommand {
    /// Every address and port that is served
    List,
    /// One Service: its frontends, who is behind them, and who is not and why
    Get {
        /// Namespace and name, and a port by name or number if only one is wanted: default/web:http
        #[arg(value_name = "NS/NAME[:PORT]")]
        service: String,
    },
}

/// `proxyctl backend …`.
#[derive(Subcommand, Debug)]
pub enum BackendCommand {
    /// Every backend that a frontend points at
    List {
        /// Only those of this Service
        #[arg(long, value_name = "NS/NAME")]
        service: Option<String>,
    },
}

/// `proxyctl flow …`.
#[derive(Subcommand, Debug)]
pub enum FlowCommand {
    /// Every translated connection
    List(FlowArgs),
}

/// `proxyctl policy …`.
#[derive(Subcommand, Debug)]
pub enum PolicyCommand {
    /// Every policy in force here, or refused, with its pods and what it denied
    List,
    /// One policy: its pods, its rules, and what was denied
    Get {
        /// Namespace and name of a NetworkPolicy, or name of a ClusterNetworkPolicy
        #[arg(value_name = "[NS/]NAME")]
        policy: String,
    },
}

/// `proxyctl counter …`.
#[derive(Subcommand, Debug)]
pub enum CounterCommand {
    /// Every reason with its count
    List,
}

/// `proxyctl map …`.
#[derive(Subcommand, Debug)]
pub enum MapCommand {
    /// Every map with its size
    List,
    /// Every entry of one map
    Dump {
        /// Name of the map, as `map list` has it
        name: String,
    },
}

/// Does what was asked and gives the text to print.
///
/// # Errors
/// When the maps cannot be read or what was asked for is not there; the message says what to do.
pub fn run(cli: &Cli) -> anyhow::Result<String> {
    let Global { bpf_root, output, chroot } = &cli.global;
    chroot.enter()?;
    // Completions and manual pages need no maps.
    let reader = || Reader::open(bpf_root);
    match &cli.command {
        Command::Status => output.one(&status::read(&reader()?)?),
        Command::Check(args) => check::run(bpf_root, args, *output),
        Command::Service(ServiceCommand::List) => output.rows(&service::list(&reader()?)?),
        Command::Service(ServiceCommand::Get { service }) => output.one(&service::get(&reader()?, service)?),
        Command::Backend(BackendCommand::List { service }) => {
            output.rows(&backend::list(&reader()?, service.as_deref())?)
        }
        Command::Flow(FlowCommand::List(args)) => output.rows(&flow::list(&reader()?, args)?),
        Command::Policy(PolicyCommand::List) => output.rows(&policy::list(&reader()?)?),
        Command::Policy(PolicyCommand::Get { policy }) => output.one(&policy::get(&reader()?, policy)?),
        Command::Explain(args) => explain::run(&reader()?, args, *output),
        Command::Trace(args) => trace::run(&reader()?, args, *output),
        Command::Monitor(args) => monitor::run(&reader()?, args, *output).map(|()| String::new()),
        Command::Top(args) => top::run(bpf_root, args, *output),
        Command::Bugreport(args) => bugreport::run(bpf_root, args),
        Command::Capture(args) => capture::run(&reader()?, args, *output),
        Command::Drops(args) => drops::run(&reader()?, args, *output),
        Command::Report(args) => report::run(&reader()?, args, *output),
        Command::Counter(CounterCommand::List) => output.rows(&counter::list(&reader()?)?),
        Command::Map(MapCommand::List) => output.rows(&map::list(&reader()?)?),
        Command::Completions { shell } => Ok(manual::completions(*shell)),
        Command::Man { dir } => manual::pages(dir.as_deref()),
        Command::Map(MapCommand::Dump { name }) => output.one(&dump::dump(&reader()?, name)?),
    }
}
