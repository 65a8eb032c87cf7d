//! A lab without any product in it: everybody reaches everybody directly, two labs do not meet, and nothing is left when
//! they are down. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use sluice_lab::process::ProcessId;
use sluice_lab::state::State;
use sluice_lab::{
    Lab, Lifetime, Listen, Outcome, PodSpec, Probe, Protocol, Tally, Topology, UdpStyle, netns,
};

fn topology(link: &str) -> Topology {
    Topology::parse(&format!(
        "
link: {link}
nodes:
- {{name: node-1, addresses: [172.18.0.11, 'fd00:18::11'], podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}}
- {{name: node-2, addresses: [172.18.0.12, 'fd00:18::12'], podCIDRs: [10.244.2.0/24, 'fd00:244:2::/64']}}
pods:
- {{name: one, node: node-1, ips: [10.244.1.10, 'fd00:244:1::10']}}
- {{name: near, node: node-1, ips: [10.244.1.11, 'fd00:244:1::11']}}
- {{name: two, node: node-2, ips: [10.244.2.10, 'fd00:244:2::10']}}
outside:
- {{name: laptop, ips: [172.18.0.200, 'fd00:18::200'], via: node-2}}
"
    ))
    .unwrap()
}

fn traces(lab: &Lab) -> Vec<String> {
    let id = lab.id();
    let cgroup = id.cgroup_dir(&sluice_lab::cgroup::mount_point().unwrap());
    let folders = [id.state_dir(), id.bpf_dir(), cgroup];
    let spaces = netns::list().unwrap().into_iter().filter(|name| id.owns_netns(name));
    folders.iter().filter(|path| path.exists()).map(|path| path.display().to_string()).chain(spaces).collect()
}

/// All probes to both addresses of `to` on port 8080 in every style.
fn everything_to(to: &[&str]) -> Vec<Probe> {
    let mut probes = Vec::new();
    for ip in to {
        let to = SocketAddr::new(ip.parse().unwrap(), 8080);
        probes
            .extend([Protocol::Tcp, Protocol::Udp, Protocol::Icmp].map(|protocol| Probe::new(protocol, to)));
        probes.push(Probe { udp: UdpStyle::Unconnected, ..Probe::new(Protocol::Udp, to) });
    }
    probes
}

fn serve(lab: &Lab, name: &str) {
    let place = lab.place(name).unwrap();
    let sockets = |ip: &std::net::IpAddr| {
        [Protocol::Tcp, Protocol::Udp].map(|protocol| Listen { protocol, at: SocketAddr::new(*ip, 8080) })
    };
    place.listen(&place.ips.iter().flat_map(sockets).collect::<Vec<_>>()).unwrap();
}

fn check_everybody_reaches_everybody(lab: &Lab) {
    let names = ["one", "near", "two", "node-1", "node-2", "laptop"];
    names.iter().for_each(|name| serve(lab, name));
    for from in names {
        let from = lab.place(from).unwrap();
        for to in names.iter().map(|to| lab.place(to).unwrap()) {
            let ips: Vec<String> = to.ips.iter().map(ToString::to_string).collect();
            let probes = everything_to(&ips.iter().map(String::as_str).collect::<Vec<_>>());
            for (probe, tally) in probes.iter().zip(from.probe(&probes).unwrap()) {
                let what =
                    format!("{} -> {} {:?} {}: {tally}", from.name, to.name, probe.udp, probe.protocol);
                assert_eq!((tally.answers(), tally.failures()), (1, 0), "{what}");
                let server = tally.answered.values().next().unwrap();
                if probe.protocol != Protocol::Icmp {
                    assert_eq!(server.name, to.name, "{what}");
                    assert!(
                        from.ips.contains(server.sources.first().unwrap()),
                        "source is rewritten: {what}"
                    );
                }
            }
        }
    }
}

#[test]
fn pods_nodes_and_outside_clients_reach_each_other_and_nothing_is_left_afterwards() {
    for link in ["ptp", "bridge"] {
        let lab = Lab::up(&topology(link)).unwrap();
        check_everybody_reaches_everybody(&lab);
        assert_eq!(traces(&lab).len(), 3 + 7, "{:?}", traces(&lab));
        let id = lab.id().clone();
        lab.down().unwrap();
        let left: Vec<String> =
            netns::list().unwrap().into_iter().filter(|name| id.owns_netns(name)).collect();
        assert_eq!(left, Vec::<String>::new());
        let cgroup = id.cgroup_dir(&sluice_lab::cgroup::mount_point().unwrap());
        assert!(!id.state_dir().exists() && !id.bpf_dir().exists() && !cgroup.exists());
    }
}

#[test]
fn two_labs_of_the_same_addresses_run_side_by_side() {
    let (first, second) = (Lab::up(&topology("ptp")).unwrap(), Lab::up(&topology("ptp")).unwrap());
    serve(&first, "two");
    let probe = Probe::new(Protocol::Tcp, "10.244.2.10:8080".parse().unwrap());
    let ask = |lab: &Lab| lab.pod("one").unwrap().probe(std::slice::from_ref(&probe)).unwrap().remove(0);
    assert_eq!(ask(&first).answers(), 1);
    assert_eq!(ask(&second).to_string(), "refused 1x");
    first.down().unwrap();
    assert_eq!(ask(&second).to_string(), "refused 1x");
}

#[test]
fn what_nobody_owns_is_silent_and_what_nobody_serves_is_refused() {
    let lab = Lab::up(&topology("ptp")).unwrap();
    let mut probes = vec![
        Probe::new(Protocol::Tcp, "10.96.0.10:80".parse().unwrap()),
        Probe::new(Protocol::Udp, "[fd00:96::10]:80".parse().unwrap()),
        Probe::new(Protocol::Tcp, "10.244.2.10:81".parse().unwrap()).times(20),
        Probe {
            udp: UdpStyle::Unconnected,
            ..Probe::new(Protocol::Udp, "[fd00:244:2::10]:81".parse().unwrap())
        }
        .times(20),
        Probe::new(Protocol::Udp, "10.244.2.10:81".parse().unwrap()).times(20),
    ];
    // Who is to say nothing is not waited for; a refusal may come late on a busy machine.
    for (index, probe) in probes.iter_mut().enumerate() {
        probe.timeout = if index < 2 { Duration::from_millis(200) } else { Duration::from_secs(5) };
    }
    let seen: Vec<String> =
        lab.pod("one").unwrap().probe(&probes).unwrap().iter().map(Tally::to_string).collect();
    assert_eq!(seen, ["timeout 1x", "timeout 1x", "refused 20x", "refused 20x", "refused 20x"]);
}

#[test]
fn an_outside_client_enters_through_the_node_that_its_mark_names() {
    let lab = Lab::up(&topology("ptp")).unwrap();
    let laptop = lab.place("laptop").unwrap();
    // Only node-1 knows that address, so only packets that pass node-1 are answered.
    let node = lab.topology().node("node-1").unwrap().clone();
    netns::ip(&lab.node(&node.name).unwrap().netns, &["addr add 203.0.113.7/32 dev lo".to_owned()]).unwrap();
    let through = |mark, timeout| Probe {
        mark,
        timeout,
        ..Probe::new(Protocol::Icmp, "203.0.113.7:0".parse().unwrap())
    };
    let (answer, glance) = (Duration::from_secs(5), Duration::from_millis(200));
    let probes = [through(Some(1), answer), through(Some(2), glance), through(None, glance)];
    let tallies = laptop.probe(&probes).unwrap();
    let answers: Vec<u32> = tallies.iter().map(Tally::answers).collect();
    assert_eq!(answers, [1, 0, 0]);
}

#[test]
fn pods_come_and_go_in_a_running_lab() {
    let lab = Lab::up(&topology("ptp")).unwrap();
    let probe = Probe::new(Protocol::Tcp, "10.244.1.50:8080".parse().unwrap());
    let ask = || lab.pod("two").unwrap().probe(std::slice::from_ref(&probe)).unwrap().remove(0);
    for name in ["late", "later"] {
        // The second pod takes over the address of the first.
        lab.pod_add(&PodSpec {
            name: name.to_owned(),
            node: "node-1".to_owned(),
            ips: vec!["10.244.1.50".parse().unwrap()],
        })
        .unwrap();
        serve(&lab, name);
        assert_eq!(ask().answered["10.244.1.50:8080"].name, name);
        assert!(Lab::open(lab.id()).unwrap().pod(name).is_ok());
        lab.pod_remove(name).unwrap();
        assert!(lab.pod(name).is_err());
    }
}

#[test]
fn a_flow_stays_on_its_socket_and_a_load_counts_what_breaks() {
    let lab = Lab::up(&topology("ptp")).unwrap();
    serve(&lab, "two");
    let (one, two) = (lab.pod("one").unwrap(), lab.pod("two").unwrap());
    let to: SocketAddr = "10.244.2.10:8080".parse().unwrap();
    let (patience, mut peers) = (Duration::from_secs(5), Vec::new());
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let first = one.open("flow", &Probe::new(protocol, to)).unwrap();
        let again = one.use_flow("flow", patience, 1).unwrap();
        for outcome in [first, again] {
            let Outcome::Answered(answer) = outcome else { panic!("{protocol}: {outcome:?}") };
            peers.push(answer.peer);
        }
    }
    assert_eq!((peers[0], peers[2]), (peers[1], peers[3]), "a flow keeps its source port");
    let load = one.load("steady", &Probe { concurrency: 4, ..Probe::new(Protocol::Tcp, to) }).unwrap();
    wait_for(|| load.read().unwrap().tally.answers() > 200);
    assert_eq!(load.read().unwrap().tally.failures(), 0);
    two.reset().unwrap();
    wait_for(|| load.read().unwrap().tally.failures() > 3);
    let report = load.stop().unwrap();
    assert!(
        report.first_failures[0].contains(": refused") || report.first_failures[0].contains(": closed"),
        "{report:?}"
    );
    assert!(report.slowest > Duration::ZERO);
}

#[test]
fn a_datagram_flow_that_was_refused_works_as_soon_as_somebody_serves() {
    let lab = Lab::up(&topology("ptp")).unwrap();
    let one = lab.pod("one").unwrap();
    let probe = Probe::new(Protocol::Udp, "10.244.2.10:8080".parse().unwrap());
    assert_eq!(one.open("flow", &probe).unwrap(), Outcome::Failed(sluice_lab::Failure::Refused));
    assert_eq!(
        one.use_flow("flow", Duration::from_secs(5), 1).unwrap(),
        Outcome::Failed(sluice_lab::Failure::Refused)
    );
    serve(&lab, "two");
    let outcome = one.use_flow("flow", Duration::from_millis(100), 50).unwrap();
    assert!(matches!(&outcome, Outcome::Answered(answer) if answer.name == "two"), "{outcome:?}");
}

#[test]
fn a_lab_whose_owner_is_gone_is_swept_and_a_held_one_is_not() {
    let mut gone = Vec::new();
    for lifetime in [Lifetime::Held, Lifetime::Owner] {
        let lab = Lab::up_for(&topology("ptp"), Lifetime::Held).unwrap();
        let mut state = State::read(lab.id()).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        state.owner = ProcessId { pid: i32::try_from(child.id()).unwrap(), started: 1 };
        state.lifetime = lifetime;
        child.wait().unwrap();
        state.write().unwrap();
        gone.push(lab);
    }
    drop(Lab::up(&topology("ptp")).unwrap());
    let exists = |lab: &Lab| Path::new(&lab.id().state_dir()).exists();
    assert!(exists(&gone[0]), "a held lab stays");
    assert!(!exists(&gone[1]), "an orphan is taken down");
    gone.remove(0).down().unwrap();
}

fn wait_for(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "did not happen within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}
