//! `proxyctl trace`: the real programs over the first packet of a connection that nobody opens, hook by hook, as the
//! packet would meet them. They run in the kernel over the pinned maps and leave nothing in them.

mod frame;
mod journey;
mod page;

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use clap::Args;

pub(super) use self::frame::Tuple;
use self::journey::{Journey, Start};
use self::page::{Ends, Step, Trace};
use super::explain::{ProtoArg, Question, Road, Target, targets};
use super::output::Format;
use super::policy::tables::Tables as _;
use super::reader::Reader;
use crate::kernel::rehearsal::{self, Rehearsal};
use crate::kernel::way::Ways;
use crate::observe::maps::outcome;
use proxy_common::{DatapathConfig, DeviceKind, Proto, Reason};

/// What `proxyctl trace` follows.
#[derive(Args, Debug, Clone)]
pub struct TraceArgs {
    /// Who connects: NAMESPACE/NAME of a pod, an address, or `node` for this node
    #[arg(long, value_name = "POD|IP|node")]
    from: String,
    /// Whom to: NAMESPACE/NAME of a pod or else a Service, pod/NAMESPACE/NAME, svc/NAMESPACE/NAME[:PORT], or an address
    #[arg(long, value_name = "POD|SVC|IP")]
    to: String,
    /// Port of the pod, or of the Service if that is the end
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Protocol
    #[arg(long, value_enum, default_value_t = ProtoArg::Tcp)]
    proto: ProtoArg,
    /// Port of the client; the identifier of a ping
    #[arg(long, value_name = "N", default_value_t = 40_000)]
    source_port: u16,
}

/// Follows the packet.
pub(super) fn run(reader: &Reader, args: &TraceArgs, format: Format) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    format.one(&runtime.block_on(trace(reader, args))?)
}

async fn trace(reader: &Reader, args: &TraceArgs) -> anyhow::Result<Trace> {
    let question =
        Question { from: args.from.clone(), to: args.to.clone(), port: args.port, proto: args.proto };
    let Some(target) = targets(reader, &question)?.into_iter().next() else {
        bail!("{} and {} have no address of the same family: no packet passes", args.from, args.to);
    };
    let constants = constants(reader)?;
    let rehearsal = Rehearsal::load(&reader.pinned.pins, &constants)
        .context("the programs cannot be loaded a second time (run as root)")?;
    let mut tuple = Tuple {
        src: SocketAddr::new(target.client, args.source_port),
        dst: SocketAddr::new(target.place.address, target.place.port.number()),
        proto: target.proto,
    };
    let ways = Ways::open()?;
    let start = start(reader, &ways, &target).await?;
    let mut steps = Vec::new();
    if let Some(step) = socket(&constants, start, &target, &mut tuple) {
        steps.push(step);
    }
    let first = tuple;
    let mut journey = Journey::new(reader, rehearsal, ways, steps);
    let (end, text) = journey.follow(start, first).await?;
    Ok(Trace {
        from: args.from.clone(),
        to: args.to.clone(),
        protocol: target.proto.to_string(),
        steps: journey.steps,
        end,
        text,
    })
}

fn constants(reader: &Reader) -> anyhow::Result<DatapathConfig> {
    let found = reader.record.state().and_then(|state| rehearsal::constants(&state.constants));
    found.context(
        "the agent has not written down what its programs were loaded with; start one of this version",
    )
}

/// Where the packet meets the first hook.
async fn start(reader: &Reader, ways: &Ways, target: &Target) -> anyhow::Result<Start> {
    let client = target.client;
    if reader.pinned.is_own(client)? {
        return Ok(Start::Node);
    }
    let Some(way) = ways.to(client).await? else {
        bail!("this node has no route to {client}: no packet comes from there");
    };
    let policed = reader.pinned.policed(client)?.map(|policed| policed.device).filter(|index| *index != 0);
    let kind = reader.pinned.devices.get(&way.device.0)?.unwrap_or_default().role();
    match kind {
        DeviceKind::POD => Ok(Start::Pod(way.device)),
        DeviceKind::UPLINK => Ok(Start::Outside(way.device)),
        _ => match policed {
            Some(index) => Ok(Start::Pod(crate::kernel::topology::IfIndex(index))),
            None => bail!("packets from {client} come by {}, where no program of Sluice hangs", way.name),
        },
    }
}

/// What a socket's connect(2) would have done with a Service's address before any packet. Its program cannot be run over
/// nothing, so this says which backend it could have chosen: the first.
fn socket(constants: &DatapathConfig, start: Start, target: &Target, tuple: &mut Tuple) -> Option<Step> {
    let serves = match start {
        Start::Node => constants.node_packets == 0,
        Start::Pod(_) => constants.pod_packets == 0,
        Start::Outside(_) => false,
    };
    let with_sockets = [Proto::TCP, Proto::UDP].contains(&tuple.proto);
    let backend =
        target.backends.first().filter(|_| serves && with_sockets && target.road == Road::Service)?;
    let before = Ends { source: tuple.src, destination: tuple.dst };
    tuple.dst = SocketAddr::new(backend.address, backend.port.number());
    let reason = Reason::SocketConnect;
    Some(Step {
        hook: "socket",
        device: None,
        before,
        after: Some(Ends { source: tuple.src, destination: tuple.dst }),
        reason: reason.text(),
        outcome: outcome(reason.outcome()),
        meaning: "Not run: what connect(2) does before there is a packet, with the first of the backends.",
    })
}
