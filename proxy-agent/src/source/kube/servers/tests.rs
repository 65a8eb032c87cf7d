//! Servers that come and go, and one that answers where another does not.

use serde_json::json;

use super::*;

fn uris(texts: &[&str]) -> Vec<Uri> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn slice(name: &str, ips: &[&str]) -> EndpointSlice {
    let endpoints: Vec<_> =
        ips.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "labels": {SERVICE_LABEL: "kubernetes"}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": 6443}, {"name": "metrics", "port": 1}],
        "endpoints": endpoints,
    }))
    .unwrap()
}

impl Servers {
    /// All of them, whoever is asked first.
    fn all(&self) -> Vec<String> {
        let state = self.state();
        let (before, from) = state.servers.split_at(state.at);
        from.iter().chain(before).map(|server| server.uri.to_string()).collect()
    }
}

fn of(given: &[&str], memory: &Path) -> Servers {
    let config = Config::new("https://10.96.0.1/".parse().unwrap());
    Servers::new(config, Known { given: uris(given), memory: Some(memory.to_owned()) }).unwrap()
}

#[tokio::test]
async fn what_was_learned_is_remembered_and_comes_after_what_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let memory = dir.path().join("below/api-servers");
    let servers = of(&["https://192.0.2.1:6443"], &memory);
    assert_eq!(servers.all(), ["https://192.0.2.1:6443/"]);
    servers.look_at(&slice("kubernetes", &["192.0.2.2", "192.0.2.1"]));
    servers.look_at(&slice("kubernetes-v6", &["fd00::1"]));
    let all = ["https://192.0.2.1:6443/", "https://192.0.2.2:6443/", "https://[fd00::1]:6443/"];
    assert_eq!(servers.all(), all);
    assert_eq!(of(&["https://192.0.2.1:6443"], &memory).all(), all);
    // Without a flag the Service's own address is first: it works wherever the programs have outlived the agent.
    let rest = [
        "https://10.96.0.1/",
        "https://192.0.2.1:6443/",
        "https://192.0.2.2:6443/",
        "https://[fd00::1]:6443/",
    ];
    assert_eq!(of(&[], &memory).all(), rest);
}

#[tokio::test]
async fn whoever_does_not_answer_is_left_once_and_whoever_is_asked_stays_when_others_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let servers = of(&["https://192.0.2.1:6443", "https://192.0.2.2:6443"], &dir.path().join("memory"));
    let first = "https://192.0.2.1:6443".parse().unwrap();
    // Every watch fails at once; they move on together.
    servers.leave(&first);
    servers.leave(&first);
    assert_eq!(servers.all(), ["https://192.0.2.2:6443/", "https://192.0.2.1:6443/"]);
    servers.look_at(&slice("kubernetes", &["192.0.2.3"]));
    assert_eq!(
        servers.all(),
        ["https://192.0.2.2:6443/", "https://192.0.2.3:6443/", "https://192.0.2.1:6443/"]
    );
    servers.leave(&"https://192.0.2.2:6443".parse().unwrap());
    servers.look_at(&slice("kubernetes", &["192.0.2.4"]));
    // 192.0.2.3 was asked and is gone: from the beginning.
    assert_eq!(
        servers.all(),
        ["https://192.0.2.1:6443/", "https://192.0.2.2:6443/", "https://192.0.2.4:6443/"]
    );
    servers.look_at(&slice("kubernetes", &[]));
    assert_eq!(servers.all().len(), 3);
}

#[tokio::test]
async fn slices_of_other_services_and_servers_that_are_not_ready_teach_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let servers = of(&[], &dir.path().join("memory"));
    let mut other = slice("web", &["192.0.2.9"]);
    other.metadata.labels = Some([(SERVICE_LABEL.to_owned(), "web".to_owned())].into());
    servers.look_at(&other);
    let mut elsewhere = slice("kubernetes", &["192.0.2.9"]);
    elsewhere.metadata.namespace = Some("shop".to_owned());
    servers.look_at(&elsewhere);
    let mut unready = slice("kubernetes", &["192.0.2.9"]);
    unready.endpoints[0].conditions.as_mut().unwrap().ready = Some(false);
    servers.look_at(&unready);
    assert_eq!(servers.all(), ["https://10.96.0.1/"]);
}

/// Two listeners: the first takes no connection, the second answers.
#[tokio::test]
async fn the_next_server_is_asked_when_one_does_not_answer() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = closed.local_addr().unwrap();
    drop(closed);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let alive = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let body = r#"{"major":"1","minor":"36","gitVersion":"v1.36.0","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#;
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            });
        }
    });
    let given = uris(&[&format!("http://{dead}"), &format!("http://{alive}")]);
    let config = Config::new("https://10.96.0.1/".parse().unwrap());
    let servers = Servers::new(config, Known { given, memory: None }).unwrap();
    let client = servers.client();
    client.apiserver_version().await.unwrap_err();
    assert_eq!(client.apiserver_version().await.unwrap().git_version, "v1.36.0");
}
