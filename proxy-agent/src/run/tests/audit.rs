//! What somebody else has done to the maps is found, put right and counted by where it was.

use proxy_common::Frontend;
use proxy_common::policy::{Effect, PolicyState};

use super::memory::Seam;
use super::*;

#[test]
fn an_audit_repairs_what_somebody_else_broke() {
    let mut bench = Bench::synced();
    bench.take([service("web", &["10.96.0.1"]), slice("a", "web", &["10.244.1.1"])]);
    bench.engine.dataplane().v4.frontends.clear();
    bench.engine.audit(Instant::now() + Duration::from_secs(60));
    assert_eq!(bench.lookup("10.96.0.1:80"), backends(&["10.244.1.1:8080"]));
    let repaired = std::mem::take(&mut bench.engine.dataplane().repaired);
    // The port, the address for the other ports, and a segment: nothing led to the old one any more.
    assert_eq!(repaired, ["backends4 1, frontends4 2"]);
    bench.engine.audit(Instant::now() + Duration::from_secs(120));
    assert_eq!(bench.engine.dataplane().repaired, [""; 0], "all is well");
}

/// Something is written all the time: that hides nothing, and looks like nothing that somebody else did.
#[test]
fn an_audit_right_after_a_write_repairs_what_differs_and_nothing_else() {
    let mut bench = Bench::synced();
    bench.take([service("kept", &["10.96.0.1"]), slice("k", "kept", &["10.244.1.1"])]);
    let mut changes =
        (0..).map(|number| slice("a", "web", &[["10.244.1.1", "10.244.1.2", "10.244.1.3"][number % 3]]));
    bench.take([service("web", &["10.96.0.2"])]);
    let mut at = Instant::now();
    for round in 0..6 {
        bench.take(changes.next());
        if round % 2 == 1 {
            bench
                .engine
                .dataplane()
                .v4
                .frontends
                .retain(|key, _| key.addr.to_ip().to_string() != "10.96.0.1");
        }
        bench.engine.audit(at);
        assert_eq!(bench.lookup("10.96.0.1:80"), backends(&["10.244.1.1:8080"]), "round {round}");
        let repaired = std::mem::take(&mut bench.engine.dataplane().repaired);
        let found = repaired.iter().any(|one| one.contains("frontends4 2"));
        assert_eq!((found, repaired.len()), (round % 2 == 1, round % 2), "round {round}: {repaired:?}");
        // Slots that rest begin to rest anew: another comparison comes no sooner than they are free.
        bench.take(changes.next());
        bench.engine.dataplane().v4.frontends.retain(|key, _| key.addr.to_ip().to_string() != "10.96.0.1");
        bench.engine.audit(at + Duration::from_secs(1));
        assert_eq!(bench.lookup("10.96.0.1:80"), None, "round {round}");
        at += Duration::from_secs(5);
        bench.engine.audit(at);
        bench.engine.dataplane().repaired.clear();
        at += Duration::from_secs(5);
    }
}

fn labelled(app: &str) -> Update {
    policy::pod("client", &["10.244.1.6", "fd00:10::6"], json!({"app": app}))
}

/// What has been put right since the last time.
fn repairs(bench: &mut Bench) -> Vec<String> {
    std::mem::take(&mut bench.engine.dataplane().repaired)
}

/// Something rests all the time: that hides nothing, and looks like nothing that somebody else did.
#[test]
fn an_audit_between_changes_of_policies_repairs_what_differs_and_nothing_else() {
    for change in [PolicyChangeArg::All, PolicyChangeArg::NewFlows] {
        let args = PolicyArgs { policy_on_change: change, ..ENFORCED };
        let mut bench = Bench::asked(Fake::default(), settings(), args);
        bench.take(Kind::ALL.map(Update::Synced));
        bench.take(policy::cluster().into_iter().chain([policy::web()]));
        for round in 0..9 {
            bench.now += Duration::from_secs(1);
            bench.take([labelled(["other", "client", "another"][round % 3])]);
            bench.engine.audit(bench.now);
            assert_eq!(repairs(&mut bench), [""; 0], "round {round}");
            bench.engine.dataplane().v4.policed.clear();
            bench.engine.audit(bench.now);
            assert_eq!(repairs(&mut bench), ["policed4 1"], "round {round}");
            assert_eq!(policy::policed(&mut bench), ["10.244.1.5", "fd00:10::5"]);
            let page = bench.engine.dataplane().verdicts.values_mut().next().unwrap();
            page.effect = Effect(page.effect.0 ^ 1);
            bench.engine.audit(bench.now);
            assert_eq!(repairs(&mut bench), ["verdicts 1"], "round {round}");
            let epoch = bench.engine.dataplane().policy.epoch;
            bench.engine.dataplane().policy = PolicyState::default();
            bench.engine.audit(bench.now);
            assert_eq!(repairs(&mut bench), ["policy 1"], "round {round}");
            let again = bench.engine.dataplane().policy.epoch;
            let is_in_use = if change == PolicyChangeArg::All { again > epoch } else { again == epoch };
            assert!(is_in_use, "{change:?}, round {round}: {epoch} {again}");
        }
        let Next::At(at) = bench.engine.sync(bench.now) else { panic!("nothing rests") };
        bench.engine.audit(at);
        bench.engine.sync(at);
        assert_eq!(repairs(&mut bench), [""; 0], "what has rested goes");
    }
}

/// The planner counts in milliseconds, and an audit comes at any moment: also in the one at which something has rested long enough.
#[test]
fn what_goes_in_the_moment_of_an_audit_is_nothing_that_somebody_else_did() {
    for tenth in 0..10 {
        let mut bench = Bench::synced();
        bench.now += Duration::from_micros(100 * tenth);
        bench.take(policy::cluster().into_iter().chain([policy::web()]));
        let Next::At(at) = bench.take([labelled("other")]) else { panic!("nothing rests") };
        let pages = bench.engine.dataplane().verdicts.len();
        for before in [1_000, 500, 1] {
            bench.engine.audit(at - Duration::from_micros(before));
            assert_eq!(repairs(&mut bench), [""; 0], "{before} µs before");
        }
        bench.engine.sync(at);
        let left = bench.engine.dataplane().verdicts.len();
        assert!(left < pages, "{left} of {pages} pages: what has rested goes");
        assert_eq!(repairs(&mut bench), [""; 0]);
    }
}

/// With `--min-sync-period` a change waits.
#[test]
fn an_audit_that_comes_while_a_change_waits_is_made_after_it() {
    let mut bench = Bench::synced();
    bench.take([service("web", &["10.96.0.1"])]);
    bench.take(policy::cluster().into_iter().chain([policy::web()]));
    bench.engine.take([service("more", &["10.96.0.2"]), labelled("other")].into_iter());
    bench.engine.dataplane().v4.frontends.clear();
    bench.engine.dataplane().v6.policed.clear();
    assert_eq!(bench.engine.audit(bench.now), Next::OnUpdate);
    assert_eq!((repairs(&mut bench), bench.lookup("10.96.0.2:80")), (vec![], None), "it waits");
    let Next::At(release) = bench.take([]) else { panic!("nothing rests") };
    assert!(release > bench.now);
    assert_eq!(repairs(&mut bench), ["policed6 1", "frontends4 2"]);
    assert_eq!(
        bench.lookup("10.96.0.1:80").zip(bench.lookup("10.96.0.2:80")),
        backends(&[]).zip(backends(&[]))
    );
    assert_eq!(policy::policed(&mut bench), ["10.244.1.5", "fd00:10::5"]);
    bench.engine.dataplane().v6.policed.clear();
    bench.take([]);
    assert_eq!(policy::policed(&mut bench), ["10.244.1.5"], "it is owed no more");
}

#[test]
fn what_an_audit_finds_no_room_for_enters_when_what_it_deletes_is_gone() {
    let mut bench = Bench::synced();
    bench.take([service("web", &["10.96.0.1"]), slice("a", "web", &["10.244.1.1"])]);
    // Somebody fills the map with entries of nobody's.
    let fill = |port| (FrontendKey::new(Addr4::default(), Port::new(port), Proto::TCP), Frontend::default());
    bench.engine.dataplane().v4.frontends = (1..=1_000).map(fill).collect();
    bench.now += Duration::from_secs(60);
    let Next::At(at) = bench.engine.audit(bench.now) else { panic!("it waits for a change") };
    assert_eq!((at <= bench.now, bench.lookup("10.96.0.1:80")), (true, None));
    bench.engine.sync(bench.now);
    assert_eq!(bench.lookup("10.96.0.1:80"), backends(&["10.244.1.1:8080"]));
}

#[test]
fn item_131_a_repair_that_the_kernel_refuses_waits_to_be_written_as_a_change_does() {
    let mut bench = Bench::synced();
    bench.take([service("web", &["10.96.0.1"])]);
    bench.engine.dataplane().v4.frontends.clear();
    bench.engine.dataplane().v4.failures = 1;
    let Next::At(at) = bench.engine.audit(bench.now + Duration::from_secs(60)) else { panic!("no retry") };
    assert_eq!(bench.waiting(), [IpFamily::Ipv4]);
    bench.engine.sync(at);
    assert_eq!((bench.waiting(), bench.lookup("10.96.0.1:80")), (vec![], backends(&[])));
}

#[test]
fn what_the_kernel_refuses_to_take_in_of_the_node_in_an_audit_is_told_again() {
    let mut bench = Bench::synced();
    bench.take([service("web", &["10.96.0.1"])]);
    bench.engine.dataplane().node = None;
    bench.engine.dataplane().v4.refuses = Some((Seam::Node, libc::ENOMEM));
    let Next::At(at) = bench.engine.audit(bench.now + Duration::from_secs(60)) else { panic!("no retry") };
    assert_eq!(bench.waiting(), [IpFamily::Ipv4, IpFamily::Ipv6]);
    bench.engine.dataplane().v4.refuses = None;
    bench.engine.sync(at);
    assert_eq!((bench.waiting(), bench.engine.dataplane().node.is_some()), (vec![], true));
}
