//! Tools of others: how each is started and what it prints. Both ends run where our own load generator runs.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use ::tests::contest::driver::measured;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sluice_bench::Version;
use sluice_lab::Place;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Round trips.
    Sockperf,
    /// Streams.
    Iperf3,
}

impl Tool {
    pub(crate) const ALL: [Self; 2] = [Self::Sockperf, Self::Iperf3];

    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Sockperf => 8_081,
            Self::Iperf3 => 8_082,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sockperf => "sockperf",
            Self::Iperf3 => "iperf3",
        }
    }

    /// It runs on the processor on which ours run, before everything else.
    fn command(self, place: &Place, arguments: &[String]) -> Result<Command> {
        let mut command = place.command("nice")?;
        command.args(["-n", "-20", "taskset", "-c", &measured().to_string(), self.name()]).args(arguments);
        command.stdin(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(command)
    }

    /// Round trips, or bytes, in a second.
    pub(crate) fn measure(self, client: &Place, at: SocketAddr) -> Result<f64> {
        let (ip, port) = (at.ip(), at.port());
        let line = match self {
            Self::Sockperf => format!("ping-pong --tcp -i {ip} -p {port} -m 64 -t 1 --full-rtt"),
            Self::Iperf3 => format!("-c {ip} -p {port} -t 1 -l 128K -J"),
        };
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let output = self.command(client, &arguments)?.output().with_context(|| self.missing())?;
        let said = String::from_utf8_lossy(&output.stdout);
        let found = match self {
            Self::Sockperf => trips(&said),
            Self::Iperf3 => bytes(&said),
        };
        found.with_context(|| format!("what {} said: {said}", self.name()))
    }

    fn missing(self) -> String {
        format!("{0} cannot be run (package {0})", self.name())
    }
}

/// `[Valid Duration] RunTime=0.550 sec; SentMessages=12345; ReceivedMessages=12345`.
fn trips(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.contains("[Valid Duration]"))?;
    let number = |name: &str| -> Option<f64> {
        let (_, rest) = line.split_once(name)?;
        rest.split([' ', ';']).next()?.parse().ok()
    };
    Some(number("ReceivedMessages=")? / number("RunTime=")?)
}

fn bytes(said: &str) -> Option<f64> {
    let report: Value = serde_json::from_str(said).ok()?;
    report["end"]["sum_received"]["bits_per_second"].as_f64().map(|bits| bits / 8.0)
}

/// A server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(tool: Tool, place: &Place) -> Result<Self> {
        let (ip, port) = (place.ips.first().context("a place without address")?, tool.port());
        let line = match tool {
            Tool::Sockperf => format!("server --tcp -i {ip} -p {port}"),
            Tool::Iperf3 => format!("-s -B {ip} -p {port}"),
        };
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut command = tool.command(place, &arguments)?;
        let mut child = command.stdout(Stdio::null()).spawn().with_context(|| tool.missing())?;
        ensure!(child.try_wait()?.is_none(), "{} has ended", tool.name());
        Ok(Self(child))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a process that is gone. `nice` and `taskset` have become the tool: it is the same process.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Of the tools.
pub(crate) fn versions() -> [Version; 2] {
    [Version::of("sockperf", &["--version"]), Version::of("iperf3", &["--version"])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_print_is_understood() {
        let said = "sockperf: [Total Run] RunTime=1.000 sec; Warm up time=400 msec; SentMessages=9; ReceivedMessages=8\n\
            sockperf: [Valid Duration] RunTime=0.500 sec; SentMessages=1000; ReceivedMessages=1000\n";
        assert_eq!(trips(said), Some(2_000.0));
        assert_eq!(trips("sockperf: ERROR"), None);
        assert_eq!(bytes(r#"{"end": {"sum_received": {"bits_per_second": 8000.0}}}"#), Some(1_000.0));
        assert_eq!(bytes("iperf3: error"), None);
    }
}
