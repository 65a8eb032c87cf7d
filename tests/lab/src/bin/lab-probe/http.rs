//! HTTP GET, as much of it as health checks need: one request, `Connection: close`, a body up to the end of the stream.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sluice_lab::wire::{Failure, HttpAnswer};

/// A health answer is some hundred bytes, `/metrics` some hundred thousand.
const LONGEST_ANSWER: u64 = 8 << 20;

/// Fetches `http://address:port/path`; the address is numeric.
pub(crate) fn get(url: &str, timeout: Duration) -> Result<HttpAnswer, Failure> {
    let rest =
        url.strip_prefix("http://").ok_or_else(|| Failure::Errno(format!("not an http URL: {url}")))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address: SocketAddr = match host.parse() {
        Ok(address) => address,
        Err(_) => {
            format!("{host}:80").parse().map_err(|_| Failure::Errno(format!("not an address: {host}")))?
        }
    };
    let text = fetch(address, host, path, timeout).map_err(|error| {
        // A socket time-out reads as "would block".
        let late = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
        if late { Failure::Timeout } else { Failure::from(&error) }
    })?;
    parse(&text).ok_or(Failure::Garbled)
}

fn fetch(address: SocketAddr, host: &str, path: &str, timeout: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn parse(text: &str) -> Option<HttpAnswer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.get("transfer-encoding").is_some_and(|encoding| encoding.contains("chunked"));
    let body = if chunked { unchunk(body)? } else { body.to_owned() };
    Some(HttpAnswer { status, headers, body })
}

fn unchunk(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let text =
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nX-A:  b \r\n\r\n{}\n";
        let headers = [("content-type", "application/json"), ("x-a", "b")];
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(parse(text), Some(HttpAnswer { status: 503, headers, body: "{}\n".to_owned() }));
    }

    #[test]
    fn a_chunked_body_is_put_together() {
        assert_eq!(unchunk("3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").as_deref(), Some("abcde"));
        assert_eq!(unchunk("9\r\nabc"), None);
    }
}
