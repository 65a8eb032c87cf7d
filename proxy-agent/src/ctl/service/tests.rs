//! How a Service looks. The rows are made by hand: what the maps and the agent say is tested where they are read.

use super::page::{
    Backend, Connections, FrontendDetail, NotUsed, PortDetail, Reasons, RefusedFrontend, ServicePage,
};
use super::*;
use crate::ctl::output::{Format, Page as _};
use crate::observe::explain::ServiceLine;

fn frontend(kind: &'static str, address: &str, port: u16) -> FrontendDetail {
    let row = FrontendRow {
        id: 7,
        service: Some("shop/web".into()),
        port_name: Some("http".into()),
        label: "shop/web:http".into(),
        kind,
        address: address.parse().unwrap(),
        port,
        protocol: "TCP".into(),
        algorithm: "random".into(),
        cluster_backends: 2,
        local_backends: 1,
        affinity_seconds: 600,
        ranges: kind == "External",
        rules: ["Pod: cluster", "Node: cluster+masquerade", "Outside: local"].map(Into::into).into(),
    };
    FrontendDetail {
        row,
        cluster: vec![endpoint("10.244.1.1", "local"), endpoint("10.244.2.1", "remote")],
        local: vec![],
    }
}

fn endpoint(address: &str, place: &'static str) -> Endpoint {
    Endpoint { address: address.parse().unwrap(), port: 8080, place, terminating: false }
}

fn backend(endpoint: Endpoint, node: Option<&str>, zone: Option<&str>) -> Backend {
    Backend {
        endpoint,
        node: node.map(Into::into),
        zone: zone.map(Into::into),
        state: "ready",
        weight: 1,
        slots: 1,
    }
}

fn not_used(address: &str, zone: Option<&str>, why: &str) -> NotUsed {
    NotUsed {
        address: address.parse().unwrap(),
        port: 8080,
        node: Some("n2".into()),
        zone: zone.map(Into::into),
        state: "ready".into(),
        why: why.into(),
    }
}

fn page() -> ServicePage {
    let line = ServiceLine {
        service: "shop/web".into(),
        internal_policy: "Cluster".into(),
        external_policy: "Local".into(),
        affinity_seconds: Some(600),
        source_ranges: vec![],
        ports: vec![],
    };
    let mut page = ServicePage::new("shop/web".into(), Some(&line));
    page.reasons = Some(Reasons {
        at: "2026-01-02T03:04:05Z".into(),
        age_seconds: 3,
        node: "n1".into(),
        zone: Some("za".into()),
        known: true,
    });
    page.frontends = vec![frontend("External", "192.0.2.1", 80), frontend("ClusterIP", "10.96.0.1", 80)];
    page.ports = vec![PortDetail {
        id: 7,
        port: "http".into(),
        protocol: "TCP".into(),
        family: "IPv4",
        algorithm: "random".into(),
        affinity_seconds: 600,
        affinity_clients: 2,
        source_ranges: vec!["198.51.100.0/24".into(), "203.0.113.0/24".into()],
        connections: Some(Connections { opened: 12, refused: 3, dropped: 0 }),
        cluster: vec![
            backend(endpoint("10.244.1.1", "local"), Some("n1"), Some("za")),
            backend(endpoint("10.244.2.1", "remote"), Some("n2"), None),
        ],
        local: vec![backend(endpoint("10.244.1.1", "local"), Some("n1"), Some("za"))],
        not_used: vec![
            not_used("10.244.2.2", Some("zb"), "zone zb; hints select zone za"),
            not_used("10.244.2.3", None, "not ready"),
        ],
        refused: vec![RefusedFrontend {
            frontend: "198.51.100.1:80/TCP".into(),
            kind: "ExternalIP".into(),
            why: "it belongs to Service shop/other".into(),
        }],
    }];
    page.sort();
    page
}

#[test]
fn a_service_is_shown_with_who_is_used_who_is_not_and_why() {
    assert_eq!(
        page().text(),
        "\
service   shop/web
policies  internal Cluster, external Local
affinity  http/TCP/IPv4: ClientIP for 600s, 2 clients
sources   http/TCP/IPv4: 198.51.100.0/24, 203.0.113.0/24
new       http/TCP/IPv4: 12 opened, 3 refused, 0 dropped
reasons   as of 2026-01-02T03:04:05Z (3s ago), node n1, zone za

SERVICE        TYPE       FRONTEND      PROTOCOL  BACKENDS  LOCAL  AFFINITY
shop/web:http  ClusterIP  10.96.0.1:80  TCP       2         1      600s
shop/web:http  External   192.0.2.1:80  TCP       2         1      600s

PORT           SEGMENT  BACKEND          PLACE   NODE  ZONE  STATE  WEIGHT  SLOTS
http/TCP/IPv4  cluster  10.244.1.1:8080  local   n1    za    ready  1       1
http/TCP/IPv4  cluster  10.244.2.1:8080  remote  n2    -     ready  1       1
http/TCP/IPv4  local    10.244.1.1:8080  local   n1    za    ready  1       1

PORT           NOT USED         NODE  ZONE  WHY
http/TCP/IPv4  10.244.2.2:8080  n2    zb    zone zb; hints select zone za
http/TCP/IPv4  10.244.2.3:8080  n2    -     not ready

PORT           TYPE        NOT SERVED           WHY
http/TCP/IPv4  ExternalIP  198.51.100.1:80/TCP  it belongs to Service shop/other
"
    );
}

#[test]
fn without_what_the_agent_wrote_down_the_maps_are_shown_alone() {
    let mut page = page();
    page.reasons = None;
    let mut bare = ServicePage::new("shop/web".into(), None);
    std::mem::swap(&mut bare.frontends, &mut page.frontends);
    assert_eq!(
        bare.text(),
        "\
service   shop/web
reasons   not written down

SERVICE        TYPE       FRONTEND      PROTOCOL  BACKENDS  LOCAL  AFFINITY
shop/web:http  ClusterIP  10.96.0.1:80  TCP       2         1      600s
shop/web:http  External   192.0.2.1:80  TCP       2         1      600s
"
    );
}

#[test]
fn wide_rows_say_how_and_for_whom_backends_are_chosen() {
    let rows = [frontend("External", "192.0.2.1", 80).row];
    assert_eq!(
        Format::Wide.rows(&rows).unwrap(),
        "\
SERVICE        TYPE      FRONTEND      PROTOCOL  BACKENDS  LOCAL  AFFINITY  ALGORITHM  SOURCES  PODS     NODE                OUTSIDE  ID
shop/web:http  External  192.0.2.1:80  TCP       2         1      600s      random     ranges   cluster  cluster+masquerade  local    7
"
    );
}

/// Programs read these: a field that goes or changes its name breaks them.
#[test]
fn the_fields_of_yaml_and_json_are_stable() {
    let json: serde_json::Value = serde_json::from_str(&Format::Json.one(&page()).unwrap()).unwrap();
    let yaml: serde_json::Value = serde_norway::from_str(&Format::Yaml.one(&page()).unwrap()).unwrap();
    assert_eq!(json, yaml);
    let endpoint = |address: &str, place: &str| serde_json::json!({"address": address, "port": 8080, "place": place, "terminating": false});
    let frontend = |kind: &str, address: &str, ranges: bool| {
        serde_json::json!({
            "id": 7, "service": "shop/web", "portName": "http", "kind": kind, "address": address, "port": 80,
            "protocol": "TCP", "algorithm": "random", "clusterBackends": 2, "localBackends": 1, "affinitySeconds": 600,
            "ranges": ranges, "rules": ["Pod: cluster", "Node: cluster+masquerade", "Outside: local"],
            "cluster": [endpoint("10.244.1.1", "local"), endpoint("10.244.2.1", "remote")], "local": [],
        })
    };
    let backend = |address: &str, place: &str, node: &str, zone: Option<&str>| {
        serde_json::json!({"address": address, "port": 8080, "place": place, "terminating": false, "node": node,
            "zone": zone, "state": "ready", "weight": 1, "slots": 1})
    };
    let not_used = |address: &str, zone: Option<&str>, why: &str| serde_json::json!({"address": address, "port": 8080, "node": "n2", "zone": zone, "state": "ready", "why": why});
    let expected = serde_json::json!({
        "service": "shop/web", "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Local",
        "reasons": {"at": "2026-01-02T03:04:05Z", "ageSeconds": 3, "node": "n1", "zone": "za", "known": true},
        "frontends": [frontend("ClusterIP", "10.96.0.1", false), frontend("External", "192.0.2.1", true)],
        "ports": [{
            "id": 7, "port": "http", "protocol": "TCP", "family": "IPv4", "algorithm": "random", "affinitySeconds": 600,
            "affinityClients": 2, "sourceRanges": ["198.51.100.0/24", "203.0.113.0/24"],
            "connections": {"opened": 12, "refused": 3, "dropped": 0},
            "cluster": [backend("10.244.1.1", "local", "n1", Some("za")), backend("10.244.2.1", "remote", "n2", None)],
            "local": [backend("10.244.1.1", "local", "n1", Some("za"))],
            "notUsed": [
                not_used("10.244.2.2", Some("zb"), "zone zb; hints select zone za"),
                not_used("10.244.2.3", None, "not ready"),
            ],
            "refused": [{"frontend": "198.51.100.1:80/TCP", "kind": "ExternalIP", "why": "it belongs to Service shop/other"}],
        }],
    });
    assert_eq!(json, expected);
}
