//! What an earlier run left, while a source cannot tell all that there is.

use super::*;

#[test]
fn a_restart_with_an_unreadable_manifest_deletes_nothing_until_it_is_read() {
    let mut before = Bench::synced();
    let web = || [service("web", &["10.96.0.1"]), slice("a", "web", &["10.244.1.1"])];
    before.take(
        web().into_iter().chain([service("lost", &["10.96.0.9"]), slice("b", "lost", &["10.244.1.9"])]),
    );
    let maps = std::mem::take(before.engine.dataplane());
    let mut after = Bench::over(Fake { v4: maps.v4, v6: maps.v6, ..Fake::default() });
    after.take(web().into_iter().chain([Update::UnreadableFiles(1), Update::Extent(Extent::Part)]));
    after.take(Kind::ALL.map(Update::Synced));
    assert_eq!(after.lookup("10.96.0.9:80"), backends(&["10.244.1.9:8080"]));
    assert!(after.status.snapshot().is_ready());
    after.engine.audit(Instant::now() + Duration::from_secs(60));
    assert_eq!(
        after.lookup("10.96.0.9:80"),
        backends(&["10.244.1.9:8080"]),
        "an audit deletes nothing either"
    );
    assert_eq!(after.engine.dataplane().writes, 0);
    after.take([Update::Extent(Extent::Whole)]);
    assert_eq!(after.lookup("10.96.0.9:80"), None);
    assert_eq!(after.lookup("10.96.0.1:80"), backends(&["10.244.1.1:8080"]));
}

#[test]
fn a_service_that_goes_after_the_first_plan_goes_though_something_else_cannot_be_read() {
    let mut bench = Bench::synced();
    bench.take([service("web", &["10.96.0.1"]), slice("a", "web", &["10.244.1.1"])]);
    bench.take([Update::Extent(Extent::Part)]);
    bench.take([gone(Kind::Service, "web")]);
    assert_eq!(bench.lookup("10.96.0.1:80"), None);
}
