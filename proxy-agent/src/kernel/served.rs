//! Which families earlier runs have left frontends of, whatever the layout of their maps. Knows not what is to be served.

use std::{io, path::Path};

use super::{
    family::MapFamily,
    pins::Pins,
    settings::Families,
    sys::{Access, Cursor, RawMap},
};
use proxy_common::{V4, V6};

/// Entries that are looked at together.
const SOME: usize = 256;

/// The families whose maps below `root` hold frontends; `None` if there are none, or they cannot be read.
#[must_use]
pub fn families(root: &Path) -> Option<Families> {
    let all = Pins::all(root);
    let has = |name| all.iter().any(|pins| pins.open(name, Access::Read).is_ok_and(|map| has_entry(&map)));
    match (has(V4::NAMES.frontends), has(V6::NAMES.frontends)) {
        (true, true) => Some(Families::Dual),
        (true, false) => Some(Families::Ipv4),
        (false, true) => Some(Families::Ipv6),
        (false, false) => None,
    }
}

fn has_entry(map: &RawMap) -> bool {
    let (mut keys, mut values) = (vec![0; SOME * map.entry().key], vec![0; SOME * map.entry().value]);
    let mut cursor = Cursor::default();
    while !cursor.done {
        match map.scan(&mut cursor, &mut keys, &mut values) {
            Ok(0) => {}
            Ok(_) => return true,
            // One bucket holds more than these.
            Err(error) => return error.kind() == io::ErrorKind::StorageFull,
        }
    }
    false
}
