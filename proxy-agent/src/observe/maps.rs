//! Metrics that are read from the pinned maps when somebody asks for them: they cost nothing otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use proxy_common::reason::Outcome;
use proxy_common::{ServiceId, Tally};
use proxy_model::ServiceName;

use super::denials;
use crate::kernel::pins::{self, Occupancy};
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

/// New connections by Service port: as many series as ports were used, three for each. Nothing is counted under
/// `--service-metrics=off`, and then nothing is said.
fn connections(
    encoder: &mut DescriptorEncoder<'_>,
    tallies: &BTreeMap<ServiceId, Tally>,
    names: &BTreeMap<ServiceId, ServiceName>,
) -> fmt::Result {
    if tallies.is_empty() {
        return Ok(());
    }
    let help = "New connections to a Service port by what became of them.";
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
                ("ip_family", ip_family.api_name()),
                ("result", result),
            ];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
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
        let help = "Packets and socket calls by what became of them and why.";
        let mut family = encoder.encode_descriptor("sluice_packets", help, None, MetricType::Counter)?;
        for (reason, count) in counters {
            let labels = [("outcome", outcome(reason.outcome())), ("reason", reason.text())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let record = Record::of(Path::new(RUN_ROOT), &self.bpf_root);
        connections(&mut encoder, &maps.counts.tallies().unwrap_or_default(), &record.names())?;
        let denied = maps.policy.denials.sums().unwrap_or_default();
        denials::encode(&mut encoder, &denied, &record.policy_names().unwrap_or_default())?;
        let occupancy = maps.occupancy().unwrap_or_default();
        let used = |map: &Occupancy| map.used.and_then(|used| i64::try_from(used).ok());
        let capacity = |map: &Occupancy| Some(i64::from(map.size));
        let memory = |map: &Occupancy| map.memory.and_then(|bytes| i64::try_from(bytes).ok());
        gauges(&mut encoder, "sluice_map_entries", "Entries in a map.", &occupancy, used)?;
        gauges(&mut encoder, "sluice_map_capacity", "Most entries of a map.", &occupancy, capacity)?;
        gauges(&mut encoder, "sluice_map_memory_bytes", "Memory of a map in the kernel.", &occupancy, memory)
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

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::observe::metrics::exposition;

    /// What is encoded, in place of maps.
    #[derive(Debug)]
    struct Counted(Vec<(u32, Option<&'static str>, Tally)>);

    impl Collector for Counted {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let tallies = self.0.iter().map(|(id, _, tally)| (ServiceId(*id), *tally)).collect();
            let named =
                self.0.iter().filter_map(|(id, name, _)| Some((ServiceId(*id), (*name)?.parse().unwrap())));
            connections(&mut encoder, &tallies, &named.collect())
        }
    }

    fn text(counted: Vec<(u32, Option<&'static str>, Tally)>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Counted(counted)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        exposition::prometheus(&text)
    }

    #[test]
    fn connections_are_exposed_by_port_family_and_what_became_of_them() {
        let tally = |opened, refused, dropped| Tally { opened, refused, dropped };
        let found = text(vec![
            (1, Some("shop/web:http/TCP/ipv4"), tally(7, 0, 2)),
            (2, Some("shop/web:/UDP/ipv6"), tally(0, u64::MAX, 0)),
            // Not written down yet: said at the next scrape.
            (3, None, tally(1, 1, 1)),
        ]);
        let series = |labels: &str, counts: [u64; 3]| -> String {
            let line = |(result, count)| {
                format!(
                    "sluice_service_connections_total{{namespace=\"shop\",service=\"web\",{labels},result=\"{result}\"}} {count}\n"
                )
            };
            ["opened", "refused", "dropped"].into_iter().zip(counts).map(line).collect()
        };
        let wanted = [
            "# HELP sluice_service_connections_total New connections to a Service port by what became of them.\n\
             # TYPE sluice_service_connections_total counter\n",
            &series(r#"port="http",protocol="TCP",ip_family="IPv4""#, [7, 0, 2]),
            &series(r#"port="",protocol="UDP",ip_family="IPv6""#, [0, u64::MAX, 0]),
        ];
        assert_eq!(found, wanted.concat());
        assert_eq!(text(vec![]), "", "where nothing is counted, nothing is said");
    }
}
