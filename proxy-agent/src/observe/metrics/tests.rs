//! A scrape, compared with what kube-proxy exposes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::UNIX_EPOCH;

use super::*;

/// Name → type, labels and number of buckets, from upstream's source
/// (<https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/proxy/metrics/metrics.go>), without what counts the
/// rules of iptables and nftables.
const KUBE_PROXY: [(&str, &str, &[&str], usize); 15] = [
    ("kubeproxy_conntrack_reconciler_deleted_entries_total", "counter", &["ip_family"], 0),
    ("kubeproxy_conntrack_reconciler_sync_duration_seconds", "histogram", &["ip_family"], 15),
    ("kubeproxy_network_programming_duration_seconds", "histogram", &["ip_family"], 80),
    ("kubeproxy_proxy_healthz_total", "counter", &["code"], 0),
    ("kubeproxy_proxy_livez_total", "counter", &["code"], 0),
    ("kubeproxy_sync_full_proxy_rules_duration_seconds", "histogram", &["ip_family"], 15),
    ("kubeproxy_sync_partial_proxy_rules_duration_seconds", "histogram", &["ip_family"], 15),
    ("kubeproxy_sync_proxy_rules_duration_seconds", "histogram", &["ip_family"], 15),
    ("kubeproxy_sync_proxy_rules_endpoint_changes_pending", "gauge", &[], 0),
    ("kubeproxy_sync_proxy_rules_endpoint_changes_total", "counter", &[], 0),
    ("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "gauge", &["ip_family"], 0),
    ("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "gauge", &["ip_family"], 0),
    ("kubeproxy_sync_proxy_rules_no_local_endpoints_total", "gauge", &["ip_family", "traffic_policy"], 0),
    ("kubeproxy_sync_proxy_rules_service_changes_pending", "gauge", &[], 0),
    ("kubeproxy_sync_proxy_rules_service_changes_total", "counter", &[], 0),
];

/// Every metric with a value for each of its labels.
fn exercised() -> Metrics {
    let metrics = Metrics::new(PinnedMaps::below("/nonexistent".into()));
    let outcome = Outcome::default();
    for family in IpFamily::ALL {
        let took = Duration::from_millis(3);
        metrics.synced(&[family], took, Extent::Full, &outcome);
        metrics.synced(&[family], took, Extent::Partial, &outcome);
        metrics.agreed(family, UNIX_EPOCH, [UNIX_EPOCH].into_iter());
        metrics.queued(family, UNIX_EPOCH + Duration::from_secs(5));
        metrics.let_go(family, took, 2);
        metrics.nothing_here(family, NothingHere { internal: 1, external: 2 });
    }
    for kind in Kind::ALL {
        metrics.changed(kind);
    }
    metrics.healthz_answered(503);
    metrics.livez_answered(200);
    metrics
}

/// What a scrape says of one metric.
#[derive(Default, PartialEq, Eq, Debug)]
struct Exposed {
    kind: String,
    labels: BTreeSet<String>,
    /// Bounds, as written.
    bounds: BTreeSet<String>,
}

fn exposed(text: &str) -> BTreeMap<String, Exposed> {
    let mut all: BTreeMap<String, Exposed> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        let words: Vec<_> = line.split(' ').collect();
        all.entry(words[2].to_owned()).or_default().kind = words[3].to_owned();
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = of_histogram.filter(|name| all.contains_key(*name)).unwrap_or(name);
        let metric = all.get_mut(name).unwrap_or_else(|| panic!("{name} has no type"));
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').unwrap();
            match label {
                "le" => metric.bounds.insert(value.trim_matches('"').to_owned()),
                label => metric.labels.insert(label.to_owned()),
            };
        }
    }
    all
}

#[test]
fn items_134_to_141_the_names_types_labels_and_buckets_are_those_of_kube_proxy() {
    let text = exercised().text(&Snapshot::default(), SystemTime::now());
    let mut found = exposed(&text);
    found.retain(|name, _| name.starts_with("kubeproxy_"));
    let seconds = |bounds: &[f64]| bounds.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let doubling: Vec<f64> = (0..15).map(|power| 0.001 * f64::powi(2.0, power)).collect();
    let mut programming: Vec<f64> = vec![0.25, 0.5];
    programming.extend((1..=59).chain((60..=115).step_by(5)).chain((120..=300).step_by(30)).map(f64::from));
    let expected: BTreeMap<String, Exposed> = KUBE_PROXY
        .into_iter()
        .map(|(name, kind, labels, buckets)| {
            let mut bounds = match buckets {
                0 => BTreeSet::new(),
                15 => seconds(&doubling),
                _ => seconds(&programming),
            };
            assert_eq!(bounds.len(), buckets, "{name}");
            if buckets > 0 {
                bounds.insert("+Inf".into());
            }
            let labels = labels.iter().map(ToString::to_string).collect();
            (name.to_owned(), Exposed { kind: kind.into(), labels, bounds })
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_scrape_names_what_dashboards_look_for_even_without_maps() {
    let text = exercised().text(&Snapshot::default(), SystemTime::now());
    for line in [
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv6\"} 5.0",
        "kubeproxy_sync_proxy_rules_service_changes_total 1",
        "kubeproxy_sync_proxy_rules_service_changes_pending 1",
        "kubeproxy_proxy_healthz_total{code=\"503\"} 1",
        "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} 1",
        "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"} 2",
        "sluice_object_problems{kind=\"Service\"} 0",
        "sluice_ready 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
