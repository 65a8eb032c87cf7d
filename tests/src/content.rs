//! What the maps of an object hold, as bytes and whatever the type: read as a whole, and taken out again. It knows how the
//! kernel counts keys and values, and not what they mean.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
    sync::LazyLock,
};

use aya::{
    Ebpf,
    maps::{Map, MapData, RingBuf},
};

use crate::{
    bpf::{self, Words, put_pointer},
    mapped::Mapped,
};

const UPDATE: libc::c_long = 2;
const DELETE: libc::c_long = 3;
const NEXT_KEY: libc::c_long = 4;
const LOOKUP_BATCH: libc::c_long = 24;
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;
/// Copies of a per-CPU value. They are counted by reading a file.
static PROCESSORS: LazyLock<usize> =
    LazyLock::new(|| aya::util::nr_cpus().expect("processors can be counted"));

/// A map's content: a key and its value, of each processor if they have their own. Cells of arrays that are zero are as
/// good as none.
pub type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// What all maps hold that hold something. Not what belongs to a socket, nor the records of a ring, which can only be taken
/// out, nor the constants of the programs.
///
/// # Panics
/// If a map cannot be read, or is of a type that no map of the object has had.
#[must_use]
pub fn content(object: &Ebpf) -> BTreeMap<String, Entries> {
    let maps = object.maps().filter_map(|(name, map)| Some((name.to_owned(), entries(name, map)?)));
    maps.filter(|(_, entries)| !entries.is_empty()).collect()
}

/// What one map holds; none where [`content`] leaves it out.
///
/// # Panics
/// As [`content`].
#[must_use]
pub fn entries(name: &str, map: &Map) -> Option<Entries> {
    Table::of(name, map).map(|table| table.entries())
}

/// Takes out everything that a program or a test has put in.
///
/// # Panics
/// If a map cannot be written.
pub(crate) fn empty(object: &mut Ebpf) {
    for (name, map) in object.maps_mut() {
        match Table::of(name, map) {
            Some(table) => table.empty(),
            None if matches!(map, Map::RingBuf(_)) => {
                let mut ring = RingBuf::try_from(map).expect("the variant says so");
                while ring.next().is_some() {}
            }
            None => {}
        }
    }
}

/// A map with keys.
struct Table {
    fd: RawFd,
    shape: Shape,
    key: usize,
    /// Of all processors, if they have their own.
    value: usize,
    entries: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Every key has a value at all times.
    Array,
    /// The same, as memory: it is read without a call for each cell.
    Mapped,
    Hash,
    /// As a hash, but what it holds cannot be read in one call.
    Prefixes,
}

impl Table {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "aya has thirty kinds, and one that no map has had needs a thought"
    )]
    fn of(name: &str, map: &Map) -> Option<Self> {
        let (data, shape, copies) = match map {
            // Frozen: nobody can have changed them.
            Map::Array(_) if name.starts_with(".rodata") => return None,
            // Programs are put in when they are loaded, and stay.
            Map::RingBuf(_) | Map::SkStorage(_) | Map::ProgramArray(_) => return None,
            Map::Array(data) => (data, Shape::Array, None),
            Map::PerCpuArray(data) => (data, Shape::Array, Some(*PROCESSORS)),
            Map::HashMap(data) | Map::LruHashMap(data) => (data, Shape::Hash, None),
            Map::PerCpuHashMap(data) => (data, Shape::Hash, Some(*PROCESSORS)),
            Map::LpmTrie(data) => (data, Shape::Prefixes, None),
            other => panic!("{name}: nobody knows how to empty {other:?}"),
        };
        Some(Self::new(data, shape, copies))
    }

    fn new(data: &MapData, shape: Shape, copies: Option<usize>) -> Self {
        let info = data.info().expect("a map has facts");
        let value = info.value_size() as usize;
        let shape = if info.map_flags() & MMAPABLE == 0 { shape } else { Shape::Mapped };
        Self {
            fd: data.fd().as_fd().as_raw_fd(),
            shape,
            key: info.key_size() as usize,
            // Each copy begins at a multiple of eight.
            value: copies.map_or(value, |copies| copies * value.next_multiple_of(8)),
            entries: info.max_entries(),
        }
    }

    fn entries(&self) -> Entries {
        match self.shape {
            Shape::Array => self.cells(&self.read().1, self.value),
            Shape::Mapped => self.cells(&self.mapped().bytes(), self.step()),
            // Most of them are, and to read one takes many times as long.
            Shape::Hash if self.is_empty() => Entries::new(),
            Shape::Hash => {
                let (keys, values) = self.read();
                let pairs = keys.chunks(self.key).zip(values.chunks(self.value));
                pairs.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
            }
            Shape::Prefixes => self.keys().into_iter().map(|key| (key, Vec::new())).collect(),
        }
    }

    /// The cells of an array that are not zero. Nearly all are: whole stretches of them are looked at together.
    fn cells(&self, bytes: &[u8], size: usize) -> Entries {
        const TOGETHER: usize = 256;
        assert_eq!(bytes.len(), self.entries as usize * size, "all cells of an array");
        let zero = vec![0_u8; TOGETHER * size];
        let stretches = bytes.chunks(zero.len()).zip((0_u32..).step_by(TOGETHER));
        let some = stretches.filter(|(stretch, _)| **stretch != zero[..stretch.len()]);
        let cells = some.flat_map(|(stretch, first)| stretch.chunks(size).zip(first..));
        let some = cells.filter(|(cell, _)| **cell != zero[..size]);
        some.map(|(cell, index)| (index.to_ne_bytes().to_vec(), cell[..self.value].to_vec())).collect()
    }

    fn mapped(&self) -> Mapped {
        Mapped::new(self.fd, self.entries as usize * self.step()).expect("a map that can be mapped")
    }

    /// From one cell in memory to the next: each begins at a multiple of eight.
    fn step(&self) -> usize {
        self.value.next_multiple_of(8)
    }

    fn empty(&self) {
        match self.shape {
            Shape::Mapped => self.mapped().zero(),
            Shape::Array => {
                let zero = vec![0_u8; self.value];
                for key in self.entries().into_keys() {
                    let mut words = self.at(&key);
                    put_pointer(&mut words, 4, zero.as_ptr());
                    bpf::call(UPDATE, &mut words).expect("a cell can be set");
                }
            }
            Shape::Hash | Shape::Prefixes => {
                for key in self.keys() {
                    match bpf::call(DELETE, &mut self.at(&key)) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            panic!("an entry stays: {error}")
                        }
                        // A table that forgets by itself may have been quicker.
                        _ => {}
                    }
                }
            }
        }
    }

    /// The attribute of a command for one key.
    fn at(&self, key: &[u8]) -> Words {
        let mut words = [0; 32];
        words[0] = self.fd.cast_unsigned();
        put_pointer(&mut words, 2, key.as_ptr());
        words
    }

    /// Nobody may write meanwhile: a key that goes sends the search back to the start.
    fn keys(&self) -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut next = vec![0_u8; self.key];
            let mut words = self.at(&[]);
            put_pointer(&mut words, 2, keys.last().map_or(std::ptr::null(), Vec::as_ptr));
            put_pointer(&mut words, 4, next.as_mut_ptr());
            match bpf::call(NEXT_KEY, &mut words) {
                Ok(_) => keys.push(next),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return keys,
                Err(error) => panic!("keys cannot be listed: {error}"),
            }
        }
    }

    fn is_empty(&self) -> bool {
        let mut first = vec![0_u8; self.key];
        let mut words = self.at(&[]);
        put_pointer(&mut words, 2, std::ptr::null::<u8>());
        put_pointer(&mut words, 4, first.as_mut_ptr());
        bpf::call(NEXT_KEY, &mut words).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// All keys and all values, in one call.
    fn read(&self) -> (Vec<u8>, Vec<u8>) {
        let count = self.entries as usize;
        let (mut keys, mut values) = (vec![0_u8; count * self.key], vec![0_u8; count * self.value]);
        // Where the next call would go on: as large as the largest key, or a number.
        let mut place = vec![0_u8; self.key.max(8)];
        let mut words = [0; 32];
        put_pointer(&mut words, 2, place.as_mut_ptr());
        put_pointer(&mut words, 4, keys.as_mut_ptr());
        put_pointer(&mut words, 6, values.as_mut_ptr());
        (words[8], words[9]) = (self.entries, self.fd.cast_unsigned());
        match bpf::call(LOOKUP_BATCH, &mut words) {
            Ok(_) => {}
            // The end was reached.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("a map cannot be read: {error}"),
        }
        let found = words[8] as usize;
        keys.truncate(found * self.key);
        values.truncate(found * self.value);
        (keys, values)
    }
}
