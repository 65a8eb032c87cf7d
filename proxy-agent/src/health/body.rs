//! The body of `/healthz` and `/livez` (item 132): upstream's fields, and what else is worth knowing at a glance.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::observe::status::Snapshot;

/// Which question is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Question {
    /// May load balancers send traffic here? (item 131)
    Health,
    /// Does the proxy keep up? The node's eligibility does not matter.
    Liveness,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    /// Every family keeps up; whatever the node's eligibility is.
    healthy: bool,
    status: BTreeMap<&'static str, FamilyStatus>,
    ready: bool,
    source_age_seconds: u64,
    objects_with_problems: usize,
    unreadable_files: usize,
    refused_frontends: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyStatus {
    last_updated: String,
    healthy: bool,
}

/// The answer at that moment.
pub(super) fn answer(snapshot: &Snapshot, question: Question, now: SystemTime) -> Response {
    let good = match question {
        Question::Health => snapshot.is_healthy(now),
        Question::Liveness => snapshot.is_alive(now),
    };
    let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let since = |time: Option<SystemTime>| rfc3339(time.unwrap_or(UNIX_EPOCH));
    let of_family = snapshot.families.iter().map(|(family, progress)| {
        let last_updated = since(progress.last_sync);
        let healthy = snapshot.is_in_time(progress, now);
        (family.api_name(), FamilyStatus { last_updated, healthy })
    });
    let body = Body {
        // An idle cluster is as good as up to date.
        last_updated: if good { rfc3339(now) } else { since(snapshot.last_sync()) },
        current_time: rfc3339(now),
        node_eligible: (question == Question::Health).then(|| snapshot.is_eligible()),
        healthy: snapshot.is_alive(now),
        status: of_family.collect(),
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

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
