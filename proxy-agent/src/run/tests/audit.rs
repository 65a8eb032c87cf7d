//! What somebody else has done to the maps is found, put right and counted by where it was.

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
