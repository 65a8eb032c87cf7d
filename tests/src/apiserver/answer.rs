//! Requests and what is said to them: lists, in pages or not, watches, Events, the version. Knows the protocol, not the objects.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{Stream, StreamExt, stream};
use serde_json::{Value, json};

use super::selector::Selector;
use super::store::{Follower, Name, Shared, Stored, Told, bookmark, gone, line};
use super::{Conduct, Resource, Streaming};

/// Between namespace and name in the token of a page; neither can hold it.
const BETWEEN: char = '/';
/// Events of a list that is the beginning of a watch, sent in one piece.
const PIECE: usize = 256;

/// Everything that is answered.
pub(super) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/version", get(version))
        .route("/{*path}", get(list_or_watch).post(take_event))
        .layer(axum::middleware::map_response(typed))
        .with_state(shared)
}

/// Who asks for another form than text takes what comes for that form, unless it is told.
async fn typed(mut response: Response) -> Response {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn version() -> Response {
    let version = json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
    version.to_string().into_response()
}

async fn take_event(State(shared): State<Arc<Shared>>, Path(path): Path<String>, body: Bytes) -> Response {
    match serde_json::from_slice::<Value>(&body) {
        Ok(event) if path.ends_with("/events") => {
            shared.post(event);
            (StatusCode::CREATED, body).into_response()
        }
        _ => refusal(StatusCode::NOT_FOUND.as_u16(), "only Events are taken"),
    }
}

async fn list_or_watch(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(resource) = Resource::at(&path) else { return refusal(404, "no such list") };
    let parameters = parameters(&query.unwrap_or_default());
    let text = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
    let selector = match Selector::parse(text("labelSelector"), text("fieldSelector")) {
        Ok(selector) => selector,
        Err(error) => return refusal(400, &error.to_string()),
    };
    let is_watch = matches!(text("watch"), "true" | "1");
    let is_stream = is_watch && text("sendInitialEvents") == "true";
    shared.ask(
        match (is_watch, is_stream) {
            (_, true) => "stream",
            (true, false) => "watch",
            (false, false) => "list",
        },
        resource,
    );
    let conduct = shared.answered(resource).await;
    if let Conduct::Refuses(status) = conduct {
        return refusal(status, "not now");
    }
    match (is_watch, is_stream) {
        (_, true) if shared.streaming == Streaming::Unknown => refusal(
            422,
            "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
        ),
        (_, true) => {
            let (objects, _, version) = shared.list(resource, &selector, None, usize::MAX);
            let beginning = beginning(resource, &objects, version, conduct);
            Body::from_stream(beginning.chain(following(shared.follow(resource, selector, version))))
                .into_response()
        }
        (true, false) => match text("resourceVersion").parse() {
            Ok(version) => {
                Body::from_stream(following(shared.follow(resource, selector, version))).into_response()
            }
            Err(_) => refusal(400, "resourceVersion"),
        },
        (false, false) => {
            let after = text("continue")
                .split_once(BETWEEN)
                .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
            let limit = text("limit").parse().unwrap_or(usize::MAX);
            page(resource, shared.list(resource, &selector, after, limit), conduct)
        }
    }
}

/// What stands behind the question mark.
fn parameters(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), plain(value)))
        .collect()
}

/// A value without its escapes.
fn plain(value: &str) -> String {
    let mut bytes = value.bytes();
    let mut text = Vec::new();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next(), bytes.next()].into_iter().flatten();
                digits.fold(0, |value, digit| value * 16 + char::from(digit).to_digit(16).unwrap_or(0) as u8)
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A list, or a page of it.
fn page(
    resource: Resource,
    (objects, more, version): (Vec<Arc<Stored>>, Option<Name>, u64),
    conduct: Conduct,
) -> Response {
    let token = more.map_or_else(String::new, |(namespace, name)| format!("{namespace}{BETWEEN}{name}"));
    let metadata = json!({"resourceVersion": version.to_string(), "continue": token});
    let head = format!(
        "{{\"apiVersion\":\"{}\",\"kind\":\"{}List\",\"metadata\":{metadata},\"items\":[",
        resource.api_version(),
        resource.kind()
    );
    let comma = |index: usize| if index == 0 { "" } else { "," };
    let items = objects.iter().enumerate().map(|(index, stored)| format!("{}{}", comma(index), stored.text));
    let pieces = std::iter::once(head).chain(items).chain(["]}".to_owned()]);
    Body::from_stream(paced(pieces.collect(), conduct)).into_response()
}

/// The events of a list that is the beginning of a watch.
fn beginning(
    resource: Resource,
    objects: &[Arc<Stored>],
    version: u64,
    conduct: Conduct,
) -> impl Stream<Item = io::Result<String>> + use<> {
    let lines = objects.iter().map(|stored| line("ADDED", &stored.text));
    paced(lines.chain([bookmark(resource, version, true)]).collect(), conduct)
}

/// Pieces as the conduct wants them: together, one by one, or only the first half of the text.
fn paced(pieces: Vec<String>, conduct: Conduct) -> impl Stream<Item = io::Result<String>> + use<> {
    let mut pause = Duration::ZERO;
    let pieces: Vec<io::Result<String>> = match conduct {
        Conduct::Answers | Conduct::Holds | Conduct::Refuses(_) => {
            pieces.chunks(PIECE).map(|together| Ok(together.concat())).collect()
        }
        Conduct::Drips(time) => {
            pause = time;
            pieces.into_iter().map(Ok).collect()
        }
        Conduct::BreaksOff => {
            let mut text = pieces.concat();
            text.truncate(text.floor_char_boundary(text.len() / 2));
            vec![Ok(text), Err(broken())]
        }
    };
    stream::iter(pieces).then(move |piece| async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        piece
    })
}

/// What happens from a place on, until the end.
fn following(follower: Follower) -> impl Stream<Item = io::Result<String>> {
    stream::unfold(Some(follower), |follower| async move {
        let mut follower = follower?;
        loop {
            // Before the log is looked at, so that nothing that is written meanwhile is slept through.
            follower.ends.borrow_and_update();
            match follower.told() {
                Told::Text(text) => return Some((Ok(text), Some(follower))),
                Told::Nothing => follower.ends.changed().await.ok()?,
                Told::Break => return Some((Err(broken()), None)),
                Told::Gone => return Some((Ok(format!("{}\n", gone())), None)),
                Told::End => return None,
            }
        }
    })
}

fn broken() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

fn refusal(code: u16, message: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message,
        "reason": if code == 410 { "Expired" } else { "InternalError" }});
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, status.to_string()).into_response()
}
