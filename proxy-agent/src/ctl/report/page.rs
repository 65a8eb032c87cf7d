//! What a report says, before it has a look: plain values, so that rendering is a function of them and of nothing else.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::course::Course;
use super::matrix::Matrix;
use crate::ctl::status::Life;

/// Everything that a report says of one node at one moment.
#[derive(Serialize, Debug, Clone, Default)]
#[serde(rename_all = "camelCase")]
pub(in crate::ctl) struct ReportPage {
    /// When it was made, RFC 3339.
    pub(super) at: String,
    /// Version of the program that made it.
    pub(super) version: String,
    pub(super) node: NodePart,
    pub(super) services: ServicesPart,
    pub(super) matrix: Matrix,
    /// Who denied packets, most first.
    pub(super) denials: Vec<Denial>,
    /// What ended without an answer or with a refusal, most first.
    pub(super) drops: Vec<Drop>,
    /// What was lost while the report was made; absent if nobody asked to watch.
    pub(super) course: Option<Course>,
    pub(super) maps: Vec<MapLine>,
    /// What audits have put right since the agent started, by the name of a map.
    pub(super) repairs: Vec<Repair>,
}

/// The node and its agent.
#[derive(Serialize, Debug, Clone, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodePart {
    /// Absent if no agent has written it down.
    pub(super) name: Option<String>,
    pub(super) alive: Life,
    /// What is known of the agent, in the order in which people ask.
    pub(super) facts: Vec<Fact>,
    /// What is not as it should be, each as a sentence.
    pub(super) degraded: Vec<String>,
    pub(super) hooks: Vec<HookLine>,
}

/// A name and what it is.
#[derive(Serialize, Debug, Clone, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) value: String,
}

/// A program where it sits.
#[derive(Serialize, Debug, Clone)]
pub(super) struct HookLine {
    pub(super) hook: String,
    pub(super) target: String,
    pub(super) state: String,
}

/// Services, as far as they are shown.
#[derive(Serialize, Debug, Clone, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServicesPart {
    /// When the agent wrote down who is behind them and why not; absent if it never did.
    pub(super) written: Option<String>,
    /// This node's zone.
    pub(super) zone: Option<String>,
    pub(super) shown: Vec<ServicePart>,
    /// Services that are not shown, because the page would be too large for a browser.
    pub(super) left_out: usize,
}

/// One Service.
#[derive(Serialize, Debug, Clone, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServicePart {
    pub(super) name: String,
    pub(super) internal_policy: Option<String>,
    pub(super) external_policy: Option<String>,
    pub(super) frontends: Vec<FrontendLine>,
    pub(super) ports: Vec<PortPart>,
}

/// An address and port that is served, from the maps.
#[derive(Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrontendLine {
    pub(super) kind: &'static str,
    pub(super) at: SocketAddr,
    pub(super) protocol: String,
    pub(super) port_name: String,
    pub(super) backends: usize,
    pub(super) local_backends: usize,
    pub(super) algorithm: String,
    /// Seconds; zero is none.
    pub(super) affinity_seconds: u32,
}

/// One port of one family: who is behind it, zone by zone.
#[derive(Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase")]
pub(super) struct PortPart {
    pub(super) port: String,
    pub(super) protocol: String,
    pub(super) family: String,
    pub(super) zones: Vec<ZonePart>,
    pub(super) refused: Vec<Refused>,
}

/// Endpoints of one zone.
#[derive(Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase")]
pub(super) struct ZonePart {
    /// Absent for endpoints without one.
    pub(super) zone: Option<String>,
    pub(super) endpoints: Vec<EndpointPart>,
}

/// One endpoint.
#[derive(Serialize, Debug, Clone)]
pub(super) struct EndpointPart {
    pub(super) at: SocketAddr,
    pub(super) node: Option<String>,
    pub(super) state: String,
    /// Why nobody is sent to it; absent if somebody is.
    pub(super) why: Option<String>,
}

/// A frontend that is not served as asked.
#[derive(Serialize, Debug, Clone)]
pub(super) struct Refused {
    pub(super) frontend: String,
    pub(super) kind: String,
    pub(super) why: String,
}

/// Packets that a rule, or the lack of one, denied.
#[derive(Serialize, Debug, Clone)]
pub(super) struct Denial {
    pub(super) policy: String,
    /// Empty where the rules are not known.
    pub(super) direction: String,
    /// Number of the rule, from zero, or `isolation`.
    pub(super) rule: String,
    pub(super) packets: u64,
}

/// A reason for which packets or calls ended.
#[derive(Serialize, Debug, Clone)]
pub(super) struct Drop {
    pub(super) reason: &'static str,
    pub(super) outcome: &'static str,
    pub(super) count: u64,
    pub(super) meaning: &'static str,
}

/// How full a map is.
#[derive(Serialize, Debug, Clone)]
pub(super) struct MapLine {
    pub(super) name: &'static str,
    /// Absent where counting means nothing.
    pub(super) used: Option<usize>,
    pub(super) size: u32,
    /// Bytes.
    pub(super) memory: Option<u64>,
    pub(super) holds: &'static str,
}

/// What audits have put right in one map.
#[derive(Serialize, Debug, Clone)]
pub(super) struct Repair {
    pub(super) map: String,
    pub(super) count: usize,
}

impl ReportPage {
    /// Services that there are, shown or not.
    pub(super) fn services(&self) -> usize {
        self.services.shown.len() + self.services.left_out
    }
}

impl ServicePart {
    /// Endpoints of all ports, with the reason why each is not used.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &EndpointPart> {
        let zones = self.ports.iter().flat_map(|port| &port.zones);
        zones.flat_map(|zone| &zone.endpoints)
    }

    /// Something about it is not as somebody asked.
    pub(super) fn has_trouble(&self) -> bool {
        let nobody = self.frontends.iter().any(|frontend| frontend.backends == 0);
        nobody || self.ports.iter().any(|port| !port.refused.is_empty())
    }
}

/// An address that stands for all hosts outside of the cluster in a policy matrix: reserved for documentation
/// (RFC 5737, RFC 3849), so that nobody has it.
pub(super) const OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
