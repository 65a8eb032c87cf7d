//! Events on Kubernetes objects, for who looks at the object and not at the agent's log. Without an API server they go
//! nowhere; a server that is away loses them after some tries: the log has said the same.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use proxy_model::ObjectKey;
use proxy_model::policy::PolicyName;
use tokio::sync::mpsc;

use super::causes;
use crate::source::{Key, Kind};

/// Notices that may wait; more are dropped.
const WAITING: usize = 64;
const TRIES: u32 = 5;
/// How long to wait before an Event is tried again.
pub const PAUSE: Duration = Duration::from_secs(5);
/// Where Events on objects without a namespace are, as upstream has it.
const NAMESPACE: &str = "default";
/// Who says it.
const CONTROLLER: &str = "sluice";

/// The object that an Event is on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Regarding {
    /// A Service.
    Service(ObjectKey),
    /// A policy.
    Policy(PolicyName),
    /// Any other object, or one of which only the name is known.
    Object(Key),
}

impl Regarding {
    fn reference(&self) -> (ObjectKey, Kind) {
        match self {
            Self::Service(key) => (key.clone(), Kind::Service),
            Self::Object(Key { kind, namespace, name }) => {
                (ObjectKey { namespace: namespace.clone(), name: name.clone() }, *kind)
            }
            Self::Policy(PolicyName::Network(key)) => (key.clone(), Kind::NetworkPolicy),
            Self::Policy(PolicyName::Cluster(name)) => {
                (ObjectKey::cluster_wide(name.clone()), Kind::ClusterNetworkPolicy)
            }
        }
    }
}

/// Something that went wrong with an object on this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// The object.
    pub regarding: Regarding,
    /// One word, as upstream has it where it has one.
    pub reason: &'static str,
    /// What was tried, in one word.
    pub action: &'static str,
    /// A sentence.
    pub note: String,
}

/// Takes notices. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct Events {
    sender: Option<mpsc::Sender<Notice>>,
}

impl Events {
    /// Notices go nowhere.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { sender: None }
    }

    /// Notices go to whoever holds the other end.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Notice>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender: Some(sender) }, receiver)
    }

    /// Says it.
    pub fn say(&self, notice: Notice) {
        if let Some(sender) = &self.sender
            && let Err(error) = sender.try_send(notice)
        {
            tracing::warn!(%error, "an Event was dropped");
        }
    }
}

/// Writes notices to the API server, in the name of this node, until nobody can say any more. Waits for `pause` before it
/// tries one again.
pub async fn post(client: Client, node: String, mut notices: mpsc::Receiver<Notice>, pause: Duration) {
    while let Some(notice) = notices.recv().await {
        let event = event(&notice, &node, Timestamp::now());
        let namespace = event.metadata.namespace.as_deref().unwrap_or(NAMESPACE);
        let events = Api::<Event>::namespaced(client.clone(), namespace);
        for tries in 1..=TRIES {
            match events.create(&PostParams::default(), &event).await {
                Ok(_) => break,
                // Forbidden or unknown to the server: trying again does not help.
                Err(error @ kube::Error::Api(_)) => {
                    tracing::warn!(regarding = ?notice.regarding, error = causes(&error), "an Event is refused");
                    break;
                }
                Err(_) if tries < TRIES => tokio::time::sleep(pause).await,
                Err(error) => {
                    tracing::warn!(regarding = ?notice.regarding, error = causes(&error), "an Event is lost");
                }
            }
        }
    }
}

fn event(notice: &Notice, node: &str, now: Timestamp) -> Event {
    let Notice { regarding, reason, action, note } = notice;
    let (object, kind) = regarding.reference();
    let is_namespaced = kind.is_namespaced();
    let namespace = if is_namespaced { object.namespace.to_string() } else { NAMESPACE.to_owned() };
    Event {
        metadata: ObjectMeta {
            // As upstream names them: unique by the time.
            name: Some(format!("{}.{:x}", object.name, now.as_nanosecond())),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(CONTROLLER.into()),
        reporting_instance: Some(node.into()),
        regarding: Some(ObjectReference {
            api_version: Some(kind.api_version().into()),
            kind: Some(kind.name().into()),
            namespace: is_namespaced.then(|| object.namespace.to_string()),
            name: Some(object.name.to_string()),
            ..ObjectReference::default()
        }),
        type_: Some("Warning".into()),
        reason: Some((*reason).into()),
        action: Some((*action).into()),
        // The API server takes no more than 1024 bytes.
        note: Some(note.chars().take(256).collect()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::Path;
    use axum::http::StatusCode;
    use axum::routing::post as on_post;
    use serde_json::{Value, json};

    use super::*;

    fn notice(name: &str) -> Notice {
        Notice {
            regarding: Regarding::Service(ObjectKey::new("shop", name)),
            reason: "FailedToStartServiceHealthcheck",
            action: "Listen",
            note: "node n1 failed".into(),
        }
    }

    /// A server that takes Events, after so many failures, and shows them.
    async fn server(mut failures: usize) -> (Client, mpsc::UnboundedReceiver<(String, Value)>) {
        let (told, seen) = mpsc::unbounded_channel();
        let (calls, mut answers) = mpsc::unbounded_channel::<tokio::sync::oneshot::Sender<StatusCode>>();
        tokio::spawn(async move {
            while let Some(answer) = answers.recv().await {
                let code = if failures > 0 { StatusCode::BAD_GATEWAY } else { StatusCode::CREATED };
                failures = failures.saturating_sub(1);
                let _ = answer.send(code);
            }
        });
        let take = move |Path(namespace): Path<String>, body: String| async move {
            let (answer, code) = tokio::sync::oneshot::channel();
            calls.send(answer).unwrap();
            let code = code.await.unwrap();
            if code == StatusCode::CREATED {
                told.send((namespace, serde_json::from_str(&body).unwrap())).unwrap();
            }
            (code, body)
        };
        let routes =
            Router::new().route("/apis/events.k8s.io/v1/namespaces/{namespace}/events", on_post(take));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        (Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap(), seen)
    }

    #[tokio::test]
    async fn item_129_a_notice_becomes_an_event_on_its_service() {
        let (client, mut seen) = server(0).await;
        let (events, notices) = Events::channel();
        tokio::spawn(post(client, "n1".into(), notices, Duration::from_millis(5)));
        events.say(notice("web"));
        let (namespace, mut event) = seen.recv().await.unwrap();
        assert_eq!(namespace, "shop");
        assert!(event["metadata"]["name"].take().as_str().unwrap().starts_with("web."), "{event}");
        assert!(event["eventTime"].take().as_str().unwrap().ends_with('Z'), "{event}");
        let expected = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "eventTime": null,
            "metadata": {"name": null, "namespace": "shop"},
            "reportingController": "sluice", "reportingInstance": "n1",
            "regarding": {"apiVersion": "v1", "kind": "Service", "namespace": "shop", "name": "web"},
            "type": "Warning", "reason": "FailedToStartServiceHealthcheck", "action": "Listen", "note": "node n1 failed",
        });
        assert_eq!(event, expected);
    }

    #[test]
    fn an_event_on_a_policy_names_it_as_the_api_does() {
        let regarding = |policy| {
            let notice = Notice { regarding: Regarding::Policy(policy), ..notice("x") };
            let event = event(&notice, "n1", Timestamp::UNIX_EPOCH);
            (event.metadata.namespace.unwrap(), serde_json::to_value(event.regarding).unwrap())
        };
        let found = regarding(PolicyName::Network(ObjectKey::new("shop", "web")));
        let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "namespace": "shop",
            "name": "web"});
        assert_eq!(found, ("shop".to_owned(), object));
        let found = regarding(PolicyName::Cluster("guard".into()));
        let object = json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "name": "guard"});
        assert_eq!(found, ("default".to_owned(), object));
    }

    #[tokio::test]
    async fn events_that_a_server_refuses_hold_up_no_others() {
        let (client, mut seen) = server(1).await;
        let (events, notices) = Events::channel();
        tokio::spawn(post(client, "n1".into(), notices, Duration::from_millis(5)));
        events.say(notice("refused"));
        events.say(notice("web"));
        assert_eq!(seen.recv().await.unwrap().1["regarding"]["name"], "web");
    }

    #[test]
    fn saying_never_waits() {
        let (events, _notices) = Events::channel();
        (0..2 * WAITING).for_each(|_| events.say(notice("web")));
        Events::nowhere().say(notice("web"));
    }
}
