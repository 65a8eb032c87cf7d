//! `proxyctl explain`: what becomes of a connection by the policies in force, and which rule says so. The maps decide, as
//! they do for packets; what the agent wrote down only names things. No packet is sent and nothing changes.

mod directory;
mod end;
mod judge;
mod nearest;
mod page;
#[cfg(test)]
mod tests;

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use proxy_common::reason::Reason;
use proxy_common::{ClientClass, ClientRule, Frontend, FrontendFlags, Port, Proto};
use serde::Deserialize;

use self::directory::Frontends;
use self::end::{Directory, End, Place};
pub(super) use self::judge::{Connection, Judgement, Road, Verdict, judge};
use self::page::{Answer, Batch, Explanation};
use super::output::Format;
use super::policy::names::{Names, Owner};
use super::policy::tables::Tables;
use super::reader::Reader;

/// What `proxyctl explain` is asked.
#[derive(Args, Debug, Clone)]
pub struct ExplainArgs {
    /// Who connects: NAMESPACE/NAME of a pod, an address, or `node` for this node
    #[arg(long, value_name = "POD|IP|node", required_unless_present = "batch")]
    from: Option<String>,
    /// Whom to: NAMESPACE/NAME of a pod or else a Service, pod/NAMESPACE/NAME, svc/NAMESPACE/NAME[:PORT], or an address
    #[arg(long, value_name = "POD|SVC|IP", required_unless_present = "batch")]
    to: Option<String>,
    /// Port of the pod, or of the Service if that is the end
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Protocol
    #[arg(long, value_enum, default_value_t = ProtoArg::Tcp)]
    proto: ProtoArg,
    /// Many questions from a file, `-` for the standard input: a JSON object a line with "from", "to", "port" and
    /// "proto"; the answers are JSON, one a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to", "port", "proto"])]
    batch: Option<PathBuf>,
}

/// What is asked.
enum Asked<'a> {
    One(Question),
    Batch(&'a Path),
}

impl ExplainArgs {
    fn asked(&self) -> Asked<'_> {
        match &self.batch {
            Some(file) => Asked::Batch(file),
            None => Asked::One(Question {
                from: self.from.clone().unwrap_or_default(),
                to: self.to.clone().unwrap_or_default(),
                port: self.port,
                proto: self.proto,
            }),
        }
    }
}

/// A connection that is asked about.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    pub(super) from: String,
    pub(super) to: String,
    #[serde(default)]
    pub(super) port: Option<u16>,
    #[serde(default)]
    pub(super) proto: ProtoArg,
}

/// A protocol as it is written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProtoArg {
    /// TCP
    #[default]
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
    /// ICMP or ICMPv6, by the address
    Icmp,
}

impl ProtoArg {
    /// The protocol between addresses of a family.
    pub(super) fn between(self, ip: IpAddr) -> Proto {
        match self {
            Self::Tcp => Proto::TCP,
            Self::Udp => Proto::UDP,
            Self::Sctp => Proto::SCTP,
            Self::Icmp if ip.is_ipv4() => Proto::ICMP,
            Self::Icmp => Proto::ICMP6,
        }
    }
}

/// Everything that answers follow from.
struct Sources<'a, T, D> {
    tables: &'a T,
    names: &'a Names,
    /// Services by name.
    directory: &'a D,
}

/// Answers what was asked, from the pinned maps.
pub(super) fn run(reader: &Reader, args: &ExplainArgs, format: Format) -> anyhow::Result<String> {
    let names = Names::of(reader.record.policy_names());
    let directory = Frontends::read(reader)?;
    let sources = Sources { tables: &reader.pinned, names: &names, directory: &directory };
    match args.asked() {
        Asked::One(question) => format.one(&explain(&sources, &question)?),
        Asked::Batch(file) => Ok(batch(&sources, file)?.lines()),
    }
}

/// A pair of addresses that a question is about.
pub(super) struct Target {
    /// Who connects.
    pub(super) client: IpAddr,
    /// Whom to.
    pub(super) place: Place,
    pub(super) proto: Proto,
    /// Whether somebody is served there.
    pub(super) road: Road,
    /// Whom a Service there sends the client to.
    pub(super) backends: Vec<Place>,
}

/// The pairs of addresses that a question is about, by the pinned maps.
pub(super) fn targets(reader: &Reader, question: &Question) -> anyhow::Result<Vec<Target>> {
    let names = Names::of(reader.record.policy_names());
    let directory = Frontends::read(reader)?;
    let sources = Sources { tables: &reader.pinned, names: &names, directory: &directory };
    let target = |(client, place, proto)| {
        let (road, backends) = match service(&sources, client, place, proto)? {
            None => (Road::Direct, Vec::new()),
            Some(Err(_)) => (Road::Service, Vec::new()),
            Some(Ok(backends)) => (Road::Service, backends),
        };
        Ok(Target { client, place, proto, road, backends })
    };
    pairs(&sources, question)?.into_iter().map(target).collect()
}

/// Answers one question.
fn explain(
    sources: &Sources<'_, impl Tables, impl Directory>,
    question: &Question,
) -> anyhow::Result<Explanation> {
    let mut answers = Vec::new();
    for (client, place, proto) in pairs(sources, question)? {
        answers.extend(answer(sources, client, place, proto)?);
    }
    if answers.is_empty() {
        bail!("{} and {} have no address of the same family: no packet passes", question.from, question.to);
    }
    Ok(Explanation::of(question, answers))
}

/// Each address of who connects with each of whom to, where they are of one family.
fn pairs(
    sources: &Sources<'_, impl Tables, impl Directory>,
    question: &Question,
) -> anyhow::Result<Vec<(IpAddr, Place, Proto)>> {
    let Sources { tables, names, directory } = sources;
    let (from, to) = (End::parse(&question.from)?, End::parse(&question.to)?);
    let port = question.port.map(Port::new);
    // The family is not known yet, and no name depends on it.
    let proto = question.proto.between(IpAddr::from([0, 0, 0, 0]));
    let senders = end::senders(&from, *tables, names).with_context(|| format!("--from {}", question.from))?;
    let places = end::places(&to, (port, proto), *directory, *tables, names)
        .with_context(|| format!("--to {}", question.to))?;
    let pair = |place: Place| {
        let senders = senders.iter().map(|sender| sender.address);
        let of_family = senders.filter(move |client| client.is_ipv4() == place.address.is_ipv4());
        of_family.map(move |client| (client, place, question.proto.between(place.address)))
    };
    Ok(places.iter().copied().flat_map(pair).collect())
}

/// Answers for one address of each end: one answer, or one for each backend of a Service.
fn answer(
    sources: &Sources<'_, impl Tables, impl Directory>,
    src: IpAddr,
    to: Place,
    proto: Proto,
) -> anyhow::Result<Vec<Answer>> {
    let Sources { tables, names, .. } = sources;
    let judged = |at: Place, road, via| -> anyhow::Result<Answer> {
        let connection = Connection { src, dst: at.address, port: at.port, proto, road };
        let Judgement { verdict, egress, ingress } = judge(*tables, names, &connection)?;
        Ok(Answer::new(&connection, via, verdict).with(egress, ingress))
    };
    match service(sources, src, to, proto)? {
        None => Ok(vec![judged(to, Road::Direct, None)?]),
        Some(Ok(backends)) => {
            backends.into_iter().map(|place| judged(place, Road::Service, Some(to))).collect()
        }
        Some(Err(reason)) => {
            let connection = Connection { src, dst: to.address, port: to.port, proto, road: Road::Service };
            Ok(vec![Answer::new(&connection, Some(to), Verdict::Refused).because(reason)])
        }
    }
}

/// Whom a Service sends a client to, or why nowhere; `None` where there is no Service.
fn service(
    Sources { tables, names, .. }: &Sources<'_, impl Tables, impl Directory>,
    src: IpAddr,
    to: Place,
    proto: Proto,
) -> anyhow::Result<Option<Result<Vec<Place>, Reason>>> {
    let Some(frontend) = served(*tables, to, proto)? else { return Ok(None) };
    if frontend.flags.has(FrontendFlags::WILDCARD) {
        return Ok(Some(Err(Reason::UnknownPort)));
    }
    if frontend.flags.has(FrontendFlags::RANGES) && !tables.is_in_range(src, &frontend)? {
        return Ok(Some(Err(Reason::SourceRange)));
    }
    let rule = frontend.rule(client(*tables, names, src)?);
    let [cluster, local] = tables.backends(to.address, &frontend)?;
    let backends = if rule.has(ClientRule::LOCAL) { local } else { cluster };
    if backends.is_empty() {
        let silent = rule.has(ClientRule::DROP_IF_EMPTY);
        return Ok(Some(Err(if silent { Reason::NoLocalEndpoints } else { Reason::NoEndpoints })));
    }
    Ok(Some(Ok(backends.into_iter().map(|(address, port)| Place { address, port }).collect())))
}

/// What is served at a place: its frontend, or that of a cluster address whose port it is not.
fn served(tables: &impl Tables, to: Place, proto: Proto) -> anyhow::Result<Option<Frontend>> {
    if to.port == Port::NONE {
        return Ok(None);
    }
    Ok(match tables.frontend(to.address, to.port, proto)? {
        Some(frontend) => Some(frontend),
        None => tables.frontend(to.address, Port::NONE, Proto::ANY)?,
    })
}

fn client(tables: &impl Tables, names: &Names, src: IpAddr) -> anyhow::Result<ClientClass> {
    Ok(if tables.is_own(src)? {
        ClientClass::Node
    } else if tables.is_in_pod_range(src)? || matches!(names.owner(src), Some(Owner::Pod(_))) {
        ClientClass::Pod
    } else {
        ClientClass::Outside
    })
}

/// Answers every question of a file, a line each.
fn batch(sources: &Sources<'_, impl Tables, impl Directory>, file: &Path) -> anyhow::Result<Batch> {
    let lines: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(
            std::fs::File::open(file).with_context(|| format!("--batch {}", file.display()))?,
        ))
    };
    let mut answers = Vec::new();
    for (number, line) in lines.lines().enumerate() {
        let line = line.with_context(|| format!("--batch {}", file.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        let question = serde_json::from_str::<Question>(&line);
        let question = question.with_context(|| format!("line {} is no question", number + 1));
        answers.push(question.and_then(|question| explain(sources, &question)));
    }
    Ok(Batch::of(answers))
}
