//! What the agent knows of each Service, written down beside the maps for `proxyctl`: the maps hold who is used, and this
//! says who is not, and why. One JSON object a line: first when and where, then one Service each. A file, and no socket
//! to ask: it is there when the agent is not, and nothing has to be guarded but a file of root's.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use proxy_model::endpoint::State;
use proxy_model::fact::{Service, TrafficPolicy};
use proxy_model::intent::Exposure;
use proxy_model::view::{self, PortView};
use proxy_model::{ObjectKey, Planner, World};
use serde::{Deserialize, Serialize};

/// Name of the file.
const FILE: &str = "services.jsonl";

/// When and where the lines were written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Seconds since 1970; what a line says was so then or later.
    pub at: u64,
    /// This node's name.
    pub node: String,
    /// Its zone.
    pub zone: Option<String>,
}

/// One Service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceLine {
    /// `namespace/name`. First, so that a reader can tell whose a line is without reading all of it.
    pub service: String,
    /// `internalTrafficPolicy`.
    pub internal_policy: String,
    /// `externalTrafficPolicy`.
    pub external_policy: String,
    /// Time-out of `ClientIP` affinity.
    pub affinity_seconds: Option<u32>,
    /// `loadBalancerSourceRanges`.
    pub source_ranges: Vec<String>,
    /// Ports of each family.
    pub ports: Vec<PortLine>,
}

/// One port of one family.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortLine {
    /// Its name.
    pub port: String,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// IPv4 or IPv6.
    pub family: String,
    /// Its number in the maps.
    pub id: Option<u32>,
    /// Frontends that are not served as asked, and why.
    pub refused: Vec<RefusedLine>,
    /// Every endpoint that the slices list.
    pub endpoints: Vec<EndpointLine>,
}

/// A frontend that is not served as asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedLine {
    /// Address, port and protocol.
    pub frontend: String,
    /// How it came to be.
    pub kind: String,
    /// Why it is refused.
    pub why: String,
}

/// One endpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointLine {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its node.
    pub node: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
    /// What its conditions amount to.
    pub state: String,
    /// Why nobody is sent to it; absent if somebody is.
    pub why: Option<String>,
}

impl EndpointLine {
    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

/// One word for a Service's type of frontend.
#[must_use]
pub const fn kind(exposure: Exposure) -> &'static str {
    match exposure {
        Exposure::ClusterIp => "ClusterIP",
        Exposure::LoadBalancer => "LoadBalancer",
        Exposure::ExternalIp => "ExternalIP",
        Exposure::NodePort => "NodePort",
        Exposure::Localhost => "localhost NodePort",
    }
}

/// What the conditions of an endpoint amount to, for people.
#[must_use]
pub const fn state(state: State) -> &'static str {
    match state {
        State::Ready => "ready",
        State::Draining => "terminating",
        State::Stopped => "stopped",
        State::NotReady => "not ready",
    }
}

const fn policy(policy: TrafficPolicy) -> &'static str {
    match policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    }
}

impl ServiceLine {
    fn of(world: &World, planner: &Planner, service: &Service) -> Self {
        let range = |prefix: &proxy_model::fact::Prefix| format!("{}/{}", prefix.addr, prefix.len);
        Self {
            service: service.key.to_string(),
            internal_policy: policy(service.internal_policy).into(),
            external_policy: policy(service.external_policy).into(),
            affinity_seconds: service.affinity,
            source_ranges: service.source_ranges.iter().map(range).collect(),
            ports: view::ports(world, planner, service).iter().map(PortLine::from).collect(),
        }
    }
}

impl From<&PortView> for PortLine {
    fn from(port: &PortView) -> Self {
        let refused = port.frontends.iter().filter_map(|frontend| {
            let why = frontend.refused.as_ref()?.to_string();
            Some(RefusedLine {
                frontend: frontend.place.to_string(),
                kind: kind(frontend.exposure).into(),
                why,
            })
        });
        let endpoint = |is: &view::EndpointView| EndpointLine {
            address: is.endpoint.ip(),
            port: is.endpoint.port(),
            node: is.node.as_deref().map(str::to_owned),
            zone: is.zone.as_deref().map(str::to_owned),
            state: state(is.state).into(),
            why: is.why.as_ref().map(ToString::to_string),
        };
        Self {
            port: port.name.port.to_string(),
            protocol: port.name.proto.to_string(),
            family: port.name.family.api_name().into(),
            id: port.id.map(|id| id.0),
            refused: refused.collect(),
            endpoints: port.endpoints.iter().map(endpoint).collect(),
        }
    }
}

/// A file that is being written. Until it is finished, the one before it stays in place.
#[derive(Debug)]
pub struct Draft {
    dir: PathBuf,
    out: BufWriter<fs::File>,
    /// The last Service that was written.
    after: Option<ObjectKey>,
}

impl Draft {
    /// Begins a file in `dir`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(dir: &Path, world: &World, now: SystemTime) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut options = fs::OpenOptions::new();
        // Names and addresses of a cluster are its operator's.
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(draft(dir))?;
        let mut out = BufWriter::new(file);
        let header = Header {
            at: now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            node: world.settings().node_name.to_string(),
            zone: world.own_node().and_then(|node| node.zone.as_deref().map(str::to_owned)),
        };
        line(&mut out, &header)?;
        Ok(Self { dir: dir.to_owned(), out, after: None })
    }

    /// Writes some more Services, as they are now; `None` when the file is complete and in its place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(mut self, world: &World, planner: &Planner, at_most: usize) -> io::Result<Option<Self>> {
        let mut written = 0;
        let after = self.after.take();
        for service in world.services_after(after.as_ref()).take(at_most) {
            let known = ServiceLine::of(world, planner, service);
            if !known.ports.is_empty() {
                line(&mut self.out, &known)?;
            }
            self.after = Some(service.key.clone());
            written += 1;
        }
        if written == at_most {
            return Ok(Some(self));
        }
        self.out.flush()?;
        fs::rename(draft(&self.dir), self.dir.join(FILE))?;
        Ok(None)
    }
}

fn draft(dir: &Path) -> PathBuf {
    dir.join(format!(".{FILE}.new"))
}

fn line(out: &mut impl io::Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// What was written down last, as far as it can be read: the header, and one Service, or all.
#[must_use]
pub fn read(dir: &Path, service: Option<&str>) -> Option<(Header, BTreeMap<String, ServiceLine>)> {
    let mut lines = BufReader::new(fs::File::open(dir.join(FILE)).ok()?).lines().map_while(Result::ok);
    let header = serde_json::from_str(&lines.next()?).ok()?;
    let start = service.map(|name| format!("{{\"service\":{},", serde_json::Value::from(name)));
    let wanted = lines.filter(|line| start.as_ref().is_none_or(|start| line.starts_with(start)));
    let known = wanted.filter_map(|line| serde_json::from_str::<ServiceLine>(&line).ok());
    Some((header, known.map(|line| (line.service.clone(), line)).collect()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proxy_model::fact;
    use proxy_model::settings::Settings;
    use proxy_model::{Capacity, Event, Tick};

    use super::*;
    use crate::parse::{self, Fact};
    use crate::source::Object;
    use serde_json::{Value, json};

    fn event(object: Object) -> Event {
        let Fact::Model(event) = parse::object(&object.key().unwrap(), &object).fact else {
            panic!("a fact")
        };
        event
    }

    fn service(name: &str, ip: &str) -> Event {
        let value: Value = json!({"metadata": {"name": name}, "spec": {"clusterIPs": [ip],
            "sessionAffinity": "ClientIP", "ports": [{"name": "http", "port": 80}]}});
        event(Object::Service(serde_json::from_value(value).unwrap()))
    }

    fn world() -> World {
        let mut world = World::new(Settings::of_node("n1"));
        for (name, ip) in [("a", "10.96.0.1"), ("b", "10.96.0.2"), ("c", "10.96.0.3")] {
            let _ = world.apply(service(name, ip));
        }
        let value = json!({"addressType": "IPv4", "metadata": {"name": "b-1", "labels": {"kubernetes.io/service-name": "b"}},
            "ports": [{"name": "http", "port": 8080}], "endpoints": [
                {"addresses": ["10.244.1.1"], "nodeName": "n1", "zone": "za"},
                {"addresses": ["10.244.1.2"], "conditions": {"ready": false}}]});
        let _ = world.apply(event(Object::EndpointSlice(serde_json::from_value(value).unwrap())));
        for kind in [fact::Kind::Service, fact::Kind::Slice, fact::Kind::Node] {
            let _ = world.apply(Event::Synced(kind));
        }
        world
    }

    #[test]
    fn services_are_written_in_turns_and_one_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut world = world();
        let mut planner = Planner::new(Capacity { frontends: 100, backends: 100, ranges: 100 });
        planner.plan(&mut world, Tick(0));
        let mut draft = Some(Draft::begin(dir.path(), &world, UNIX_EPOCH + Duration::from_secs(7)).unwrap());
        let mut turns = 0;
        while let Some(unfinished) = draft {
            assert_eq!(read(dir.path(), None), None, "nothing is shown before all is written");
            draft = unfinished.write(&world, &planner, 2).unwrap();
            turns += 1;
        }
        let (header, all) = read(dir.path(), None).unwrap();
        assert_eq!(
            (turns, all.keys().map(String::as_str).collect::<Vec<_>>()),
            (2, vec!["default/a", "default/b", "default/c"])
        );
        assert_eq!(header, Header { at: 7, node: "n1".into(), zone: None });
        let (_, one) = read(dir.path(), Some("default/b")).unwrap();
        let endpoint =
            |address: &str, node: Option<&str>, zone: Option<&str>, state: &str, why: Option<&str>| {
                EndpointLine {
                    address: address.parse().unwrap(),
                    port: 8080,
                    node: node.map(Into::into),
                    zone: zone.map(Into::into),
                    state: state.into(),
                    why: why.map(Into::into),
                }
            };
        let expected = ServiceLine {
            service: "default/b".into(),
            internal_policy: "Cluster".into(),
            external_policy: "Cluster".into(),
            affinity_seconds: Some(10_800),
            source_ranges: vec![],
            ports: vec![PortLine {
                port: "http".into(),
                protocol: "TCP".into(),
                family: "IPv4".into(),
                id: one["default/b"].ports[0].id,
                refused: vec![],
                endpoints: vec![
                    endpoint("10.244.1.1", Some("n1"), Some("za"), "ready", None),
                    endpoint("10.244.1.2", None, None, "not ready", Some("not ready")),
                ],
            }],
        };
        assert_eq!(one, BTreeMap::from([("default/b".to_owned(), expected)]));
        assert_eq!(read(dir.path(), Some("default/none")).unwrap().1, BTreeMap::new());
    }
}
