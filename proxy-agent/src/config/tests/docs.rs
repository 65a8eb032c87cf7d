//! `docs/kube-proxy-flags.md` names every flag and every field of kube-proxy, and says of each what the code does.

use std::collections::BTreeMap;

use super::super::file::{FIELDS, Use};
use super::*;
use crate::cli::kube_proxy::{FOREIGN, Taken};
use clap::CommandFactory as _;

/// Flags of kube-proxy on Linux, without `--help`:
/// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/cmd/kube-proxy/app/options.go> and its flags of logging.
const UPSTREAM: &str = "bind-address bind-address-hard-fail cleanup cluster-cidr config config-sync-period \
    conntrack-max-per-core conntrack-min conntrack-tcp-be-liberal conntrack-tcp-timeout-close-wait \
    conntrack-tcp-timeout-established conntrack-udp-timeout conntrack-udp-timeout-stream detect-local-mode feature-gates \
    healthz-bind-address healthz-port hostname-override init-only iptables-localhost-nodeports iptables-masquerade-bit \
    iptables-min-sync-period iptables-sync-period ipvs-exclude-cidrs ipvs-min-sync-period ipvs-scheduler ipvs-strict-arp \
    ipvs-sync-period ipvs-tcp-timeout ipvs-tcpfin-timeout ipvs-udp-timeout kube-api-burst kube-api-content-type kube-api-qps \
    kubeconfig log-flush-frequency log-json-info-buffer-size log-json-split-stream log-text-info-buffer-size \
    log-text-split-stream logging-format masquerade-all master metrics-bind-address metrics-port nodeport-addresses \
    oom-score-adj pod-bridge-interface pod-interface-name-prefix profiling proxy-mode show-hidden-metrics-for-version v \
    version vmodule write-config-to";

/// The rows of the table below a heading: what stands first in each, and all that follows.
fn rows(heading: &str) -> BTreeMap<String, String> {
    let text = include_str!("../../../../docs/kube-proxy-flags.md");
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).expect("a section");
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    cells.map(|(name, rest)| (name.to_owned(), rest.trim_end_matches(" |").to_owned())).collect()
}

#[test]
fn every_flag_of_kube_proxy_is_in_the_table_and_taken_as_it_says() {
    let rows = rows("Flags");
    let upstream: Vec<String> = UPSTREAM.split_whitespace().map(|name| format!("--{name}")).collect();
    assert_eq!(rows.keys().cloned().collect::<Vec<_>>(), upstream);
    for flag in FOREIGN {
        let verb = match flag.taken {
            Taken::Ignored => "ignored",
            Taken::Refused => "refused",
        };
        assert_eq!(rows[&format!("--{}", flag.name)], format!("{verb}: {}", flag.why));
    }
    let cli = Cli::command();
    let run = cli.find_subcommand("run").expect("a command");
    let known: Vec<&str> = run
        .get_arguments()
        .flat_map(|arg| arg.get_long().into_iter().chain(arg.get_all_aliases().into_iter().flatten()))
        .collect();
    for name in UPSTREAM.split_whitespace().filter(|name| *name != "version") {
        assert!(known.contains(&name), "--{name} is not taken");
    }
}

/// A command or flag that was renamed is found where people are told to type it.
#[test]
fn every_command_of_readme_and_installation_is_understood() {
    let pages = [include_str!("../../../../README.md"), include_str!("../../../../docs/install.md")];
    let lines = pages.iter().flat_map(|page| page.lines()).filter_map(|line| {
        let (_, line) = line.split_once("# proxy").or_else(|| line.split_once("-- /proxy"))?;
        Some(format!("proxy{}", line.split(" # ").next()?.replace(['"', '$', '(', ')'], "")))
    });
    let mut tried = 0;
    for line in lines {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        // What a shell makes of `$(hostname)` is one word.
        words.retain(|word| *word != "#");
        let taken = match words[0] {
            "proxyctl" => crate::ctl::Cli::try_parse_from(&words).map(|_| ()),
            _ => Cli::try_parse_from(&words).map(|_| ()),
        };
        taken.unwrap_or_else(|error| panic!("{line}: {error}"));
        tried += 1;
    }
    assert!(tried >= 8, "{tried}");
}

#[test]
fn every_field_of_the_file_is_in_the_table_and_taken_as_it_says() {
    let expected: BTreeMap<String, String> = FIELDS
        .iter()
        .map(|(path, taken)| {
            let said = match taken {
                Use::Flag(flag) => format!("as `--{flag}`"),
                Use::Ignored(why) => format!("ignored: {why}"),
            };
            ((*path).to_owned(), said)
        })
        .collect();
    assert_eq!(rows("Fields"), expected);
}
