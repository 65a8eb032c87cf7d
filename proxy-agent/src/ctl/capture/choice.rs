//! Which packets are kept.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::bail;
use proxy_common::Reason;
use proxy_common::reason::Outcome;

use super::CaptureArgs;
use crate::ctl::counter;
use crate::ctl::explain::ProtoArg;
use crate::ctl::reader::{Reader, Wanted};
use crate::ctl::service;
use crate::ctl::trace::Tuple;
use crate::kernel::hook::{Anchor, Hook};
use crate::kernel::tap::Tapped;

/// What a packet has to be; empty for all.
#[derive(Default, Debug)]
pub(super) struct Choice {
    hook: Option<Hook>,
    host: Option<IpAddr>,
    port: Option<u16>,
    proto: Option<ProtoArg>,
    /// Frontends and backends of a Service.
    ends: Option<BTreeSet<SocketAddr>>,
    reason: Option<Reason>,
    drops: bool,
}

impl Choice {
    pub(super) fn of(args: &CaptureArgs, reader: &Reader) -> anyhow::Result<Self> {
        let CaptureArgs { hook, host, port, proto, service, reason, drops, .. } = args;
        Ok(Self {
            hook: hook.as_deref().map(named).transpose()?,
            host: *host,
            port: *port,
            proto: *proto,
            ends: service.as_deref().map(|service| ends(reader, service)).transpose()?,
            reason: reason.as_deref().map(counter::reason).transpose()?,
            drops: *drops,
        })
    }

    /// Packets of the hook are looked at.
    pub(super) fn takes_hook(&self, hook: Hook) -> bool {
        self.hook.is_none_or(|wanted| wanted == hook)
    }

    /// The packet is kept: as it came or as it was left, it is what was asked for.
    pub(super) fn takes(&self, packet: &Tapped) -> bool {
        let is_lost = || matches!(packet.reason.map(Reason::outcome), Some(Outcome::Drop | Outcome::Reject));
        let is_for = self.reason.is_none_or(|reason| packet.reason == Some(reason));
        is_for && (!self.drops || is_lost()) && self.takes_ends(packet)
    }

    fn takes_ends(&self, packet: &Tapped) -> bool {
        let Self { hook: _, host, port, proto, ends, reason: _, drops: _ } = self;
        if host.is_none() && port.is_none() && proto.is_none() && ends.is_none() {
            return true;
        }
        let forms = [packet.before.as_ref(), Some(&packet.after)].into_iter().flatten();
        forms.filter_map(|form| Tuple::of(&form.bytes)).any(|Tuple { src, dst, proto: is }| {
            let both = [src, dst];
            host.is_none_or(|host| both.iter().any(|end| end.ip() == host))
                && port.is_none_or(|port| both.iter().any(|end| end.port() == port))
                && proto.is_none_or(|proto| proto.between(src.ip()) == is)
                && ends.as_ref().is_none_or(|ends| both.iter().any(|end| ends.contains(end)))
        })
    }
}

fn named(name: &str) -> anyhow::Result<Hook> {
    let of_packets = |hook: &Hook| hook.anchor() != Anchor::Cgroup;
    if let Some(hook) = Hook::named(name).filter(of_packets) {
        return Ok(hook);
    }
    let all: Vec<_> = Hook::ALL.into_iter().filter(of_packets).map(Hook::name).collect();
    bail!("there is no hook {name:?} for packets; there are {}", all.join(", "))
}

/// Where a Service is asked for, and who answers.
fn ends(reader: &Reader, text: &str) -> anyhow::Result<BTreeSet<SocketAddr>> {
    let wanted = Wanted::parse(text)?;
    let rows = service::list(reader)?.into_iter().filter(|row| row.is_of(&wanted));
    let mut ends: BTreeSet<SocketAddr> = rows.map(|row| row.socket()).collect();
    if ends.is_empty() {
        bail!("Service {text} is not in the maps; `proxyctl service list` shows those that are");
    }
    ends.extend(service::backends(reader, &wanted)?);
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use proxy_common::Proto;

    use super::*;
    use crate::kernel::tap::Bytes;
    use crate::kernel::topology::IfIndex;

    fn packet(reason: Reason) -> Tapped {
        let frame = |dst: &str| {
            let tuple = Tuple {
                src: "10.244.0.9:4000".parse().unwrap(),
                dst: dst.parse().unwrap(),
                proto: Proto::TCP,
            };
            let bytes = tuple.frame([2; 6]);
            Bytes { at: 1, length: bytes.len() as u32, bytes }
        };
        Tapped {
            at: 1,
            hook: Hook::FromPod,
            device: IfIndex(3),
            code: -1,
            reason: Some(reason),
            before: Some(frame("10.96.0.1:80")),
            after: frame("10.244.0.5:8080"),
        }
    }

    #[test]
    fn a_packet_is_taken_for_what_it_was_and_for_what_it_became() {
        let ends = |text: &str| Some(BTreeSet::from([text.parse().unwrap()]));
        let none = Choice::default;
        for (choice, taken) in [
            (none(), true),
            (Choice { host: "10.96.0.1".parse().ok(), ..none() }, true),
            (Choice { host: "10.244.0.5".parse().ok(), ..none() }, true),
            (Choice { host: "10.96.0.2".parse().ok(), ..none() }, false),
            (Choice { port: Some(8_080), ..none() }, true),
            (Choice { port: Some(81), ..none() }, false),
            // Of one form, and not a part of each.
            (Choice { host: "10.96.0.1".parse().ok(), port: Some(8_080), ..none() }, false),
            (Choice { proto: Some(ProtoArg::Udp), ..none() }, false),
            (Choice { ends: ends("10.96.0.1:80"), ..none() }, true),
            (Choice { ends: ends("10.96.0.1:81"), ..none() }, false),
            (Choice { reason: Some(Reason::ServiceNew), ..none() }, true),
            (Choice { reason: Some(Reason::NoEndpoints), ..none() }, false),
            (Choice { drops: true, ..none() }, false),
        ] {
            assert_eq!(choice.takes(&packet(Reason::ServiceNew)), taken, "{choice:?}");
        }
        assert!(Choice { drops: true, ..none() }.takes(&packet(Reason::NoEndpoints)));
        let error = named("connect4").unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no hook \"connect4\" for packets; there are from_pod, to_pod, from_wire, to_wire, early_wire"
        );
    }
}
