//! The source against an API server of a few lines, which can be told to misbehave.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

mod policy;

use super::{Cluster, Nodes, Policies, Watching};
use crate::source::{Contact, Update, channel};

/// What the server holds and how it behaves. Only Services, NetworkPolicies and Pods exist; lists of other kinds are empty.
#[derive(Default)]
struct Script {
    services: Vec<&'static str>,
    policies: Vec<Value>,
    pods: Vec<Value>,
    streaming: Streaming,
    /// Those of the Services that do not have the shape of one.
    misshapen: Vec<&'static str>,
    /// Bodies of the watches that follow a list, one each; a watch without a body stays silent.
    watches: VecDeque<Value>,
    /// The same for NetworkPolicies.
    policy_watches: VecDeque<Value>,
    /// Requests for Services so far.
    seen: Vec<String>,
}

#[derive(Default, PartialEq)]
enum Streaming {
    #[default]
    Offered,
    Unknown,
}

/// Of which objects a request is.
#[derive(Clone, Copy, PartialEq)]
enum Asked {
    Services,
    Policies,
    Pods,
    Others,
}

impl Asked {
    fn of(resource: &str) -> Self {
        match resource.rsplit('/').next() {
            Some("services") => Self::Services,
            Some("networkpolicies") => Self::Policies,
            Some("pods") => Self::Pods,
            Some(_) | None => Self::Others,
        }
    }
}

/// The server.
struct Server {
    script: Mutex<Script>,
    /// While it is away every answer breaks off, and so do the watches that are open.
    away: watch::Sender<bool>,
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
           "metadata": {"name": name, "namespace": "default", "resourceVersion": "5"}})
}

fn misshapen(name: &str) -> Value {
    let mut service = service(name);
    service["spec"] = json!({"ports": [{"port": "eighty"}]});
    service
}

async fn answer(
    State(server): State<Arc<Server>>,
    Path(resource): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    if *server.away.borrow() {
        return server.lasting(Vec::new());
    }
    let query = query.unwrap_or_default();
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let mut script = server.script.lock().unwrap();
    let asked = Asked::of(&resource);
    let is_services = asked == Asked::Services;
    let streaming = parameter("sendInitialEvents").is_some();
    let watch = parameter("watch").is_some();
    if is_services {
        script.seen.push(match (watch, streaming) {
            (true, true) => "stream".into(),
            (true, false) => format!("watch from {}", parameter("resourceVersion").unwrap()),
            (false, _) => "list".into(),
        });
    }
    let service = |name: &&str| match script.misshapen.contains(name) {
        true => misshapen(name),
        false => service(name),
    };
    let items: Vec<Value> = match asked {
        Asked::Services => script.services.iter().map(service).collect(),
        Asked::Policies => script.policies.clone(),
        Asked::Pods => script.pods.clone(),
        Asked::Others => Vec::new(),
    };
    match (watch, streaming) {
        (true, true) if script.streaming == Streaming::Unknown => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422,
                "reason": "Invalid", "message": "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"});
            (StatusCode::UNPROCESSABLE_ENTITY, status.to_string()).into_response()
        }
        (true, true) => {
            let mut lines: Vec<Value> =
                items.iter().map(|item| json!({"type": "ADDED", "object": item})).collect();
            lines.push(
                json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "Service", "metadata":
                {"resourceVersion": "10", "annotations": {"k8s.io/initial-events-end": "true"}}}}),
            );
            lines.extend(script.more(asked));
            server.lasting(lines)
        }
        (true, false) => {
            let lines = script.more(asked);
            server.lasting(lines)
        }
        (false, _) => {
            json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "10"}, "items": items})
                .to_string()
                .into_response()
        }
    }
}

impl Script {
    /// What the next watch of the resource says behind its list.
    fn more(&mut self, asked: Asked) -> Vec<Value> {
        let more = match asked {
            Asked::Services => self.watches.pop_front(),
            Asked::Policies => self.policy_watches.pop_front(),
            Asked::Pods | Asked::Others => None,
        };
        more.map_or(Vec::new(), |lines| lines.as_array().unwrap().clone())
    }
}

impl Server {
    /// A watch that says these lines and then stays open until the server goes away.
    fn lasting(&self, lines: Vec<Value>) -> Response {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut away = self.away.subscribe();
        let said = stream::once(async move { Ok(text) });
        let broken = stream::once(async move {
            let _ = away.wait_for(|away| *away).await;
            Err(std::io::Error::other("away"))
        });
        Body::from_stream(said.chain(broken)).into_response()
    }
}

/// A server with that script, and the source that watches it.
async fn start(script: Script) -> (Arc<Server>, mpsc::Receiver<Update>) {
    let server = Arc::new(Server { script: Mutex::new(script), away: watch::channel(false).0 });
    let routes = Router::new()
        .route("/version", get(version))
        .route("/{*resource}", get(answer))
        .with_state(server.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let cluster =
        Cluster::new(kube::Config::new(url.parse().unwrap()), watching(None), super::Known::default())
            .unwrap();
    let (feed, updates) = channel();
    tokio::spawn(cluster.run(feed));
    (server, updates)
}

fn watching(service_proxy_name: Option<&str>) -> Watching {
    Watching {
        node_name: "n1".into(),
        service_proxy_name: service_proxy_name.map(Into::into),
        policies: Policies::Read,
        nodes: Nodes::Own,
    }
}

#[test]
fn items_1_and_2_a_proxy_of_a_name_asks_for_its_services_alone_and_nobody_for_headless_ones() {
    assert_eq!(watching(None).services(), "!service.kubernetes.io/headless");
    assert_eq!(
        watching(Some("mine")).services(),
        "!service.kubernetes.io/headless,service.kubernetes.io/service-proxy-name=mine"
    );
}

async fn version(State(server): State<Arc<Server>>) -> Response {
    if *server.away.borrow() {
        return server.lasting(Vec::new());
    }
    let version = json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
    version.to_string().into_response()
}

/// The next that concerns Services or the contact; a deadline instead of a sleep.
async fn next(updates: &mut mpsc::Receiver<Update>) -> String {
    loop {
        let update = tokio::time::timeout(Duration::from_secs(20), updates.recv()).await;
        let text = match update.expect("an update in time").expect("the source runs") {
            Update::Put(key, _) => key.to_string(),
            Update::Delete(key) => format!("-{key}"),
            Update::Synced(kind) => format!("synced {}", kind.name()),
            Update::Contact(Contact::Current) => "current".into(),
            Update::Contact(Contact::LostSince(_)) => "lost".into(),
            Update::Misshapen(problem) => problem.to_string(),
            Update::Extent(extent) => format!("Service {extent:?}"),
            Update::UnreadableFiles(_) => unreachable!("no files here"),
        };
        if text.contains("Service ") || text.ends_with(" Service") || text == "current" || text == "lost" {
            return text;
        }
    }
}

#[tokio::test]
async fn a_streamed_list_is_followed_by_its_changes() {
    let changes = json!([
        {"type": "ADDED", "object": service("c")},
        {"type": "DELETED", "object": service("a")},
    ]);
    let script = Script { services: vec!["a", "b"], watches: [changes].into(), ..Script::default() };
    let (server, mut updates) = start(script).await;
    for expected in [
        "Service default/a",
        "Service default/b",
        "synced Service",
        "Service default/c",
        "-Service default/a",
    ] {
        assert_eq!(next(&mut updates).await, expected);
    }
    assert_eq!(server.script.lock().unwrap().seen, ["stream"]);
}

#[tokio::test]
async fn a_server_without_streamed_lists_is_asked_for_pages() {
    let script = Script { services: vec!["a"], streaming: Streaming::Unknown, ..Script::default() };
    let (server, mut updates) = start(script).await;
    assert_eq!(next(&mut updates).await, "Service default/a");
    assert_eq!(next(&mut updates).await, "synced Service");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while server.script.lock().unwrap().seen != ["stream", "list", "watch from 10"] {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", server.script.lock().unwrap().seen);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn when_history_is_gone_the_new_list_deletes_what_it_lacks() {
    let gone = json!([{"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": 410, "reason": "Expired", "message": "too old resource version"}}]);
    let script = Script { services: vec!["a", "b"], watches: [gone].into(), ..Script::default() };
    let (server, mut updates) = start(script).await;
    assert_eq!(next(&mut updates).await, "Service default/a");
    server.script.lock().unwrap().services = vec!["b", "c"];
    assert_eq!(next(&mut updates).await, "Service default/b");
    assert_eq!(next(&mut updates).await, "synced Service");
    for expected in ["Service default/b", "Service default/c", "-Service default/a", "synced Service"] {
        assert_eq!(next(&mut updates).await, expected);
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_noticed_and_nothing_is_deleted() {
    let script = Script { services: vec!["a"], streaming: Streaming::Unknown, ..Script::default() };
    let (server, mut updates) = start(script).await;
    assert_eq!(next(&mut updates).await, "Service default/a");
    assert_eq!(next(&mut updates).await, "synced Service");
    server.away.send_replace(true);
    assert_eq!(next(&mut updates).await, "lost");
    server.away.send_replace(false);
    assert_eq!(next(&mut updates).await, "current");
}

const WRONG: &str = "spec.ports[0].port: invalid type: string \"eighty\", expected i32; the object is left as it was told last";

async fn says(updates: &mut mpsc::Receiver<Update>, expected: &[&str]) {
    for expected in expected {
        assert_eq!(next(updates).await, *expected);
    }
}

#[tokio::test]
async fn an_object_of_a_list_that_cannot_be_decoded_is_named_and_all_others_are_told() {
    let repaired = json!([{"type": "MODIFIED", "object": service("a")}]);
    // Of a streamed list, a watch is the end: that of the list which could not be decoded says nothing more.
    let cases =
        [(Streaming::Offered, vec![json!([]), repaired.clone()]), (Streaming::Unknown, vec![repaired])];
    for (streaming, watches) in cases {
        let script = Script {
            services: vec!["a", "b", "c"],
            misshapen: vec!["a"],
            watches: watches.into(),
            streaming,
            ..Script::default()
        };
        let (server, mut updates) = start(script).await;
        let wrong = format!("Service default/a {WRONG}");
        let before = ["Service Part", &wrong, "Service default/b", "Service default/c", "synced Service"];
        says(&mut updates, &before).await;
        says(&mut updates, &["Service default/a", "Service Whole"]).await;
        drop(server);
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_decoded_leaves_the_object_as_it_was_and_the_watch_goes_on() {
    let bad = json!([{"type": "MODIFIED", "object": misshapen("a")}]);
    let good = json!([{"type": "ADDED", "object": service("c")}]);
    let script = Script { services: vec!["a", "b"], watches: [bad, good].into(), ..Script::default() };
    let (server, mut updates) = start(script).await;
    says(&mut updates, &["Service default/a", "Service default/b", "synced Service"]).await;
    server.script.lock().unwrap().misshapen = vec!["a"];
    let wrong = format!("Service default/a {WRONG}");
    // Nothing is deleted, and nothing is kept of an earlier run: all had been told.
    says(&mut updates, &[&wrong, "Service default/b", "synced Service", "Service default/c"]).await;
}
