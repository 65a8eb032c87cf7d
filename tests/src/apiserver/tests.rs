//! The server itself, asked by the library that the agent asks with.

use futures_util::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Service;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config, ResourceExt};

use super::*;

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}})
}

fn words(event: Option<watcher::Result<Event<Service>>>) -> String {
    match event.expect("a watch goes on for ever") {
        Ok(Event::Init) => "init".to_owned(),
        Ok(Event::InitApply(service)) => format!("listed {}", service.name_any()),
        Ok(Event::InitDone) => "done".to_owned(),
        Ok(Event::Apply(service)) => format!("put {}", service.name_any()),
        Ok(Event::Delete(service)) => format!("deleted {}", service.name_any()),
        Err(_) => "failed".to_owned(),
    }
}

/// What the server is told, and what is seen then.
type Step = (fn(&ApiServer), &'static [&'static str]);

/// Asks a server with the Services `a` and `b` and compares what comes with what is expected; between two expectations the
/// server is told something.
fn sees(streaming: Streaming, page: u32, steps: &[Step]) {
    let server = ApiServer::start(&[Door::Here], streaming).unwrap();
    server.put(&service("a")).unwrap();
    server.put(&service("b")).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client =
            Client::try_from(Config::new(format!("http://{}", server.address()).parse().unwrap())).unwrap();
        let mut config = watcher::Config::default().page_size(page);
        if streaming == Streaming::Offered {
            config = config.streaming_lists();
        }
        let events = watcher(Api::<Service>::all(client), config);
        pin_mut!(events);
        for (tell, expected) in steps {
            tell(&server);
            for word in *expected {
                let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
                assert_eq!(words(event.expect("an event in time")), *word);
            }
        }
    });
}

const LISTED: Step = (|_| {}, &["init", "listed a", "listed b", "done"]);
const CHANGED: Step = (
    |server| {
        server.put(&service("c")).unwrap();
        server.delete(&service("a")).unwrap();
    },
    &["put c", "deleted a"],
);

#[test]
fn a_list_in_pages_and_one_that_is_streamed_say_the_same() {
    sees(Streaming::Offered, 500, &[LISTED, CHANGED]);
    sees(Streaming::Unknown, 1, &[LISTED, CHANGED]);
}

#[test]
fn a_watch_that_ends_goes_on_where_it_was_unless_the_place_is_forgotten() {
    let ended: Step = (
        |server| {
            server.end_watches(Resource::Services);
            server.put(&service("d")).unwrap();
        },
        &["put d"],
    );
    let expired: Step = (
        |server| server.expire(Resource::Services),
        &["failed", "init", "listed b", "listed c", "listed d", "done"],
    );
    sees(Streaming::Unknown, 500, &[LISTED, CHANGED, ended, expired]);
}

#[test]
fn what_is_no_event_is_said_once_and_only_to_who_listens() {
    let garbage: Step = (
        |server| {
            server.say(Resource::Services, "{\"type\":\"ADDED\",\"object\":17}");
            server.put(&service("d")).unwrap();
        },
        &["failed", "put d"],
    );
    sees(Streaming::Unknown, 500, &[LISTED, CHANGED, garbage]);
}
