//! The HTTP servers: health (items 131, 132), metrics (item 133), and in `check` those of Services. They read what
//! the run loop publishes and know nothing else.

pub mod check;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use crate::observe::status::Snapshot;
use crate::observe::{Metrics, Status};

/// How often an address that is taken is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Answer of `/proxyMode`.
const MODE: &str = "sluice";

/// What the servers show.
#[derive(Clone, Debug)]
pub struct Shown {
    /// State behind the health checks.
    pub status: Arc<Status>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

/// The health server's paths.
pub fn health_routes(shown: Shown) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(shown)
}

/// The metrics server's paths.
pub fn metrics_routes(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/proxyMode", get(|| async { MODE }))
        .route("/healthz", get(healthz))
        .with_state(shown)
}

/// Serves until the process ends. An address that cannot be had yet is tried again: the dataplane must not
/// depend on it.
pub async fn serve(what: &'static str, address: SocketAddr, routes: Router) {
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(server = what, %address, "listening");
                if let Err(error) = axum::serve(listener, routes.clone()).await {
                    tracing::error!(server = what, %address, %error, "the server has ended");
                }
            }
            Err(error) => tracing::error!(server = what, %address, %error, "cannot listen; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Body of `/healthz` and `/livez` (item 132), and what else is worth knowing at a glance.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    last_updated: String,
    current_time: String,
    node_eligible: bool,
    healthy: bool,
    ready: bool,
    source_age_seconds: u64,
    objects_with_problems: usize,
    unreadable_files: usize,
    refused_frontends: usize,
}

fn body(snapshot: &Snapshot, healthy: bool, now: SystemTime) -> Response {
    // Item 132: an idle cluster is as good as up to date.
    let updated = if healthy { now } else { snapshot.last_sync.unwrap_or(UNIX_EPOCH) };
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = Body {
        last_updated: rfc3339(updated),
        current_time: rfc3339(now),
        node_eligible: snapshot.is_eligible(),
        healthy,
        ready: snapshot.is_ready(),
        source_age_seconds: snapshot.source_age(now).as_secs(),
        objects_with_problems: snapshot.problems.values().sum(),
        unreadable_files: snapshot.unreadable_files,
        refused_frontends: snapshot.refused,
    };
    const NOSNIFF: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    match serde_json::to_string(&body) {
        Ok(text) => (code, [(header::CONTENT_TYPE, "application/json"), NOSNIFF], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn healthz(State(shown): State<Shown>) -> Response {
    let (snapshot, now) = (shown.status.snapshot(), SystemTime::now());
    let response = body(&snapshot, snapshot.is_healthy(now), now);
    shown.metrics.healthz_answered(response.status().as_u16());
    response
}

async fn livez(State(shown): State<Shown>) -> Response {
    let (snapshot, now) = (shown.status.snapshot(), SystemTime::now());
    let response = body(&snapshot, snapshot.is_alive(now), now);
    shown.metrics.livez_answered(response.status().as_u16());
    response
}

async fn readyz(State(shown): State<Shown>) -> (StatusCode, &'static str) {
    if shown.status.snapshot().is_ready() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the first full plan is not in the kernel yet")
    }
}

async fn metrics(State(shown): State<Shown>) -> Response {
    // Reading the maps takes milliseconds of system calls: not on a thread that serves others.
    let text =
        tokio::task::spawn_blocking(move || shown.metrics.text(&shown.status.snapshot(), SystemTime::now()));
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match text.await {
        Ok(text) => ([(header::CONTENT_TYPE, TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::maps::PinnedMaps;
    use crate::observe::status::Eligibility;
    use axum::body::to_bytes;

    fn shown(change: impl FnOnce(&mut Snapshot)) -> Shown {
        let status = Arc::new(Status::default());
        status.update(change);
        Shown { status, metrics: Arc::new(Metrics::new(PinnedMaps::below("/nonexistent".into()))) }
    }

    async fn json(response: Response) -> (u16, serde_json::Value) {
        let code = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), 4096).await.unwrap();
        (code, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn item_123_a_node_that_leaves_is_alive_but_not_healthy() {
        let shown = shown(|status| status.eligibility = Eligibility::Leaving);
        let (code, body) = json(healthz(State(shown.clone())).await).await;
        assert_eq!((code, &body["nodeEligible"], &body["healthy"]), (503, &false.into(), &false.into()));
        assert_eq!(json(livez(State(shown)).await).await.0, 200);
    }

    #[tokio::test]
    async fn item_132_an_idle_agent_was_updated_now() {
        let (code, body) = json(healthz(State(shown(|_| {}))).await).await;
        assert_eq!(code, 200);
        assert_eq!(body["lastUpdated"], body["currentTime"]);
    }

    #[tokio::test]
    async fn readiness_waits_for_the_first_full_plan() {
        assert_eq!(readyz(State(shown(|_| {}))).await.0, StatusCode::SERVICE_UNAVAILABLE);
        let ready = shown(|status| status.last_sync = Some(SystemTime::now()));
        assert_eq!(readyz(State(ready)).await.0, StatusCode::OK);
    }
}
