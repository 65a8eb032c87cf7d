//! How the maps of one version are laid out, told to agents of others: written beside the maps, in a map, because bpffs
//! holds nothing else, and so gone when they are. Knows nothing of what the fields mean.

use std::{collections::BTreeMap, fs, io, os::fd::AsFd};

use aya_obj::generated::bpf_map_type;
use proxy_common::{
    layout::Layout,
    maps::{LAYOUT_VERSION, MapSpec, SPECS},
};
use serde::{Deserialize, Serialize};

use crate::kernel::{
    error::Error,
    pins::Pins,
    remedy::Asked,
    sys::{self, Access, RawMap, Update},
};

/// The map that they are written in, for people.
const NAME: &str = "abi";

/// All maps of one version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Abi {
    pub(super) version: u32,
    pub(super) maps: BTreeMap<String, MapAbi>,
}

/// One map.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct MapAbi {
    pub(super) kind: String,
    pub(super) key: TypeAbi,
    pub(super) value: TypeAbi,
}

/// Keys or values of a map.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct TypeAbi {
    pub(super) name: String,
    pub(super) size: usize,
    /// None of a plain number.
    pub(super) fields: Vec<FieldAbi>,
}

/// A field; bytes from the start and bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct FieldAbi {
    pub(super) name: String,
    pub(super) offset: usize,
    pub(super) size: usize,
}

impl Abi {
    /// That of this version.
    pub(super) fn own() -> Self {
        let map = |spec: &MapSpec| (spec.name.to_owned(), MapAbi::of(spec));
        Self { version: LAYOUT_VERSION, maps: SPECS.iter().map(map).collect() }
    }

    /// Writes it down, unless it is written down already.
    ///
    /// # Errors
    /// [`Error::NewMap`]; [`Error::Path`] where an older one cannot be removed.
    pub(super) fn write(&self, pins: &Pins) -> Result<(), Error> {
        let path = pins.abi();
        if Self::read(pins).is_ok_and(|found| found == *self) {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::path("remove", path)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let make = || -> io::Result<RawMap> {
            let mut text = serde_json::to_vec(self)?;
            text.resize(text.len().next_multiple_of(8), b' ');
            let map = RawMap::create(bpf_map_type::BPF_MAP_TYPE_ARRAY, size_of::<u32>(), text.len(), 1)?;
            map.update(&0_u32.to_ne_bytes(), &text, Update::Any)?;
            Ok(map)
        };
        let failed = |verb, asked| move |source| Error::NewMap { verb, map: NAME, asked, source };
        let map = make().map_err(failed("make", Asked::NewMap(NAME)))?;
        sys::pin(map.as_fd(), &path).map_err(failed("pin", Asked::File))
    }

    /// What the other version has written down; or why that cannot be read.
    pub(super) fn read(pins: &Pins) -> Result<Self, String> {
        let read = || -> io::Result<Vec<u8>> {
            let map = RawMap::new(sys::open_pin(&pins.abi(), Access::Read)?, 1)?;
            let mut text = vec![0; map.entry().value];
            map.lookup(&0_u32.to_ne_bytes(), &mut text)?;
            Ok(text)
        };
        let text = read().map_err(|error| format!("{}: {error}", pins.abi().display()))?;
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", pins.abi().display()))
    }
}

impl MapAbi {
    pub(super) fn of(spec: &MapSpec) -> Self {
        Self {
            kind: format!("{:?}", spec.kind),
            key: TypeAbi::of(&spec.key),
            value: TypeAbi::of(&spec.value),
        }
    }
}

impl TypeAbi {
    fn of(layout: &Layout) -> Self {
        let field = |field: &proxy_common::layout::Field| FieldAbi {
            name: field.name.to_owned(),
            offset: field.offset,
            size: field.size,
        };
        Self {
            name: layout.name.to_owned(),
            size: layout.size,
            fields: layout.fields.iter().map(field).collect(),
        }
    }
}
