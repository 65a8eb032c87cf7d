//! What the agent says of itself: whether it runs, how far it is, and what it has had to repair.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::finding::Finding;
use crate::ctl::reader::Reader;
use crate::ctl::status::Life;
use crate::kernel::State;
use crate::observe::report::Report;

const AREA: &str = "agent";
const PATIENCE: Duration = Duration::from_secs(2);

/// Everything about the agent.
pub(super) fn findings(reader: &Reader, healthz: SocketAddr) -> Vec<Finding> {
    let life = Life::of(reader);
    let mut findings = vec![runs(life)];
    match reader.record.report() {
        Some(report) => findings.extend(of_report(&report)),
        None => {
            let next = "start an agent of this version; /run/sluice of the node must be mounted into its pod";
            findings.push(Finding::warn(AREA, "nothing is written down of the agent", next));
        }
    }
    findings.extend(reader.record.state().map(|state| repairs(&state)));
    if life == Life::Runs {
        findings.push(health(healthz, ask(healthz)));
    }
    findings
}

fn runs(life: Life) -> Finding {
    if life == Life::Runs {
        return Finding::ok(AREA, "it runs");
    }
    let next = "see why it ended (kubectl -n kube-system logs daemonset/sluice --previous); what was served last still is";
    Finding::fail(AREA, "it does not run: nothing follows the cluster's changes", next)
}

fn of_report(report: &Report) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (ours, theirs) = (env!("CARGO_PKG_VERSION"), report.about.version.as_str());
    if ours != theirs {
        let next = "take the proxyctl of the agent's own image";
        findings.push(Finding::warn(
            AREA,
            format!("it is of version {theirs}, this proxyctl of {ours}"),
            next,
        ));
    }
    findings.push(match report.source_lost_since {
        None => Finding::ok(AREA, format!("it hears from {}", report.about.source)),
        Some(_) => {
            let next = "see that the API server answers from this node, and at which addresses it is asked (--api-server)";
            Finding::fail(AREA, format!("{} does not answer", report.about.source), next)
        }
    });
    for (name, family) in &report.families {
        findings.push(match (family.last_sync, family.healthy) {
            (Some(_), true) => Finding::ok(AREA, format!("{name} is synced")),
            (Some(_), false) => {
                let next = "its log names the writes that fail; `proxyctl map list` shows a full map";
                Finding::fail(AREA, format!("{name}: a change waits for too long to be written"), next)
            }
            (None, _) => {
                let next = "wait some seconds; then see in its log which kind of object it waits for (RBAC, --api-server)";
                Finding::warn(AREA, format!("{name} waits for the first full list of all objects"), next)
            }
        });
    }
    let next = "its log names the object and the field";
    findings.extend(report.degraded.iter().map(|reason| Finding::warn(AREA, reason.clone(), next)));
    findings
}

fn repairs(state: &State) -> Finding {
    if state.repairs.is_empty() {
        return Finding::ok(AREA, "its audits had nothing to repair");
    }
    let all: Vec<_> = state.repairs.iter().map(|(place, count)| format!("{place} {count}")).collect();
    let next = "find who else writes to the maps or takes programs off devices: something here runs with CAP_BPF or CAP_NET_ADMIN";
    Finding::warn(AREA, format!("its audits have repaired {}", all.join(", ")), next)
}

/// The first line of the answer to a request for `/healthz`.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

fn health(address: SocketAddr, answer: std::io::Result<String>) -> Finding {
    match answer {
        Ok(line) if line.split(' ').nth(1) == Some("200") => {
            Finding::ok(AREA, format!("http://{address}/healthz answers 200"))
        }
        Ok(line) => {
            let next = format!("curl http://{address}/healthz says what keeps it");
            Finding::fail(AREA, format!("http://{address}/healthz answers {line:?}"), next)
        }
        Err(error) => {
            let next =
                "if it serves health elsewhere (--healthz-bind-address), name the place with --healthz";
            Finding::warn(AREA, format!("http://{address}/healthz does not answer: {error}"), next)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::finding::Verdict::{Fail, Ok as Well, Warn};
    use super::*;
    use crate::observe::report::{About, FamilyReport};

    #[test]
    fn what_the_agent_says_of_itself_is_graded() {
        let family = |last_sync, healthy| FamilyReport { last_sync, earlier_sync: None, healthy };
        let about =
            About { version: env!("CARGO_PKG_VERSION").into(), source: "the API".into(), ..About::default() };
        let families = [("IPv4", family(Some(1), true)), ("IPv6", family(None, true))];
        let report = Report {
            about,
            families: families.map(|(name, family)| (name.to_owned(), family)).into(),
            degraded: vec!["one thing".into()],
            ..Report::default()
        };
        let verdicts =
            |report: &Report| of_report(report).iter().map(|finding| finding.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(&report), [Well, Well, Warn, Warn]);
        let families = BTreeMap::from([("IPv4".to_owned(), family(Some(1), false))]);
        let about = About { version: "0.0.1".into(), ..About::default() };
        let worse = Report { about, families, source_lost_since: Some(1), degraded: Vec::new(), ..report };
        assert_eq!(verdicts(&worse), [Warn, Fail, Fail]);
    }

    #[test]
    fn an_answer_other_than_200_fails_and_none_is_worth_a_look() {
        let at = "127.0.0.1:1".parse().unwrap();
        assert_eq!(health(at, Ok("HTTP/1.1 200 OK".into())).verdict, Well);
        assert_eq!(health(at, Ok("HTTP/1.1 503 Service Unavailable".into())).verdict, Fail);
        assert_eq!(health(at, Err(std::io::ErrorKind::ConnectionRefused.into())).verdict, Warn);
    }

    #[test]
    fn a_repair_is_worth_a_look() {
        let repaired = State { repairs: BTreeMap::from([("frontends4".to_owned(), 2)]), ..State::default() };
        assert_eq!(repairs(&repaired).found, "its audits have repaired frontends4 2");
        assert_eq!(repairs(&State::default()).verdict, Well);
    }
}
