//! The maps as the kernel has them.

use proxy_common::maps::{self, MapKind};
use serde::Serialize;

use super::output::Row;
use super::reader::Reader;

/// One map.
#[derive(Serialize, Debug)]
pub(super) struct MapRow {
    name: &'static str,
    id: u32,
    kind: String,
    /// Entries in it; absent where counting means nothing.
    used: Option<usize>,
    size: u32,
    memory: Option<u64>,
    doc: &'static str,
}

impl Row for MapRow {
    const COLUMNS: &'static [&'static str] = &["MAP", "ID", "KIND", "USED", "SIZE", "MEMORY", "HOLDS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.into(),
            self.id.to_string(),
            self.kind.clone(),
            self.used.map_or("-".into(), |used| used.to_string()),
            self.size.to_string(),
            self.memory.map_or("-".into(), bytes),
            self.doc.into(),
        ]
    }
}

/// Of its room: beyond, somebody should know.
pub(super) const ALMOST_FULL: f64 = 0.9;

impl MapRow {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn memory(&self) -> Option<u64> {
        self.memory
    }

    /// How full it is, from 0 to 1; `None` where counting means nothing, or what is new takes the room of what is old.
    pub(super) fn share(&self) -> Option<f64> {
        let makes_room = maps::spec(self.name).is_some_and(|spec| spec.kind == MapKind::LruHash);
        let used = self.used.filter(|_| !makes_room)?;
        Some(used as f64 / f64::from(self.size.max(1)))
    }
}

/// Every map, in the order of their table.
pub(super) fn list(reader: &Reader) -> anyhow::Result<Vec<MapRow>> {
    let rows = reader.pinned.occupancy()?.into_iter().filter_map(|found| {
        let spec = maps::spec(found.map)?;
        Some(MapRow {
            name: spec.name,
            id: found.id,
            kind: format!("{:?}", spec.kind),
            used: found.used,
            size: found.size,
            memory: found.memory,
            doc: spec.doc,
        })
    });
    Ok(rows.collect())
}

/// A number of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut scaled = count as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::{MapRow, bytes};

    #[test]
    fn a_map_that_makes_room_by_itself_is_never_nearly_full() {
        let full = |name| MapRow {
            name,
            id: 7,
            kind: String::new(),
            used: Some(64),
            size: 64,
            memory: None,
            doc: "",
        };
        let shares = ["flows4", "halfopen4", "tunnels6", "affinity"].map(|name| full(name).share());
        assert_eq!(shares, [Some(1.0), None, None, None]);
    }

    #[test]
    fn bytes_are_scaled() {
        assert_eq!(
            [0, 1023, 1536, 5 << 20, 3 << 40].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3072.0 GiB"]
        );
    }
}
