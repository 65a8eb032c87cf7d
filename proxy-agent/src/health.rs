//! The HTTP servers: health (items 131, 132), metrics (item 133), and in `check` those of Services. They read what
//! the run loop publishes and know nothing else.

mod body;
pub mod check;
mod pages;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use self::body::Question;
use self::server::Limits;
use crate::observe::metrics::exposition;
use crate::observe::{Metrics, Status};

pub use self::pages::Pages;

/// How often an address that is taken is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Answer of `/proxyMode`: the technique, as the names of kube-proxy's modes are. Not one of those: who reads `nftables`
/// or `iptables` goes on to look for tables that are not there.
const MODE: &str = "ebpf";

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
pub fn metrics_routes(shown: Shown, pages: Pages) -> Router {
    let pages = Arc::new(pages);
    let (configz, flagz, statusz) = (pages.clone(), pages.clone(), pages);
    const JSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];
    Router::new()
        .route("/metrics", get(metrics))
        .route("/proxyMode", get(|| async { MODE }))
        // The process answers: whether it keeps up is asked of the health server.
        .route("/healthz", get(|| async { "ok" }))
        .route("/configz", get(move || async move { (JSON, configz.configz()) }))
        .route("/flagz", get(move || async move { flagz.flagz() }))
        .route("/statusz", get(move || async move { statusz.statusz(SystemTime::now()) }))
        .with_state(shown)
}

/// Serves until the process ends. An address that cannot be had yet is tried again: the dataplane must not
/// depend on it.
pub async fn serve(what: &'static str, address: SocketAddr, routes: Router) {
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(server = what, %address, "listening");
                server::serve(listener, routes, Limits::DEFAULT, std::future::pending()).await;
                return;
            }
            Err(error) => tracing::error!(server = what, %address, %error, "cannot listen; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn healthz(State(shown): State<Shown>) -> Response {
    let response = body::answer(&shown.status.snapshot(), Question::Health, SystemTime::now());
    shown.metrics.healthz_answered(response.status().as_u16());
    response
}

async fn livez(State(shown): State<Shown>) -> Response {
    let response = body::answer(&shown.status.snapshot(), Question::Liveness, SystemTime::now());
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
    match text.await {
        Ok(text) => ([(header::CONTENT_TYPE, exposition::MEDIA_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests;
