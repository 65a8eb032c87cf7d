//! How an explanation looks.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use proxy_common::reason::Reason;
use serde::Serialize;

use super::Question;
use super::end::Place;
use super::judge::{Connection, Side, Verdict};
use crate::ctl::output::{Page, printable};
use crate::observe::causes;

/// What becomes of the connections that a question is about.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    from: String,
    to: String,
    verdict: Verdict,
    /// One for each pair of addresses and each backend.
    answers: Vec<Answer>,
}

/// What becomes of one.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    source: IpAddr,
    destination: IpAddr,
    /// Absent for a protocol without ports.
    port: Option<u16>,
    protocol: String,
    /// The Service's address that the connection was sent to.
    service: Option<SocketAddr>,
    verdict: Verdict,
    /// Why a Service does not take it.
    reason: Option<&'static str>,
    egress: Option<Side>,
    ingress: Option<Side>,
}

impl Answer {
    pub(super) fn new(connection: &Connection, service: Option<Place>, verdict: Verdict) -> Self {
        let Connection { src, dst, port, proto, road: _ } = *connection;
        Self {
            source: src,
            destination: dst,
            port: Some(port.number()).filter(|port| *port != 0),
            protocol: proto.to_string(),
            service: service.map(|place| SocketAddr::new(place.address, place.port.number())),
            verdict,
            reason: None,
            egress: None,
            ingress: None,
        }
    }

    pub(super) fn with(self, egress: Side, ingress: Side) -> Self {
        Self { egress: Some(egress), ingress: Some(ingress), ..self }
    }

    pub(super) fn because(self, reason: Reason) -> Self {
        Self { reason: Some(reason.text()), ..self }
    }

    fn destination(&self) -> String {
        match self.port {
            Some(port) => SocketAddr::new(self.destination, port).to_string(),
            None => self.destination.to_string(),
        }
    }

    fn write(&self, text: &mut String) {
        let via = match self.service {
            Some(service) if self.reason.is_none() => format!(" by way of {service}"),
            Some(_) | None => String::new(),
        };
        let verdict = self.verdict.text();
        let reason = self.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} -> {} {}{via}: {verdict}{reason}",
            self.source,
            self.destination(),
            self.protocol
        );
        for (direction, side) in [("egress", &self.egress), ("ingress", &self.ingress)] {
            if let Some(side) = side {
                let who = side.name.clone().unwrap_or_else(|| side.address.to_string());
                let _ = writeln!(text, "  {direction:<7} {}: {}", printable(&who), printable(&side.text));
            }
        }
    }
}

impl Explanation {
    pub(super) fn of(question: &Question, answers: Vec<Answer>) -> Self {
        let mut verdicts: Vec<_> = answers.iter().map(|answer| answer.verdict).collect();
        verdicts.sort_unstable();
        verdicts.dedup();
        let verdict = match verdicts[..] {
            [one] => one,
            [Verdict::Allowed, Verdict::AllowedHere] => Verdict::AllowedHere,
            _ if verdicts.iter().any(|one| *one <= Verdict::AllowedHere) => Verdict::Partly,
            _ => Verdict::Denied,
        };
        Self { from: question.from.clone(), to: question.to.clone(), verdict, answers }
    }
}

impl Page for Explanation {
    fn text(&self) -> String {
        let mut text = String::new();
        let _ =
            writeln!(text, "{} -> {}: {}", printable(&self.from), printable(&self.to), self.verdict.text());
        for answer in &self.answers {
            text.push('\n');
            answer.write(&mut text);
        }
        text
    }
}

/// Answers to many questions, a line of JSON each.
pub(super) struct Batch(Vec<serde_json::Value>);

impl Batch {
    pub(super) fn of(answers: Vec<anyhow::Result<Explanation>>) -> Self {
        let value = |answer: anyhow::Result<Explanation>| {
            let answer = answer.and_then(|answer| Ok(serde_json::to_value(answer)?));
            answer.unwrap_or_else(|error| serde_json::json!({"error": causes(error.as_ref())}))
        };
        Self(answers.into_iter().map(value).collect())
    }

    /// The lines.
    pub(super) fn lines(&self) -> String {
        self.0.iter().fold(String::new(), |mut all, value| {
            let _ = writeln!(all, "{value}");
            all
        })
    }
}
