//! What is written down for `proxyctl` beside the maps.

use std::path::Path;

use super::super::notes::{Notes, STEP};
use super::*;
use crate::kernel::Record;
use crate::observe::explain;
use crate::observe::report::About;

fn names(record: &Record) -> Option<usize> {
    explain::read(record.dir(), None).map(|(_, services)| services.len())
}

const MANY: usize = 600;

fn many() -> Vec<Update> {
    (0..MANY).map(|n| service(&format!("s{n}"), &[&format!("10.96.{}.{}", n / 250, n % 250 + 1)])).collect()
}

#[test]
fn what_is_known_is_written_down_in_turns_and_again_when_it_changes() {
    let run = tempfile::tempdir().unwrap();
    let record = Record::of(run.path(), Path::new("/sys/fs/bpf/x"));
    let mut bench = Bench::synced();
    bench.take(many());
    let mut now = Instant::now();
    let about = About { node: "n1".into(), ..About::default() };
    let mut notes = Notes::new(record.clone(), about, now).in_shortest_turns();
    let mut turns = 0;
    while names(&record).is_none() {
        now = notes.write(&bench.engine.known(), now);
        turns += 1;
        assert!(turns <= MANY, "never written");
    }
    // A turn that was full does not know that it was the last.
    assert_eq!((turns, names(&record)), (MANY / STEP + 1, Some(MANY)));
    assert_eq!(record.report().unwrap().about.node, "n1");

    // Without a change nothing is written, however late it is.
    std::fs::remove_file(record.dir().join("services.jsonl")).unwrap();
    now += Duration::from_secs(60);
    notes.write(&bench.engine.known(), now);
    assert_eq!(names(&record), None);

    bench.take([gone(Kind::Service, "s0")]);
    notes.finish(&bench.engine.known());
    assert_eq!(names(&record), Some(MANY - 1));
}

#[test]
fn what_cannot_be_written_down_is_tried_again_later_and_stops_nothing() {
    let mut bench = Bench::synced();
    bench.take(many());
    let record = Record::of(Path::new("/proc/nowhere"), Path::new("/sys/fs/bpf/x"));
    let now = Instant::now();
    let mut notes = Notes::new(record, About::default(), now);
    assert!(notes.write(&bench.engine.known(), now) >= now + Duration::from_secs(1));
    notes.finish(&bench.engine.known());
}

#[test]
fn a_run_that_knows_no_object_yet_says_when_the_one_before_it_was_in_sync() {
    let run = tempfile::tempdir().unwrap();
    let record = Record::of(run.path(), Path::new("/sys/fs/bpf/x"));
    let syncs = |bench: &Bench| {
        let now = Instant::now();
        Notes::new(record.clone(), About::default(), now).write(&bench.engine.known(), now);
        let family = record.report().unwrap().families.remove("IPv4").unwrap();
        (family.last_sync, family.earlier_sync)
    };
    let (first, none) = syncs(&Bench::synced());
    assert!(first.is_some() && none.is_none());
    for _ in 0..2 {
        assert_eq!(syncs(&Bench::over(Fake::default())), (None, first), "as long as nothing is known");
    }
    let (last, none) = syncs(&Bench::synced());
    assert!(last >= first && none.is_none());
}
