//! A page in which everything has a value, and each text that others give is one name with some number behind it.

use proxy_common::Reason;

use super::made;
use crate::ctl::report::course::{Course, CourseLine};
use crate::ctl::report::gather;
use crate::ctl::report::page::*;
use crate::ctl::status::Life;

/// Gives the texts.
struct Texts<'a> {
    name: &'a str,
    given: u32,
}

impl Texts<'_> {
    fn next(&mut self) -> String {
        self.given += 1;
        format!("{}{}", self.name, self.given)
    }
}

/// The page.
pub(super) fn page(name: &str) -> ReportPage {
    let mut texts = Texts { name, given: 0 };
    let service = service(&mut texts);
    let mut matrix = made();
    matrix.parties[0].name = texts.next();
    matrix.rows[0][1].answers.truncate(1);
    matrix.rows[0][1].answers[0].ingress = texts.next();
    ReportPage {
        at: "2026-01-02T03:04:05Z".into(),
        version: "0.1.0".into(),
        node: node(&mut texts),
        services: ServicesPart {
            written: Some("2026-01-02T03:04:00Z".into()),
            zone: Some(texts.next()),
            shown: vec![service],
            left_out: 0,
        },
        matrix,
        denials: vec![Denial {
            policy: texts.next(),
            direction: "ingress".into(),
            rule: "isolation".into(),
            packets: 7,
        }],
        drops: gather::drops(vec![
            (Reason::ServiceNew, 9),
            (Reason::NoEndpoints, 2),
            (Reason::DeniedIngress, 5),
        ]),
        course: Some(Course {
            ends: vec![1.0, 2.0],
            reasons: vec![CourseLine {
                reason: "no-endpoints",
                outcome: "reject",
                count: 3,
                per_second: vec![1.0, 2.0],
            }],
        }),
        maps: vec![MapLine {
            name: "frontends4",
            used: Some(3),
            size: 4,
            memory: Some(4096),
            holds: "who is served",
        }],
        repairs: vec![Repair { map: texts.next(), count: 1 }],
    }
}

fn node(texts: &mut Texts<'_>) -> NodePart {
    NodePart {
        name: Some(texts.next()),
        alive: Life::Runs,
        facts: vec![Fact { name: "Agent", value: texts.next() }],
        degraded: vec![texts.next()],
        hooks: vec![HookLine { hook: "from-pod".into(), target: texts.next(), state: "attached".into() }],
    }
}

fn service(texts: &mut Texts<'_>) -> ServicePart {
    let endpoint = |at: &str, state: &str, why: Option<String>| EndpointPart {
        at: at.parse().unwrap(),
        node: Some("n2".into()),
        state: state.into(),
        why,
    };
    ServicePart {
        name: texts.next(),
        internal_policy: Some("Cluster".into()),
        external_policy: Some("Local".into()),
        frontends: vec![FrontendLine {
            kind: "ClusterIP",
            at: "10.96.0.1:80".parse().unwrap(),
            protocol: "TCP".into(),
            port_name: texts.next(),
            backends: 1,
            local_backends: 0,
            algorithm: "random".into(),
            affinity_seconds: 600,
        }],
        ports: vec![PortPart {
            port: texts.next(),
            protocol: "TCP".into(),
            family: "IPv4".into(),
            zones: vec![ZonePart {
                zone: Some(texts.next()),
                endpoints: vec![
                    endpoint("10.244.1.1:8080", "ready", None),
                    endpoint("10.244.1.2:8080", "not ready", Some(texts.next())),
                ],
            }],
            refused: vec![Refused {
                frontend: "198.51.100.1:80/TCP".into(),
                kind: "ExternalIP".into(),
                why: texts.next(),
            }],
        }],
    }
}
