//! Namespace → fact: its labels.

use k8s_openapi::api::core::v1::Namespace;
use proxy_model::fact;

use super::Report;

pub(super) fn parse(object: &Namespace, report: &Report<'_>) -> fact::Namespace {
    fact::Namespace {
        name: report.object_key().name,
        labels: labels(object.metadata.labels.iter().flatten()),
    }
}

/// Labels as names.
pub(super) fn labels<'a>(
    labels: impl Iterator<Item = (&'a String, &'a String)>,
) -> std::collections::BTreeMap<fact::Name, fact::Name> {
    labels.map(|(label, value)| (label.as_str().into(), value.as_str().into())).collect()
}
