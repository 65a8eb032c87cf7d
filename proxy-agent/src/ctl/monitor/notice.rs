//! A notice under its names, and how it looks.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, UNIX_EPOCH};

use proxy_common::policy::Notice;
use proxy_common::reason::Outcome;
use proxy_common::{Addr4, Addr6, Address as _, Port, Reason, RuleId, RuleSetId};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::ctl::output::{Format, printable};
use crate::ctl::policy::names::Names;
use crate::observe::maps::outcome;
use crate::observe::policy_names::{Digest, PolicyName};

/// What the time since the node's boot, which notices have, means by the calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::ctl) struct Clock {
    /// Time of day, since 1970, at which the node has been up for `up`.
    pub(super) day: Duration,
    pub(super) up: Duration,
}

impl Clock {
    pub(in crate::ctl) fn now() -> Self {
        let up = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(up.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(up.tv_nsec).unwrap_or(0);
        Self { day: super::time_of_day(), up: Duration::new(seconds, nanos) }
    }

    /// The moment was before this clock was read.
    pub(super) fn is_before(&self, at: u64) -> bool {
        Duration::from_nanos(at) < self.up
    }

    /// The moment by the calendar.
    pub(in crate::ctl) fn text(&self, at: u64) -> String {
        humantime::format_rfc3339_millis(UNIX_EPOCH + self.since(at)).to_string()
    }

    /// The moment in nanoseconds since 1970.
    pub(in crate::ctl) fn nanos(&self, at: u64) -> u64 {
        u64::try_from(self.since(at).as_nanos()).unwrap_or(u64::MAX)
    }

    fn since(&self, at: u64) -> Duration {
        self.day + Duration::from_nanos(at).saturating_sub(self.up)
    }
}

/// One end of a packet.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct EndTold {
    address: IpAddr,
    port: Option<u16>,
    /// `namespace/name` of a pod, `node NAME`; absent if the address is nobody's.
    name: Option<String>,
}

/// A notice under its names.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    time: String,
    reason: String,
    outcome: Option<&'static str>,
    protocol: String,
    source: EndTold,
    destination: EndTold,
    /// Index of the device whose hook told it.
    device: u32,
    length: u32,
    rule_set: Option<Digest>,
    /// Policies that the rules which decided are from.
    policies: Vec<PolicyName>,
    /// Policy of the rule that decided, if one did.
    policy: Option<PolicyName>,
    rule: Option<Digest>,
    /// Who decided, in words.
    by: Option<String>,
    #[serde(skip)]
    known: Option<Reason>,
}

impl Told {
    pub(super) fn of(notice: &Notice, names: &Names, clock: &Clock) -> Self {
        let Notice { at, rules, by, src, dst, device, sport, dport, proto, reason, family, pad: _, length } =
            *notice;
        let known = Reason::from_index(u32::from(reason));
        let end = |words: [u32; 4], port: Port| {
            let address = if family == 4 {
                Addr4::from_padded(words).to_ip()
            } else {
                Addr6::from_padded(words).to_ip()
            };
            let port = Some(port.number()).filter(|port| *port != 0);
            EndTold { address, port, name: names.label(address) }
        };
        let line = names.rule(by);
        let policies = names.set(rules).map(|set| set.policies.clone()).unwrap_or_default();
        Self {
            time: clock.text(at),
            reason: known.map_or_else(|| format!("reason-{reason}"), |known| known.text().into()),
            outcome: known.map(|known| outcome(known.outcome())),
            protocol: proto.to_string(),
            source: end(src, sport),
            destination: end(dst, dport),
            device,
            length,
            rule_set: (rules != RuleSetId::OPEN).then(|| rules.into()),
            by: decider(names, rules, by, &policies),
            policy: line.map(|line| line.policy.clone()),
            rule: (by != RuleId::NONE).then(|| by.into()),
            policies,
            known,
        }
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.known.map(Reason::outcome)
    }

    pub(super) fn is_for(&self, reason: Reason) -> bool {
        self.known == Some(reason)
    }

    /// One end is the pod of that name, or has that address.
    pub(super) fn is_of(&self, pod: &str) -> bool {
        let matches = |end: &EndTold| {
            end.name.as_deref() == Some(pod)
                || end.name.as_deref().and_then(|name| name.strip_prefix("default/")) == Some(pod)
                || pod.parse() == Ok(end.address)
        };
        matches(&self.source) || matches(&self.destination)
    }

    /// The policy decided, by a rule or by isolating; `policy` is written as `proxyctl policy get` takes it.
    pub(super) fn is_by(&self, policy: &str) -> bool {
        let is_it = |name: &PolicyName| name.is_called(policy);
        match &self.policy {
            Some(decided) => is_it(decided),
            None => self.policies.iter().any(is_it),
        }
    }

    /// One line, or one document.
    pub(super) fn line(&self, format: Format) -> String {
        match format {
            Format::Table | Format::Wide => self.text(),
            Format::Json => serde_json::to_string(self).map_or_else(|_| String::new(), |line| line + "\n"),
            Format::Yaml => {
                serde_norway::to_string(self).map_or_else(|_| String::new(), |text| format!("---\n{text}"))
            }
        }
    }

    fn text(&self) -> String {
        let outcome = self.outcome.unwrap_or("?");
        let by = self.by.as_ref().map(|by| format!(", {by}")).unwrap_or_default();
        let line = format!(
            "{} {outcome} {}: {} -> {} {}, {} bytes, device {}{by}",
            self.time,
            self.reason,
            end(&self.source),
            end(&self.destination),
            self.protocol,
            self.length,
            self.device,
        );
        printable(&line) + "\n"
    }
}

fn end(end: &EndTold) -> String {
    let place = match end.port {
        Some(port) => SocketAddr::new(end.address, port).to_string(),
        None => end.address.to_string(),
    };
    end.name.as_ref().map_or_else(|| place.clone(), |name| format!("{name} ({place})"))
}

/// Who decided, in words; nobody, if it was not for a policy.
fn decider(names: &Names, rules: RuleSetId, by: RuleId, policies: &[PolicyName]) -> Option<String> {
    match (rules, by) {
        (RuleSetId::OPEN, _) => None,
        (RuleSetId::CLOSED, _) => Some("its rules are not known yet, or had no room".into()),
        (_, RuleId::NONE) if policies.is_empty() => {
            Some(format!("no rule of rule set #{}", Digest::from(rules)))
        }
        (_, RuleId::NONE) => {
            let all: Vec<_> = policies.iter().map(ToString::to_string).collect();
            Some(format!("no rule of {}", all.join(", ")))
        }
        (_, by) => Some(format!("by {}", names.rule_label(by))),
    }
}
