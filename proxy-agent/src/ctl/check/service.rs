//! Whether Services answer from here: a connection to each frontend of a Service, opened and closed again without a word.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::finding::Finding;
use crate::ctl::reader::{Reader, Wanted};
use crate::ctl::service::{self, FrontendRow};

const AREA: &str = "services";
/// The Service that every cluster has.
pub(super) const EVERYWHERE: &str = "default/kubernetes";
/// Connections that one check opens at most, and how long it waits for each.
const MOST: usize = 32;
const PATIENCE: Duration = Duration::from_secs(2);

/// Connects to the TCP frontends of a Service.
pub(super) fn findings(reader: &Reader, asked: Option<&str>) -> anyhow::Result<Vec<Finding>> {
    let name = asked.unwrap_or(EVERYWHERE);
    let wanted = Wanted::parse(name)?;
    let rows: Vec<_> = service::list(reader)?.into_iter().filter(|row| row.is_of(&wanted)).collect();
    if rows.is_empty() {
        let next = "`proxyctl service list` shows those that are; name one with --service";
        let found = format!("{name} is not served here");
        let finding = if asked.is_some() { Finding::fail } else { Finding::warn };
        return Ok(vec![finding(AREA, found, next.to_owned())]);
    }
    let tcp: Vec<_> = rows.iter().filter(|row| row.protocol() == "TCP").take(MOST).collect();
    if tcp.is_empty() {
        return Ok(vec![Finding::ok(AREA, format!("{name} has no TCP port: no connection was tried"))]);
    }
    Ok(tcp.into_iter().map(|row| connect(name, row)).collect())
}

fn connect(name: &str, row: &FrontendRow) -> Finding {
    let begin = Instant::now();
    let result = TcpStream::connect_timeout(&row.socket(), PATIENCE).map(drop);
    judge(name, row.socket(), row.backends(), result, begin.elapsed())
}

/// A Service without backends has to refuse, and one with some to answer.
fn judge(name: &str, at: SocketAddr, backends: usize, result: io::Result<()>, took: Duration) -> Finding {
    let place = format!("{name} at {at}");
    match (result, backends) {
        (Ok(()), _) => {
            Finding::ok(AREA, format!("{place} answers after {:.1} ms", took.as_secs_f64() * 1_000.0))
        }
        (Err(error), 0) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Finding::ok(AREA, format!("{place} refuses at once, having no endpoint"))
        }
        (Err(error), 0) => {
            let next = format!("`proxyctl service get {name}` says why no endpoint is used");
            Finding::warn(AREA, format!("{place} has no endpoint: {error}"), next)
        }
        (Err(error), backends) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let next = format!(
                "see whether its pods listen; `proxyctl trace --from node --to svc/{name}` shows the way"
            );
            Finding::fail(AREA, format!("{place} refuses, though it has {backends} endpoints"), next)
        }
        (Err(error), backends) => {
            let next = format!(
                "`proxyctl trace --from node --to svc/{name}` shows the way, `proxyctl explain` the policies on it"
            );
            Finding::fail(AREA, format!("{place} with {backends} endpoints: {error}"), next)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Fail, Ok as Well, Warn};
    use super::*;

    #[test]
    fn a_refusal_is_right_where_there_is_no_endpoint_and_only_there() {
        let at = "10.96.0.1:443".parse().unwrap();
        let error = |kind: io::ErrorKind| Err(io::Error::from(kind));
        for (backends, result, verdict) in [
            (1, Ok(()), Well),
            (0, error(io::ErrorKind::ConnectionRefused), Well),
            (0, error(io::ErrorKind::TimedOut), Warn),
            (1, error(io::ErrorKind::ConnectionRefused), Fail),
            (1, error(io::ErrorKind::TimedOut), Fail),
        ] {
            let finding = judge("a/b", at, backends, result, Duration::from_millis(1));
            assert_eq!(finding.verdict, verdict, "{}", finding.found);
            assert_eq!(finding.next.is_none(), verdict == Well);
        }
    }
}
