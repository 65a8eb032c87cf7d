//! Health checks over loopback, as a load balancer asks them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use proxy_model::ObjectKey;
use proxy_model::local::{Health, HealthChecks};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::follow;
use crate::health::Shown;
use crate::observe::event::{Notice, Regarding};
use crate::observe::maps::PinnedMaps;
use crate::observe::{Events, Metrics, Status};

fn shown() -> Shown {
    let metrics = Arc::new(Metrics::new(PinnedMaps::below("/nonexistent".into())));
    Shown { status: Arc::new(Status::default()), metrics }
}

fn checks(address: SocketAddr, ready: usize) -> HealthChecks {
    HealthChecks::from([(address, Health { service: ObjectKey::new("shop", "web"), ready })])
}

/// An address on which nobody listens.
async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Head and body of an answer; `None` when nobody listens.
async fn get(address: SocketAddr, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.to_ascii_lowercase(), body.to_owned()))
}

/// Status, weight and body.
fn said((head, body): &(String, String)) -> (u16, String, Value) {
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    let weight = head.lines().find_map(|line| line.strip_prefix("x-load-balancing-endpoint-weight: "));
    (code, weight.unwrap_or("none").to_owned(), serde_json::from_str(body).unwrap())
}

async fn eventually(what: &str, address: SocketAddr, is: impl Fn(&Option<(String, String)>) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let seen = get(address, "/").await;
        if is(&seen) {
            return;
        }
        assert!(Instant::now() < deadline, "not within twenty seconds: {what}; last seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn body(ready: usize, healthy: bool) -> Value {
    json!({"service": {"namespace": "shop", "name": "web"}, "localEndpoints": ready,
        "serviceProxyHealthy": healthy})
}

#[tokio::test]
async fn items_125_to_128_a_server_opens_follows_its_endpoints_and_closes() {
    let (shown, address) = (shown(), free().await);
    let task = tokio::spawn(follow(shown.clone(), Events::nowhere()));
    shown.status.publish_health_checks(checks(address, 2));
    eventually("the server is open", address, Option::is_some).await;
    let answer = get(address, "/any/path?at=all").await.unwrap();
    assert_eq!(said(&answer), (200, "2".into(), body(2, true)));
    for header in ["content-type: application/json", "x-content-type-options: nosniff"] {
        assert!(answer.0.lines().any(|line| line == header), "{header} is not in\n{}", answer.0);
    }

    shown.status.publish_health_checks(checks(address, 0));
    assert_eq!(said(&get(address, "/").await.unwrap()), (503, "0".into(), body(0, true)));

    let late = SystemTime::now() - Duration::from_secs(61);
    shown.status.update(|status| {
        status.families.values_mut().for_each(|family| family.pending_since = Some(late));
    });
    shown.status.publish_health_checks(checks(address, 1));
    assert_eq!(said(&get(address, "/").await.unwrap()), (503, "1".into(), body(1, false)));

    shown.status.publish_health_checks(HealthChecks::new());
    eventually("the server is closed", address, Option::is_none).await;
    task.abort();
}

#[tokio::test]
async fn a_connection_that_is_kept_ends_with_its_server() {
    let (shown, address) = (shown(), free().await);
    let task = tokio::spawn(follow(shown.clone(), Events::nowhere()));
    shown.status.publish_health_checks(checks(address, 1));
    eventually("the server is open", address, Option::is_some).await;
    let mut kept = TcpStream::connect(address).await.unwrap();
    kept.write_all(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n").await.unwrap();
    assert_eq!(kept.read_u8().await.unwrap(), b'H');
    shown.status.publish_health_checks(HealthChecks::new());
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(20), kept.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "the connection stays open");
    task.abort();
}

#[tokio::test]
async fn item_129_a_port_that_is_taken_is_an_event_and_counted_and_tried_again() {
    let shown = shown();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let (events, mut notices) = Events::channel();
    let task = tokio::spawn(follow(shown.clone(), events));
    shown.status.publish_health_checks(checks(address, 1));
    let Notice { regarding, reason, action, note } = notices.recv().await.unwrap();
    assert_eq!(
        (regarding, reason, action),
        (Regarding::Service(ObjectKey::new("shop", "web")), "FailedToStartServiceHealthcheck", "Listen")
    );
    let start = format!("health checks cannot be answered on {address}: Address already in use");
    assert!(note.starts_with(&start), "{note}");
    let counted = |line: &str| {
        let text = shown.metrics.text(&shown.status.snapshot(), SystemTime::now());
        text.lines().any(|found| found == line)
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !counted("sluice_health_checks{state=\"failed\"} 1") {
        assert!(Instant::now() < deadline, "the failure is not counted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Another check makes the server look at all of them again; nothing is said twice.
    let other = free().await;
    let mut both = checks(address, 1);
    both.extend(checks(other, 1));
    shown.status.publish_health_checks(both);
    eventually("the other server is open", other, Option::is_some).await;
    assert!(notices.try_recv().is_err(), "said again");
    shown.status.publish_health_checks(checks(address, 1));
    drop(taken);
    eventually("the server is open", address, Option::is_some).await;
    assert!(counted("sluice_health_checks{state=\"failed\"} 0"));
    assert!(counted("sluice_health_checks{state=\"listening\"} 1"));
    task.abort();
}

#[tokio::test]
async fn all_addresses_of_one_family_leave_the_other_family_alone() {
    let shown = shown();
    let port = free().await.port();
    let (v4, v6) = (SocketAddr::new([0; 4].into(), port), SocketAddr::new([0_u16; 8].into(), port));
    let task = tokio::spawn(follow(shown.clone(), Events::nowhere()));
    let mut both = checks(v4, 4);
    both.extend(checks(v6, 6));
    shown.status.publish_health_checks(both);
    for (address, weight) in [("127.0.0.1", "4"), ("::1", "6")] {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        eventually("the server is open", address, Option::is_some).await;
        assert_eq!(said(&get(address, "/").await.unwrap()).1, weight, "{address}");
    }
    task.abort();
}
