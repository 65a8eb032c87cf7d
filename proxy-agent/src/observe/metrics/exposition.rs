//! From the OpenMetrics text that the library writes to the Prometheus text that kube-proxy serves: scrapers and tests
//! that were written for the one read no other.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

use std::collections::BTreeSet;

/// The media type of the text.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The same metrics in the Prometheus text format: a counter's type is said of the name that its samples have, and a
/// whole bound of a bucket is written without a fraction.
pub(crate) fn prometheus(open_metrics: &str) -> String {
    let of_counter = |line: &str| Some(line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?.to_owned());
    let counters: BTreeSet<String> = open_metrics.lines().filter_map(of_counter).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        match description(line).filter(|(_, name, _)| counters.contains(*name)) {
            Some((what, name, rest)) => text.push_str(&format!("# {what} {name}_total {rest}")),
            None => text.push_str(&whole_bound(line)),
        }
        text.push('\n');
    }
    text
}

/// `HELP` or `TYPE`, the name, and what is said of it.
fn description(line: &str) -> Option<(&str, &str, &str)> {
    let mut words = line.strip_prefix("# ")?.splitn(3, ' ');
    Some((words.next()?, words.next()?, words.next()?))
}

fn whole_bound(line: &str) -> std::borrow::Cow<'_, str> {
    let is_bucket = !line.starts_with('#') && line.contains("_bucket{");
    if is_bucket { line.replace(".0\"", "\"").into() } else { line.into() }
}

#[cfg(test)]
mod tests {
    use super::prometheus;

    #[test]
    fn counters_are_described_by_the_name_of_their_samples_and_whole_bounds_are_whole() {
        let open = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{x=\"1.0\"} 3\n# HELP c C.\n# TYPE c histogram\n\
                    # UNIT c seconds\nc_bucket{le=\"0.5\"} 1\nc_bucket{le=\"10.0\"} 2\nc_bucket{le=\"+Inf\"} 2\n# EOF\n";
        let plain = "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{x=\"1.0\"} 3\n# HELP c C.\n\
                     # TYPE c histogram\nc_bucket{le=\"0.5\"} 1\nc_bucket{le=\"10\"} 2\nc_bucket{le=\"+Inf\"} 2\n";
        assert_eq!(prometheus(open), plain);
    }
}
