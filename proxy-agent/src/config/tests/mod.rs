//! Flags in, configuration or a clear error out.

mod docs;
mod file;

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use clap::Parser;

use crate::cli::{Cli, Command, XdpArg};

fn config(flags: &[&str]) -> Result<Config, String> {
    let base = ["proxy-agent", "run", "--node-name", "n1", "--manifests", "/m", "--cgroup-root", "/c"];
    let cli = Cli::try_parse_from(base.iter().chain(flags)).map_err(|error| error.to_string())?;
    match cli.command {
        Command::Run(args) => Config::from_args(*args).map_err(|error| error.to_string()),
        Command::Cleanup(_) | Command::MountBpf(_) | Command::Version => Err("another command".into()),
    }
}

#[test]
fn api_servers_are_urls_or_hosts_with_or_without_a_port() {
    let servers = |text: &str| {
        let run = [
            "proxy-agent",
            "run",
            "--node-name=n1",
            "--kubeconfig=/k",
            "--cgroup-root=/c",
            "--api-server",
            text,
        ];
        let Command::Run(args) = Cli::try_parse_from(run).unwrap().command else { panic!("another command") };
        let config = Config::from_args(*args).map_err(|error| error.to_string())?;
        Ok::<_, String>(config.api_servers.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let given = "10.0.0.1, 10.0.0.2:443,[fd00::1],[fd00::2]:8443,https://api.example.net,http://127.0.0.1:1/";
    let taken = [
        "https://10.0.0.1:6443/",
        "https://10.0.0.2:443/",
        "https://[fd00::1]:6443/",
        "https://[fd00::2]:8443/",
        "https://api.example.net/",
        "http://127.0.0.1:1/",
    ];
    assert_eq!(servers(given).unwrap(), taken);
    for bad in ["ftp://10.0.0.1", "https://", "10.0.0.1/path", "10.0.0.1:port"] {
        let error = servers(bad).unwrap_err();
        assert!(error.starts_with(&format!("--api-server: {bad:?} is not a server such as")), "{error}");
    }
    config(&["--api-server=10.0.0.1"]).unwrap_err();
}

#[test]
fn without_further_flags_the_defaults_hold() {
    assert_eq!(
        config(&[]).unwrap(),
        Config {
            node_name: "n1".into(),
            bind_address: None,
            service_proxy_name: None,
            source: SourceConfig::Manifests("/m".into()),
            api_servers: vec![],
            roots: Roots { bpf: "/sys/fs/bpf/sluice".into(), cgroup: "/c".into() },
            socket_lb: SocketLb::Auto,
            detect_local: DetectLocal::ClusterCidr,
            cluster_cidrs: vec![],
            masquerade: Masquerade::WhereNeeded,
            local_source: LocalSource::Masqueraded,
            dsr: DsrArg::Off,
            algorithm: Algorithm::RANDOM,
            table_size: TableSize::Fitting,
            service_metrics: Switch::On,
            policy: PolicyArgs {
                network_policy: Switch::On,
                policy_on_change: crate::cli::PolicyChangeArg::All
            },
            service_cidrs: vec![],
            nodeport_addresses: NodePortAddresses::Primary,
            localhost_nodeports: LocalhostNodePorts::Served,
            external_ips: Serving::On,
            uplinks: Uplinks::Auto,
            xdp: XdpArg::Off,
            families: Families::Auto,
            tables: TableSizes {
                flows: 262_144,
                frontends: 262_144,
                backends: 1_048_576,
                verdicts: 131_072,
                peers: 262_144,
            },
            healthz: Some("0.0.0.0:10256".parse().unwrap()),
            metrics: Some("127.0.0.1:10249".parse().unwrap()),
            sync_period: Duration::from_secs(30),
            min_sync_period: Duration::ZERO,
            audit_period: Duration::from_secs(60),
            oom_score_adj: None,
            notes: vec![],
            file: None,
        }
    );
}

#[test]
fn external_ips_are_ignored_if_that_is_said() {
    let external_ips = |flags: &[&str]| config(flags).map(|config| config.external_ips);
    assert_eq!(external_ips(&["--ignore-external-ips"]), Ok(Serving::Off));
    assert_eq!(external_ips(&["--ignore-external-ips=true"]), Ok(Serving::Off));
    assert_eq!(external_ips(&["--ignore-external-ips=false"]), Ok(Serving::On));
    external_ips(&["--ignore-external-ips=some"]).unwrap_err();
}

#[test]
fn lists_are_split_and_ranges_lose_their_host_bits() {
    let config = config(&[
        "--cluster-cidr=10.244.1.7/16,fd00:10::/56",
        "--uplinks=eth0,eth1",
        "--nodeport-addresses=192.0.2.0/24",
        "--metrics-bind-address=",
        "--healthz-bind-address=[::1]:9000",
        "--min-sync-period=250ms",
    ])
    .unwrap();
    assert_eq!(config.cluster_cidrs, ["10.244.0.0/16".parse().unwrap(), "fd00:10::/56".parse().unwrap()]);
    assert_eq!(config.uplinks, Uplinks::Named(vec!["eth0".into(), "eth1".into()]));
    assert_eq!(config.nodeport_addresses, NodePortAddresses::Ranges(vec!["192.0.2.0/24".parse().unwrap()]));
    assert_eq!((config.metrics, config.healthz), (None, Some("[::1]:9000".parse().unwrap())));
    assert_eq!(config.min_sync_period, Duration::from_millis(250));
}

#[test]
fn a_bad_flag_is_named_with_what_it_should_have_been() {
    for (flag, expected) in [
        ("--cluster-cidr=10.0.0.0", "--cluster-cidr: \"10.0.0.0\" is not an address range"),
        (
            "--nodeport-addresses=primary,10.0.0.0/8",
            "--nodeport-addresses: \"primary,10.0.0.0/8\" is not either",
        ),
        ("--healthz-bind-address=here", "--healthz-bind-address: \"here\" is not an address and port"),
        ("--flow-table-size=0", "--flow-table-size: \"0\" is not a number above zero"),
        ("--min-sync-period=soon", "--min-sync-period: \"soon\" is not a duration"),
        ("--sync-period=0s", "--sync-period: \"0s\" is not a duration above zero"),
        (
            "--write-config-to=/f",
            "--write-config-to is kube-proxy's: the defaults are in docs/kube-proxy-flags.md",
        ),
        ("--socket-lb=maybe", "invalid value 'maybe' for '--socket-lb"),
    ] {
        let error = config(&[flag]).unwrap_err();
        assert!(error.contains(expected), "{flag}: {error}");
    }
}

#[test]
fn item_142_the_ways_to_tell_pods_are_spelt_as_kube_proxy_spells_them_and_take_what_they_need() {
    let detect = |flags: &[&str]| config(flags).map(|config| config.detect_local);
    assert_eq!(detect(&["--detect-local-mode=ClusterCIDR"]), Ok(DetectLocal::ClusterCidr));
    assert_eq!(detect(&["--detect-local-mode=NodeCIDR"]), Ok(DetectLocal::NodeCidr));
    assert_eq!(
        detect(&["--detect-local-mode=BridgeInterface", "--bridge-interface=cni0"]),
        Ok(DetectLocal::Bridge("cni0".into()))
    );
    assert_eq!(
        detect(&["--detect-local-mode=InterfaceNamePrefix", "--interface-name-prefix=veth"]),
        Ok(DetectLocal::Prefix("veth".into()))
    );
    for (flags, expected) in [
        (
            &["--detect-local-mode=BridgeInterface"][..],
            "--detect-local-mode: \"BridgeInterface\" is not a mode that stands alone: give --pod-bridge-interface too",
        ),
        (
            &[
                "--detect-local-mode=InterfaceNamePrefix",
                "--pod-interface-name-prefix=",
                "--bridge-interface=cni0",
            ],
            "--detect-local-mode: \"InterfaceNamePrefix\" is not a mode that stands alone: give --pod-interface-name-prefix too",
        ),
        (
            &["--detect-local-mode=nodecidr"],
            "--detect-local-mode: \"nodecidr\" is not ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix",
        ),
    ] {
        assert_eq!(detect(flags), Err(expected.to_owned()), "{flags:?}");
    }
}

#[test]
fn more_ranges_than_the_kernel_programs_have_room_for_are_refused_by_the_flags_name() {
    let ranges = |number: u32| (0..number).map(|n| format!("{}/24", std::net::Ipv4Addr::from(n << 8)));
    let flag = |flag: &str, number| format!("--{flag}={}", ranges(number).collect::<Vec<_>>().join(","));
    assert_eq!(config(&[&flag("cluster-cidr", 512)]).unwrap().cluster_cidrs.len(), 512);
    for name in ["cluster-cidr", "service-cidr"] {
        assert_eq!(
            config(&[&flag(name, 513)]),
            Err(format!("--{name}: 513 ranges of one family; at most 512 are told apart"))
        );
    }
}

#[test]
fn item_68_localhost_node_ports_can_be_switched_off() {
    let served = |flags: &[&str]| config(flags).unwrap().localhost_nodeports;
    assert_eq!(served(&["--localhost-nodeports=false"]), LocalhostNodePorts::Left);
    assert_eq!(served(&["--localhost-nodeports"]), LocalhostNodePorts::Served);
    assert_eq!(served(&["--iptables-localhost-nodeports=false"]), LocalhostNodePorts::Left);
}

#[test]
fn the_cgroup2_mount_is_found_among_others() {
    let text = "25 30 0:23 / /sys rw,nosuid - sysfs sysfs rw\n\
                36 25 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                37 25 0:32 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
    assert_eq!(cgroup2_mount(text), Some("/sys/fs/cgroup/unified".into()));
    assert_eq!(cgroup2_mount("25 30 0:23 / /sys rw - sysfs cgroup2 rw\n"), None);
}

#[test]
fn item_122_the_name_of_the_node_has_no_capitals_and_may_be_overridden() {
    let named = |flag: &str| {
        let cli =
            Cli::try_parse_from(["proxy-agent", "run", "--manifests=/m", "--cgroup-root=/c", flag]).unwrap();
        let Command::Run(args) = cli.command else { panic!("another command") };
        Config::from_args(*args).map(|config| config.node_name).map_err(|error| error.to_string())
    };
    assert_eq!(named("--hostname-override= Worker-1.Example "), Ok("worker-1.example".into()));
    assert_eq!(named("--node-name=n2"), Ok("n2".into()));
    assert_eq!(named("--node-name= "), Err("the host has no usable name: give --node-name NAME".into()));
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    assert_eq!(named("--masquerade-all"), Ok(host));
}

#[test]
fn flags_of_kube_proxy_are_taken_as_it_takes_them() {
    let config = config(&[
        "--masquerade-all=false",
        "--iptables-sync-period=20s",
        "--iptables-min-sync-period=2s",
        "--bind-address=2001:db8::7",
        "--oom-score-adj=-998",
        "--service-proxy-name=mine",
        "--proxy-mode=iptables",
        "--conntrack-min",
        "131072",
        "-v",
        "2",
        "--profiling",
    ])
    .unwrap();
    assert_eq!(
        config.notes,
        [
            "--conntrack-min=131072 is not followed: connections are kept in maps of Sluice's own: --flow-table-size is \
             their size",
            "--profiling=true is not followed: there are no profiles to ask for; use perf",
            "--proxy-mode=iptables is not followed: there is one mode; it behaves like nftables where kube-proxy's modes \
             differ",
            "--v=2 is not followed: logging is set by --log-level and --log-format",
        ]
    );
    assert_eq!(config.masquerade, Masquerade::WhereNeeded);
    assert_eq!(
        (config.sync_period, config.min_sync_period),
        (Duration::from_secs(20), Duration::from_secs(2))
    );
    assert_eq!(
        (config.bind_address, config.oom_score_adj),
        ("2001:db8::7".parse::<IpAddr>().ok(), Some(-998))
    );
    assert_eq!(config.service_proxy_name.as_deref(), Some("mine"));
    // As for kube-proxy, the family of the node's address is that of the servers.
    assert_eq!(config.healthz, Some("[::]:10256".parse().unwrap()));
    assert_eq!(config.metrics, Some("[::1]:10249".parse().unwrap()));
}

#[test]
fn an_unspecified_address_says_nothing() {
    for flag in ["--bind-address=0.0.0.0", "--bind-address=::"] {
        assert_eq!(config(&[flag]).unwrap(), config(&[]).unwrap(), "{flag}");
    }
}
