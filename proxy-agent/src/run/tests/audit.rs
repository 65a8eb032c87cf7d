//! What somebody else has done to the maps is found, put right and counted by where it was.

use super::*;

#[test]
fn an_audit_repairs_what_somebody_else_broke() {
    let mut bench = Bench::synced();
    bench.take([service("web", &["10.96.0.1"]), slice("a", "web", &["10.244.1.1"])]);
    bench.engine.dataplane().v4.frontends.clear();
    bench.engine.audit(Instant::now());
    assert_eq!(bench.lookup("10.96.0.1:80"), None, "too early: slots still rest");
    bench.engine.audit(Instant::now() + Duration::from_secs(60));
    assert_eq!(bench.lookup("10.96.0.1:80"), backends(&["10.244.1.1:8080"]));
    let repaired = std::mem::take(&mut bench.engine.dataplane().repaired);
    // The port, the address for the other ports, and a segment: nothing led to the old one any more.
    assert_eq!(repaired, ["backends4 1, frontends4 2"]);
    bench.engine.audit(Instant::now() + Duration::from_secs(120));
    assert_eq!(bench.engine.dataplane().repaired, [""; 0], "all is well");
}
