//! What each line says.

use std::collections::BTreeMap;

use super::page::{Start, policies, summary, synced};
use super::{Enforced, Life};
use crate::ctl::output::plain;
use crate::observe::report::{About, FamilyReport, Report};

#[test]
fn the_agents_own_words_are_lines() {
    let family = |last_sync, healthy| FamilyReport { last_sync, earlier_sync: None, healthy };
    let modes = [("detect-local", "10.244.0.0/16"), ("socket-lb", "on")];
    let report = Report {
        at: 1_000,
        about: About {
            version: "0.1.0".into(),
            node: "n1".into(),
            source: "the API server of /k".into(),
            modes: modes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        },
        zone: Some("za".into()),
        node_eligible: false,
        source_lost_since: Some(960),
        families: BTreeMap::from([
            ("IPv4".to_owned(), family(Some(990), true)),
            ("IPv6".to_owned(), family(None, false)),
        ]),
        degraded: vec!["one thing".into(), "another".into()],
    };
    let mut lines = Vec::new();
    summary(&report, Life::Ended, Start::WithMaps, &mut |name, value| {
        lines.push(format!("{name}: {}", plain(&value)));
    });
    assert_eq!(
        lines,
        [
            "node: n1, zone za; load balancers are told to leave it",
            "source: the API server of /k; no answer since 1970-01-01T00:16:00Z",
            "modes: detect-local 10.244.0.0/16, socket-lb on",
            "families: IPv4 synced 1970-01-01T00:16:30Z; IPv6 waits for the first full list of all objects from the source: until then serves what an earlier run left, late",
            "degraded: one thing",
            "degraded: another",
            "as of: 1970-01-01T00:16:40Z",
        ]
    );
}

#[test]
fn policies_are_a_line() {
    let some = Enforced { policies: 3, refused: 0, addresses: 4, epoch: 7 };
    assert_eq!(policies(&some), "3 about 4 addresses of this node, epoch 7");
    let refused = Enforced { refused: 1, ..some };
    let text = "3 about 4 addresses of this node, epoch 7; 1 refused, whose pods are isolated";
    assert_eq!(policies(&refused), text);
    assert_eq!(policies(&Enforced::default()), "none");
}

#[test]
fn before_the_first_sync_of_a_run_its_maps_serve_what_an_earlier_one_wrote() {
    let family = |last_sync, earlier_sync| FamilyReport { last_sync, earlier_sync, healthy: true };
    let waits = "waits for the first full list of all objects from the source: until then";
    let earlier = format!("{waits} serves what an earlier run synced 1970-01-01T00:16:30Z");
    let nothing = format!("{waits} nothing is served");
    for (family, start, text) in [
        (family(None, Some(990)), Start::WithMaps, earlier.as_str()),
        (family(Some(1_000), None), Start::WithMaps, "synced 1970-01-01T00:16:40Z"),
        // Somebody has removed the maps meanwhile.
        (family(None, Some(990)), Start::Empty, &nothing),
    ] {
        assert_eq!(plain(&synced(&family, start)), text);
    }
}
