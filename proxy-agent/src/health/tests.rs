//! What the servers answer, without a network; and once over a real connection.

use std::collections::BTreeMap;

use axum::body::to_bytes;
use proxy_model::IpFamily;
use serde_json::{Value, json};

use super::*;
use crate::observe::maps::PinnedMaps;
use crate::observe::status::{Eligibility, Progress, Snapshot};

fn shown(change: impl FnOnce(&mut Snapshot)) -> Shown {
    let status = Arc::new(Status::default());
    status.update(change);
    Shown { status, metrics: Arc::new(Metrics::new(PinnedMaps::below("/nonexistent".into()))) }
}

/// Status and body, whose time is that of the answer where it says so.
async fn json(response: Response) -> (u16, Value) {
    let code = response.status().as_u16();
    let headers = response.headers().clone();
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let bytes = to_bytes(response.into_body(), 4096).await.unwrap();
    let mut body: Value = serde_json::from_slice(&bytes).unwrap();
    let now = body["currentTime"].take();
    if body["lastUpdated"] == now {
        body["lastUpdated"] = "now".into();
    }
    (code, body)
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

/// The whole body of an agent that did its last sync of IPv4 at second 7, of IPv6 at second 5.
fn expected(updated: &str, eligible: Option<bool>, healthy: bool, late: Option<IpFamily>) -> Value {
    let family = |family, time: &str| json!({"lastUpdated": time, "healthy": late != Some(family)});
    let mut body = json!({
        "lastUpdated": updated, "currentTime": null, "healthy": healthy,
        "status": {
            "IPv4": family(IpFamily::Ipv4, "1970-01-01T00:00:07.000Z"),
            "IPv6": family(IpFamily::Ipv6, "1970-01-01T00:00:05.000Z"),
        },
        "ready": true, "sourceAgeSeconds": 0, "objectsWithProblems": 0, "unreadableFiles": 0, "refusedFrontends": 0,
    });
    if let Some(eligible) = eligible {
        body["nodeEligible"] = eligible.into();
    }
    body
}

fn synced(snapshot: &mut Snapshot) {
    let at = |second| Progress { last_sync: Some(at(second)), pending_since: None };
    snapshot.families = BTreeMap::from([(IpFamily::Ipv4, at(7)), (IpFamily::Ipv6, at(5))]);
}

#[tokio::test]
async fn items_123_and_131_a_node_that_leaves_is_alive_but_gets_no_traffic() {
    let shown = shown(|status| {
        synced(status);
        status.eligibility = Eligibility::Leaving;
    });
    let (code, body) = json(healthz(State(shown.clone())).await).await;
    assert_eq!((code, body), (503, expected("1970-01-01T00:00:07.000Z", Some(false), true, None)));
    assert_eq!(json(livez(State(shown)).await).await, (200, expected("now", None, true, None)));
}

#[tokio::test]
async fn item_132_an_idle_agent_was_updated_now() {
    let (code, body) = json(healthz(State(shown(synced))).await).await;
    assert_eq!((code, body), (200, expected("now", Some(true), true, None)));
}

#[tokio::test]
async fn item_150_one_family_that_does_not_keep_up_makes_the_whole_unhealthy_and_is_named() {
    let shown = shown(|status| {
        synced(status);
        status.families.entry(IpFamily::Ipv6).or_default().pending_since = Some(at(10));
    });
    let late = |eligible| expected("1970-01-01T00:00:07.000Z", eligible, false, Some(IpFamily::Ipv6));
    assert_eq!(json(healthz(State(shown.clone())).await).await, (503, late(Some(true))));
    assert_eq!(json(livez(State(shown.clone())).await).await, (503, late(None)));
    let text = shown.metrics.text(&shown.status.snapshot(), SystemTime::now());
    for line in
        ["kubeproxy_proxy_healthz_total{code=\"503\"} 1", "kubeproxy_proxy_livez_total{code=\"503\"} 1"]
    {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn readiness_waits_for_the_first_full_plan_of_each_family() {
    assert_eq!(readyz(State(shown(|_| {}))).await.0, StatusCode::SERVICE_UNAVAILABLE);
    let half = shown(|status| {
        synced(status);
        status.families.insert(IpFamily::Ipv6, Progress::default());
    });
    assert_eq!(readyz(State(half)).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(readyz(State(shown(synced))).await.0, StatusCode::OK);
}
