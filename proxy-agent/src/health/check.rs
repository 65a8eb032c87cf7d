//! The health checks of Services (`healthCheckNodePort`, items 125–129): one HTTP server per address that a load
//! balancer may ask. The servers follow what the run loop publishes; what they answer is looked up at each request.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use proxy_model::local::{Health, HealthChecks};
use serde::Serialize;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;

use super::Shown;
use super::server::{self, Limits};
use crate::observe::Events;
use crate::observe::event::{Notice, Regarding};

/// How often an address that is taken is tried again, when nothing else changes before (item 129).
const RETRY: Duration = Duration::from_secs(1);
const BACKLOG: u32 = 128;
/// Reason of the Event on a Service whose health checks cannot be answered (item 129).
const FAILED: &str = "FailedToStartServiceHealthcheck";
/// Ready endpoints on this node, for load balancers that divide traffic by it (item 127).
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// Serves every health check until the process ends.
pub async fn follow(shown: Shown, events: Events) {
    let mut wanted = shown.status.health_checks();
    let mut servers = Servers { shown, events, listening: BTreeMap::new(), failed: BTreeMap::new() };
    loop {
        let checks = wanted.borrow_and_update().clone();
        servers.settle(&checks);
        let change = if servers.failed.is_empty() {
            wanted.changed().await
        } else {
            tokio::time::timeout(RETRY, wanted.changed()).await.unwrap_or(Ok(()))
        };
        if change.is_err() {
            return;
        }
    }
}

/// The servers, by their addresses.
struct Servers {
    shown: Shown,
    events: Events,
    /// A server ends, also its idle connections, when its sender is dropped.
    listening: BTreeMap<SocketAddr, oneshot::Sender<()>>,
    /// Addresses that could not be had, and why.
    failed: BTreeMap<SocketAddr, String>,
}

impl Servers {
    /// Opens and closes servers until there is one for each wanted address, as far as that is possible.
    fn settle(&mut self, wanted: &HealthChecks) {
        self.listening.retain(|address, server| wanted.contains_key(address) && !server.is_closed());
        self.failed.retain(|address, _| wanted.contains_key(address));
        let known: BTreeSet<_> = self.listening.keys().copied().collect();
        for (address, Health { service, .. }) in wanted.iter().filter(|(address, _)| !known.contains(address))
        {
            match listen(*address) {
                Ok(listener) => {
                    tracing::info!(%service, %address, "health checks are answered");
                    self.failed.remove(address);
                    self.listening.insert(*address, serve(listener, *address, self.shown.clone()));
                }
                Err(error) => self.complain(service, *address, &error),
            }
        }
        self.shown.metrics.health_checks(self.listening.len(), self.failed.len());
        self.shown.status.update(|status| status.failed_checks = self.failed.len());
    }

    /// Says once per reason what cannot be served.
    fn complain(&mut self, service: &proxy_model::ObjectKey, address: SocketAddr, error: &io::Error) {
        let cause = error.to_string();
        if self.failed.get(&address) != Some(&cause) {
            tracing::error!(%service, %address, error = cause, "{FAILED}: cannot listen; trying again");
            self.events.say(Notice {
                regarding: Regarding::Service(service.clone()),
                reason: FAILED,
                action: "Listen",
                note: format!("health checks cannot be answered on {address}: {cause}; trying again"),
            });
            self.failed.insert(address, cause);
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            // The unspecified address must leave IPv4 to the server of that family: it counts other endpoints.
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Answers on a listener until the sender is dropped.
fn serve(listener: TcpListener, address: SocketAddr, shown: Shown) -> oneshot::Sender<()> {
    let (server, end) = oneshot::channel::<()>();
    let routes = Router::new().fallback(move || {
        let answer = answer(&shown, address, SystemTime::now());
        async move { answer }
    });
    tokio::spawn(async move {
        let ended = async move {
            // Only the drop counts.
            let _ = end.await;
        };
        server::serve(listener, routes, Limits::DEFAULT, ended).await;
    });
    server
}

/// Item 127.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    service: Owner<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct Owner<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// Item 126: the node's eligibility does not matter here, only whether the proxy keeps up.
fn answer(shown: &Shown, address: SocketAddr, now: SystemTime) -> Response {
    let checks: Arc<HealthChecks> = shown.status.health_checks().borrow().clone();
    // Closed while the request was under way.
    let Some(Health { service, ready }) = checks.get(&address) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let healthy = shown.status.snapshot().is_alive(now);
    let code = if *ready > 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = Body {
        service: Owner { namespace: &service.namespace, name: &service.name },
        local_endpoints: *ready,
        service_proxy_healthy: healthy,
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (WEIGHT, HeaderValue::from(*ready)),
    ];
    match serde_json::to_string(&body) {
        Ok(text) => (code, headers, text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests;
