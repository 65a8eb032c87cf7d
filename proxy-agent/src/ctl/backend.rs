//! Backends: what the segments of all frontends hold, each endpoint once.

use std::collections::{BTreeMap, BTreeSet};

use proxy_common::{V4, V6};
use serde::Serialize;

use super::output::Row;
use super::reader::{Only, Reader};
use super::service::{Endpoint, frontends};
use crate::kernel::{MapFamily, Maps};

/// One endpoint and the Services that send connections to it.
#[derive(Serialize, Debug)]
pub(super) struct BackendRow {
    #[serde(flatten)]
    endpoint: Endpoint,
    services: BTreeSet<String>,
}

impl Row for BackendRow {
    const COLUMNS: &'static [&'static str] = &["BACKEND", "PLACE", "STATE", "SERVICES"];

    fn cells(&self) -> Vec<String> {
        let services: Vec<&str> = self.services.iter().map(String::as_str).collect();
        let state = if self.endpoint.terminating { "terminating" } else { "ready" };
        vec![self.endpoint.text(), self.endpoint.place.into(), state.into(), services.join(" ")]
    }
}

/// Every endpoint in use, sorted by address.
pub(super) fn list(reader: &Reader, service: Option<&str>) -> anyhow::Result<Vec<BackendRow>> {
    let only = reader.only(service)?;
    let mut found: BTreeMap<Endpoint, BTreeSet<String>> = BTreeMap::new();
    collect::<V4>(reader, &reader.pinned.v4, &only, &mut found)?;
    collect::<V6>(reader, &reader.pinned.v6, &only, &mut found)?;
    Ok(found.into_iter().map(|(endpoint, services)| BackendRow { endpoint, services }).collect())
}

fn collect<F: MapFamily>(
    reader: &Reader,
    maps: &Maps<F>,
    only: &Only<'_>,
    found: &mut BTreeMap<Endpoint, BTreeSet<String>>,
) -> anyhow::Result<()> {
    for (_, value) in frontends(maps)?.into_iter().filter(|(_, value)| only.takes(value.service)) {
        for segment in [value.cluster, value.local] {
            for backend in maps.members(segment)? {
                found.entry(backend.into()).or_default().insert(reader.label(value.service));
            }
        }
    }
    Ok(())
}
