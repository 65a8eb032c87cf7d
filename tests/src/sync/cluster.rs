//! Services and slices as an API server would write them, by number: with what a controller adds, and the agent does not read.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use proxy_common::{Addr4, FrontendKey, Port, Proto};

/// How many Services there are, and how many endpoints each has: `low` and `low + 1` in turn, or `low` alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Services of one TCP port and one address.
    pub services: u32,
    /// Endpoints of all of them together.
    pub endpoints: u32,
}

impl Size {
    /// `10,000 × 2`, or `100,000 / 250,000`.
    #[must_use]
    pub fn name(self) -> String {
        if self.endpoints.is_multiple_of(self.services) {
            format!("{} Services × {}", thousands(self.services), self.endpoints / self.services)
        } else {
            format!("{} Services, {} endpoints", thousands(self.services), thousands(self.endpoints))
        }
    }

    fn endpoints_of(self, service: u32) -> u32 {
        let (each, more) = (self.endpoints / self.services, self.endpoints % self.services);
        each + u32::from(
            u64::from(service) * u64::from(more) / u64::from(self.services)
                != (u64::from(service) + 1) * u64::from(more) / u64::from(self.services),
        )
    }
}

fn thousands(number: u32) -> String {
    let text = number.to_string();
    let groups: Vec<&str> =
        text.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join(",")
}

/// The kinds that are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `v1 Service`.
    Service,
    /// `discovery.k8s.io/v1 EndpointSlice`.
    Slice,
}

/// What happened to an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// `ADDED`.
    Added,
    /// `MODIFIED`.
    Modified,
    /// `DELETED`.
    Deleted,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// Where a Service is found.
#[must_use]
pub fn frontend(service: u32) -> FrontendKey<Addr4> {
    FrontendKey::new(cluster_ip(service).into(), Port::new(80), Proto::TCP)
}

fn cluster_ip(service: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a60_0100 + service)
}

/// Endpoint `number` of a Service in its `generation`: another one in each of sixteen.
fn endpoint(service: u32, number: u32, generation: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x6440_0000 | (((service * 4 + number) & 0x3_ffff) << 4) | (generation % 16))
}

fn name(service: u32) -> String {
    format!("service-{service:06}")
}

/// A line of a watch about a Service.
pub fn service_line(out: &mut String, verb: Verb, service: u32, version: u64) {
    let (name, ip, verb) = (name(service), cluster_ip(service), verb.name());
    let _ = writeln!(
        out,
        r#"{{"type":"{verb}","object":{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}","namespace":"default","uid":"6f1d2c3b-0000-4000-8000-{service:012}","resourceVersion":"{version}","creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app.kubernetes.io/name":"{name}","app.kubernetes.io/managed-by":"Helm"}},"managedFields":[{{"manager":"kubectl","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{{"f:spec":{{"f:ports":{{".":{{}},"k:{{\"port\":80,\"protocol\":\"TCP\"}}":{{".":{{}},"f:port":{{}},"f:protocol":{{}},"f:targetPort":{{}}}}}},"f:selector":{{}},"f:type":{{}}}}}}}}]}},"spec":{{"clusterIP":"{ip}","clusterIPs":["{ip}"],"internalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{{"name":"http","port":80,"protocol":"TCP","targetPort":8080}}],"selector":{{"app.kubernetes.io/name":"{name}"}},"sessionAffinity":"None","type":"ClusterIP"}},"status":{{"loadBalancer":{{}}}}}}}}"#
    );
}

/// A line of a watch about the slice of a Service, with other endpoints in each `generation`.
pub fn slice_line(out: &mut String, size: Size, verb: Verb, service: u32, generation: u32, version: u64) {
    let (name, verb) = (name(service), verb.name());
    let _ = write!(
        out,
        r#"{{"type":"{verb}","object":{{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"{name}-x7k2p","generateName":"{name}-","namespace":"default","uid":"7a1d2c3b-0000-4000-8000-{service:012}","resourceVersion":"{version}","generation":{},"creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app.kubernetes.io/name":"{name}","endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"{name}"}},"annotations":{{"endpoints.kubernetes.io/last-change-trigger-time":"2026-01-01T00:00:00Z"}},"ownerReferences":[{{"apiVersion":"v1","kind":"Service","name":"{name}","uid":"6f1d2c3b-0000-4000-8000-{service:012}","controller":true,"blockOwnerDeletion":true}}],"managedFields":[{{"manager":"kube-controller-manager","operation":"Update","apiVersion":"discovery.k8s.io/v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{{"f:addressType":{{}},"f:endpoints":{{}},"f:ports":{{}}}}}}]}},"addressType":"IPv4","endpoints":["#,
        generation + 1
    );
    for number in 0..size.endpoints_of(service) {
        let (comma, ip) = (if number == 0 { "" } else { "," }, endpoint(service, number, generation));
        let node = (service + number) % 100;
        let _ = write!(
            out,
            r#"{comma}{{"addresses":["{ip}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},"nodeName":"node-{node}","targetRef":{{"kind":"Pod","namespace":"default","name":"{name}-5d4f8c7b9-{number:05}","uid":"8b1d2c3b-0000-4000-8000-{service:012}"}},"zone":"zone-{}"}}"#,
            node % 3
        );
    }
    out.push_str("],\"ports\":[{\"name\":\"http\",\"port\":8080,\"protocol\":\"TCP\"}]}}\n");
}

/// The line that ends a first list.
#[must_use]
pub fn end_of_list(kind: &str, api_version: &str, version: u64) -> String {
    format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"apiVersion\":\"{api_version}\",\"kind\":\"{kind}\",\"metadata\":{{\"resourceVersion\":\"{version}\",\"creationTimestamp\":null,\"annotations\":{{\"k8s.io/initial-events-end\":\"true\"}}}}}}}}\n"
    )
}
