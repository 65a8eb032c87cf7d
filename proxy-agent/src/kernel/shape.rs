//! Whether a map of the kernel is the one that the table of maps describes. aya opens whatever is pinned and
//! trusts the object's own definition, so a pin of another version would be misread without a word.

use std::{fmt, io, os::fd::BorrowedFd};

use aya_obj::generated::bpf_map_type as kind;
use proxy_common::maps::{MapFamily, MapKind, MapSpec};

use super::{
    settings::{Families, Sizes},
    sys,
};

const NO_PREALLOC: u32 = 1;
const MMAPABLE: u32 = 1 << 10;
/// Flags that say what a map is, and not how a descriptor of it was opened.
const OF_MAP: u32 = NO_PREALLOC | MMAPABLE;

/// What the kernel knows of a map, or should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// `bpf_map_type`.
    pub kind: u32,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// Most entries.
    pub entries: u32,
    /// `map_flags`.
    pub flags: u32,
}

/// In which respect a map differs from its description.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Difference {
    /// Only the number of entries: the content can be copied.
    Size {
        /// Entries of the pinned map.
        found: u32,
        /// Entries it should have.
        wanted: u32,
    },
    /// Kind, key, value or flags: the content means something else.
    Layout {
        /// What is pinned.
        found: Shape,
        /// What should be.
        wanted: Shape,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { found, wanted } => write!(f, "{found} entries instead of {wanted}"),
            Self::Layout { found, wanted } => write!(f, "{found:?} instead of {wanted:?}"),
        }
    }
}

/// Entries that a map gets under these settings.
#[must_use]
pub fn entries(spec: &MapSpec, families: Families, sizes: Sizes) -> u32 {
    let served = match spec.family {
        MapFamily::Ipv4 => families.ipv4(),
        MapFamily::Ipv6 => families.ipv6(),
        MapFamily::Both => true,
    };
    match (served, spec.name) {
        (_, _) if spec.kind == MapKind::SocketStorage => 0,
        (false, _) => 1,
        (true, "frontends4" | "frontends6" | "tallies") => sizes.frontends,
        (true, "backends4" | "backends6") => sizes.backends,
        (true, "flows4" | "flows6") => sizes.flows,
        (true, "peers4" | "peers6") => sizes.peers,
        (true, "verdicts") => sizes.verdicts,
        (true, "tunnels4" | "tunnels6") => sizes.tunnels,
        (true, _) => spec.entries,
    }
}

impl Shape {
    /// What the table says, with that many entries.
    #[must_use]
    pub fn of_spec(spec: &MapSpec, entries: u32) -> Self {
        let (kind, flags) = match spec.kind {
            MapKind::Hash => (kind::BPF_MAP_TYPE_HASH, 0),
            MapKind::SparseHash => (kind::BPF_MAP_TYPE_HASH, NO_PREALLOC),
            MapKind::LruHash => (kind::BPF_MAP_TYPE_LRU_HASH, 0),
            MapKind::PrefixTrie => (kind::BPF_MAP_TYPE_LPM_TRIE, NO_PREALLOC),
            MapKind::Array => (kind::BPF_MAP_TYPE_ARRAY, 0),
            MapKind::MappedArray => (kind::BPF_MAP_TYPE_ARRAY, MMAPABLE),
            MapKind::PerCpuArray => (kind::BPF_MAP_TYPE_PERCPU_ARRAY, 0),
            MapKind::PerCpuHash => (kind::BPF_MAP_TYPE_PERCPU_HASH, NO_PREALLOC),
            MapKind::SocketStorage => (kind::BPF_MAP_TYPE_SK_STORAGE, NO_PREALLOC),
            MapKind::Ring => (kind::BPF_MAP_TYPE_RINGBUF, 0),
        };
        // The kernel knows nothing of what lies in a ring.
        let is_ring = matches!(spec.kind, MapKind::Ring);
        let (key, value) = if is_ring { (0, 0) } else { (spec.key.size as u32, spec.value.size as u32) };
        Self { kind: kind as u32, key, value, entries, flags }
    }

    /// What the kernel says.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn of_map(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let info = sys::map_info(fd)?;
        Ok(Self {
            kind: info.type_,
            key: info.key_size,
            value: info.value_size,
            entries: info.max_entries,
            flags: info.map_flags & OF_MAP,
        })
    }

    /// How a map of this shape falls short of the one that is wanted.
    #[must_use]
    pub fn difference(self, wanted: Self) -> Option<Difference> {
        if (Self { entries: wanted.entries, ..self }) != wanted {
            return Some(Difference::Layout { found: self, wanted });
        }
        (self.entries != wanted.entries)
            .then_some(Difference::Size { found: self.entries, wanted: wanted.entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_common::maps::{SPECS, spec};

    #[test]
    fn a_family_that_is_not_served_costs_one_entry_a_map() {
        let of = |name, families| entries(spec(name).unwrap(), families, Sizes::DEFAULT);
        assert_eq!(of("frontends6", Families::Ipv4), 1);
        assert_eq!(of("frontends4", Families::Ipv4), Sizes::DEFAULT.frontends);
        assert_eq!(of("affinity", Families::Ipv6), spec("affinity").unwrap().entries);
        assert_eq!(of("connected", Families::Ipv6), 0);
    }

    #[test]
    fn another_size_can_be_copied_and_another_layout_cannot() {
        for one in SPECS {
            let wanted = Shape::of_spec(one, 100);
            assert_eq!(wanted.difference(wanted), None);
            let smaller = Shape { entries: 64, ..wanted };
            assert_eq!(smaller.difference(wanted), Some(Difference::Size { found: 64, wanted: 100 }));
            let wider = Shape { value: wanted.value + 4, entries: 64, ..wanted };
            assert_eq!(wider.difference(wanted), Some(Difference::Layout { found: wider, wanted }));
        }
    }
}
