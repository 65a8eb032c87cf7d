//! Metrics that are read from the pinned maps when somebody asks for them: they cost nothing otherwise.

use std::fmt;
use std::path::{Path, PathBuf};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use proxy_common::reason::Outcome;
use proxy_model::ServiceName;

use crate::kernel::pins::{self, Occupancy, Pinned};
use crate::kernel::record::{RUN_ROOT, Record};

/// Reads the maps below a `--bpf-root`.
#[derive(Debug)]
pub struct PinnedMaps {
    bpf_root: PathBuf,
}

impl PinnedMaps {
    /// The maps below `bpf_root`; opened anew each time, because an agent may replace them.
    pub fn below(bpf_root: PathBuf) -> Self {
        Self { bpf_root }
    }
}

impl PinnedMaps {
    /// New connections by Service port: as many series as ports were used, three for each. Nothing is counted under
    /// `--service-metrics=off`.
    fn connections(&self, encoder: &mut DescriptorEncoder<'_>, maps: &Pinned) -> fmt::Result {
        let tallies = maps.counts.tallies().unwrap_or_default();
        if tallies.is_empty() {
            return Ok(());
        }
        let names = Record::of(Path::new(RUN_ROOT), &self.bpf_root).names();
        let help = "New connections to a Service port by what became of them";
        let mut family =
            encoder.encode_descriptor("sluice_service_connections", help, None, MetricType::Counter)?;
        let named = tallies.iter().filter_map(|(id, tally)| Some((names.get(id)?, tally)));
        for (ServiceName { service, port, proto, family: ip_family }, tally) in named {
            let proto = proto.to_string();
            for (result, count) in
                [("opened", tally.opened), ("refused", tally.refused), ("dropped", tally.dropped)]
            {
                let labels = [
                    ("namespace", &*service.namespace),
                    ("service", &service.name),
                    ("port", port),
                    ("protocol", &proto),
                    ("ip_family", ip_family.name()),
                    ("result", result),
                ];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Collector for PinnedMaps {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // A scrape that cannot read the maps still has everything else to say.
        let maps = match pins::open(&self.bpf_root) {
            Ok(maps) => maps,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the maps cannot be read for metrics"
                );
                return Ok(());
            }
        };
        let counters = maps.counters().unwrap_or_default();
        let help = "Packets and socket calls by what became of them and why";
        let mut family = encoder.encode_descriptor("sluice_packets", help, None, MetricType::Counter)?;
        for (reason, count) in counters {
            let labels = [("outcome", outcome(reason.outcome())), ("reason", reason.text())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        self.connections(&mut encoder, &maps)?;
        let occupancy = maps.occupancy().unwrap_or_default();
        let used = |map: &Occupancy| map.used.and_then(|used| i64::try_from(used).ok());
        let capacity = |map: &Occupancy| Some(i64::from(map.size));
        let memory = |map: &Occupancy| map.memory.and_then(|bytes| i64::try_from(bytes).ok());
        gauges(&mut encoder, "sluice_map_entries", "Entries in a map", &occupancy, used)?;
        gauges(&mut encoder, "sluice_map_capacity", "Most entries of a map", &occupancy, capacity)?;
        gauges(&mut encoder, "sluice_map_memory_bytes", "Memory of a map in the kernel", &occupancy, memory)
    }
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    maps: &[Occupancy],
    value: fn(&Occupancy) -> Option<i64>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for map in maps {
        if let Some(value) = value(map) {
            ConstGauge::new(value).encode(family.encode_family(&[("map", map.map)])?)?;
        }
    }
    Ok(())
}

/// One word for metrics and tables.
pub const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Translate => "translate",
        Outcome::Reject => "reject",
        Outcome::Drop => "drop",
    }
}
