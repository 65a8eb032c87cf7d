//! Scales the Service up and down while a client goes on connecting: not one connection may fail.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sluice_lab::{Lab, Load, Probe, Protocol};

use super::requests::until;
use sluice_lab::wire::LoadReport;

/// Times that the Service is scaled down and up again.
const ROUNDS: u32 = 5;
/// Connections at any moment.
const CLIENTS: u32 = 4;

/// New connections without an end from a pod of node-1.
pub(super) fn load(lab: &Lab) -> Result<Load> {
    let mut probe = Probe::new(Protocol::Tcp, "10.96.0.10:80".parse()?);
    probe.concurrency = CLIENTS;
    lab.pod("client-1")?.load("demo", &probe)
}

/// Takes backends away and gives them back under load.
pub(super) fn under_load(lab: &Lab) -> Result<()> {
    let slice = slice(lab)?;
    let one = with_endpoints(&slice, 1)?;
    let client = lab.pod("client-2")?;
    let to = "10.96.0.10:80".parse()?;
    let load = load(lab)?;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for (object, backends) in [(&one, 1), (&slice, 3)] {
            lab.manifests().put(object)?;
            until(&client, Protocol::Tcp, to, |tally| tally.answered.len() == backends)?;
        }
    }
    let report = load.stop()?;
    println!(
        "  scaled from 3 backends to 1 and back {ROUNDS} times in {:.1?}: {}",
        start.elapsed(),
        summary(&report)?
    );
    Ok(())
}

/// One line about a load; an error if any connection failed.
pub(super) fn summary(report: &LoadReport) -> Result<String> {
    let (answers, failures) = (report.tally.answers(), report.tally.failures());
    if failures > 0 || answers == 0 {
        bail!("{failures} connections failed and {answers} were answered: {:?}", report.first_failures);
    }
    let slowest = Duration::from_micros(u64::try_from(report.slowest.as_micros()).unwrap_or(u64::MAX));
    Ok(format!("{answers} connections meanwhile, 0 failed, slowest {slowest:.1?}"))
}

fn slice(lab: &Lab) -> Result<Value> {
    let path = lab.manifests().path().join("endpointslice.demo.web-ipv4.json");
    let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
}

fn with_endpoints(slice: &Value, count: usize) -> Result<Value> {
    let mut slice = slice.clone();
    let endpoints = slice.get_mut("endpoints").and_then(Value::as_array_mut);
    endpoints.context("the slice has no endpoints")?.truncate(count);
    Ok(slice)
}
