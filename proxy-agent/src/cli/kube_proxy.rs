//! Flags of kube-proxy that Sluice takes without following them, so that a command line can be kept. Each says why it
//! has no meaning here; those whose silence would mislead are refused. Compared with upstream's list and with
//! `docs/kube-proxy-flags.md` by the tests of `config`.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

/// What becomes of a flag that is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It is noted and changes nothing.
    Ignored,
    /// The agent does not start: somebody relies on it.
    Refused,
}

/// A flag of kube-proxy without a meaning here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Foreign {
    /// Its name, without the dashes.
    pub name: &'static str,
    /// What becomes of it.
    pub taken: Taken,
    /// Why, or what to do instead.
    pub why: &'static str,
}

const CONNTRACK: &str = "connections are kept in maps of Sluice's own: --flow-table-size is their size";
const IDLE: &str =
    "Sluice's maps keep an established connection that is idle by its own time-outs, not by conntrack's";
const IPVS: &str = "there is no IPVS";
const LOG: &str = "logging is set by --log-level and --log-format";
const CLIENT: &str = "the client of the API server has no limits of its own: it lists once and watches";

const fn ignored(name: &'static str, why: &'static str) -> Foreign {
    Foreign { name, taken: Taken::Ignored, why }
}

const fn refused(name: &'static str, why: &'static str) -> Foreign {
    Foreign { name, taken: Taken::Refused, why }
}

/// Every one, in the order of the alphabet.
pub const FOREIGN: &[Foreign] = &[
    ignored("bind-address-hard-fail", "an address that cannot be had is tried again until it can"),
    ignored("config-sync-period", "watches tell of every change; nothing is asked for again"),
    ignored("conntrack-max-per-core", CONNTRACK),
    ignored("conntrack-min", CONNTRACK),
    ignored(
        "conntrack-tcp-be-liberal",
        "packets outside of a window are translated like any other of their flow",
    ),
    ignored("conntrack-tcp-timeout-close-wait", IDLE),
    ignored("conntrack-tcp-timeout-established", IDLE),
    ignored("conntrack-udp-timeout", IDLE),
    ignored("conntrack-udp-timeout-stream", IDLE),
    ignored("feature-gates", "Sluice has no feature gates"),
    ignored("healthz-port", "it is --healthz-bind-address, as it is for kube-proxy"),
    refused("init-only", "there is no phase that needs more rights than the rest: run the agent itself"),
    ignored("iptables-masquerade-bit", "packets are masqueraded without a mark"),
    ignored("ipvs-exclude-cidrs", IPVS),
    ignored("ipvs-scheduler", "choose per Service, with the annotation sluice.dev/algorithm"),
    ignored(
        "ipvs-strict-arp",
        "addresses of Services are assigned to no device, so nobody asks for them by ARP",
    ),
    ignored("ipvs-tcp-timeout", IPVS),
    ignored("ipvs-tcpfin-timeout", IPVS),
    ignored("ipvs-udp-timeout", IPVS),
    ignored("kube-api-burst", CLIENT),
    ignored("kube-api-content-type", "objects are read as JSON"),
    ignored("kube-api-qps", CLIENT),
    ignored("log-flush-frequency", LOG),
    ignored("log-json-info-buffer-size", LOG),
    ignored("log-json-split-stream", LOG),
    ignored("log-text-info-buffer-size", LOG),
    ignored("log-text-split-stream", LOG),
    ignored("logging-format", LOG),
    ignored("metrics-port", "it is --metrics-bind-address, as it is for kube-proxy"),
    ignored("profiling", "there are no profiles to ask for; use perf"),
    ignored("proxy-mode", "there is one mode; it behaves like nftables where kube-proxy's modes differ"),
    ignored("show-hidden-metrics-for-version", "no metric is hidden"),
    ignored("v", LOG),
    ignored("vmodule", LOG),
    refused("write-config-to", "the defaults are in docs/kube-proxy-flags.md"),
];

/// Flags of kube-proxy that were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeProxyArgs {
    /// Each with its value.
    pub given: Vec<(Foreign, String)>,
}

impl Args for KubeProxyArgs {
    fn augment_args(command: Command) -> Command {
        FOREIGN.iter().fold(command, |command, flag| {
            let arg = Arg::new(flag.name)
                .long(flag.name)
                .hide(true)
                .action(ArgAction::Append)
                // As Go's flags have it: `--flag`, `--flag=value`, and `--flag value` where one follows.
                .num_args(0..=1)
                .default_missing_value("true");
            command.arg(if flag.name == "v" { arg.short('v') } else { arg })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for KubeProxyArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let values = |flag: &Foreign| matches.get_many::<String>(flag.name).into_iter().flatten().cloned();
        let given =
            FOREIGN.iter().flat_map(|flag| values(flag).map(|value| (*flag, value)).collect::<Vec<_>>());
        Ok(Self { given: given.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
