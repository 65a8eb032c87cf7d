//! The object itself: its maps are those of the table, and its programs are cheap to verify.

use std::collections::BTreeMap;

use aya_obj::{Object, generated::bpf_map_type as kind};
use proxy_common::maps::{MapKind, SPECS};
use tests::object::OBJECT;

use crate::room;

/// What the table says of a map and what the object does: kind, bytes of a key, bytes of a value, entries, flags.
type Shape = (u32, u32, u32, u32, u32);

fn flags_and_kind(kind: MapKind) -> (u32, u32) {
    use aya_obj::generated::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
    match kind {
        MapKind::Hash => (kind::BPF_MAP_TYPE_HASH as u32, 0),
        MapKind::SparseHash => (kind::BPF_MAP_TYPE_HASH as u32, BPF_F_NO_PREALLOC),
        MapKind::PrefixTrie => (kind::BPF_MAP_TYPE_LPM_TRIE as u32, BPF_F_NO_PREALLOC),
        MapKind::LruHash => (kind::BPF_MAP_TYPE_LRU_HASH as u32, 0),
        MapKind::Array => (kind::BPF_MAP_TYPE_ARRAY as u32, 0),
        MapKind::MappedArray => (kind::BPF_MAP_TYPE_ARRAY as u32, BPF_F_MMAPABLE),
        MapKind::PerCpuArray => (kind::BPF_MAP_TYPE_PERCPU_ARRAY as u32, 0),
        MapKind::PerCpuHash => (kind::BPF_MAP_TYPE_PERCPU_HASH as u32, BPF_F_NO_PREALLOC),
        MapKind::Ring => (kind::BPF_MAP_TYPE_RINGBUF as u32, 0),
        MapKind::SocketStorage => (kind::BPF_MAP_TYPE_SK_STORAGE as u32, BPF_F_NO_PREALLOC),
    }
}

#[test]
fn the_maps_of_the_object_are_those_of_the_table() {
    let object = Object::parse(OBJECT).expect("the object can be parsed");
    let found: BTreeMap<&str, Shape> = object
        .maps
        .iter()
        // It holds a program, and each generation of programs has one of its own.
        .filter(|(name, _)| !name.starts_with('.') && *name != "onward")
        .map(|(name, map)| {
            let shape =
                (map.map_type(), map.key_size(), map.value_size(), map.max_entries(), map.map_flags());
            (name.as_str(), shape)
        })
        .collect();
    let described: BTreeMap<&str, Shape> = SPECS
        .iter()
        .map(|spec| {
            let (kind, flags) = flags_and_kind(spec.kind);
            let sizes = if spec.kind == MapKind::Ring { [0, 0] } else { [spec.key.size, spec.value.size] };
            let [key, value] = sizes.map(|size| u32::try_from(size).expect("small"));
            (spec.name, (kind, key, value, spec.entries, flags))
        })
        .collect();
    assert_eq!(found, described);
}

#[test]
fn every_program_of_the_socket_road_is_cheap_to_verify() {
    room::run(|room| {
        let verified = room.verified();
        println!("verified instructions: {verified:#?}");
        assert_eq!(verified.keys().map(String::as_str).collect::<Vec<_>>(), sorted(room::PROGRAMS));
        // A tenth of a per mille of what the kernel allows: a loop that the verifier walks would show.
        assert!(verified.values().all(|count| *count < 10_000), "{verified:?}");
    });
}

fn sorted<const N: usize>(mut names: [&str; N]) -> Vec<&str> {
    names.sort_unstable();
    names.to_vec()
}
