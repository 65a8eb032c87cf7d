//! Typed handles of kernel maps. A handle can only be made for types that may lie in a map and for a map
//! whose sizes are theirs; everything after that is bytes. Knows no map by name.

use std::{io, marker::PhantomData};

use proxy_common::maps::MapType;

use super::sys::{Cursor, RawMap, Update};

/// A hash (also LRU, also an array with `K = u32`).
#[derive(Debug)]
pub struct Table<K, V> {
    raw: RawMap,
    types: PhantomData<fn(K) -> V>,
}

/// A per-CPU array.
#[derive(Debug)]
pub struct PerCpu<V> {
    raw: RawMap,
    cpus: usize,
    types: PhantomData<V>,
}

/// A per-CPU hash of counters.
#[derive(Debug)]
pub struct PerCpuTable<K, V> {
    raw: RawMap,
    cpus: usize,
    types: PhantomData<fn(K) -> V>,
}

/// Something that each CPU counts on its own.
pub trait Count: MapType + Default {
    /// Both together.
    #[must_use]
    fn plus(self, other: &Self) -> Self;
}

impl Count for u64 {
    fn plus(self, other: &Self) -> Self {
        self.wrapping_add(*other)
    }
}

/// Entries of a per-CPU hash read at once: each has a value per CPU.
const PER_CPU_CHUNK: usize = 256;

/// Entries read at once: enough that a scan of 262,144 entries is 64 calls, few enough to stay in the cache.
const CHUNK: usize = 4_096;

impl<K: MapType, V: MapType> Table<K, V> {
    /// A handle of `raw`.
    ///
    /// # Errors
    /// `InvalidData` when the map's keys or values have other sizes.
    pub fn new(raw: RawMap) -> io::Result<Self> {
        if (raw.entry().key, raw.entry().value) != (size_of::<K>(), size_of::<V>()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { raw, types: PhantomData })
    }
}

// `K` and `V` are MapTypes in every handle that exists, see `new`. The bound is not repeated here because it
// would have to be in each function that is generic over the address family.
impl<K: Copy, V: Copy> Table<K, V> {
    /// The map itself.
    #[must_use]
    pub fn raw(&self) -> &RawMap {
        &self.raw
    }

    /// The value of a key. One that is not found is looked for once more: the kernel may miss what is replaced just then
    /// (`docs/decisions/0049-*`).
    ///
    /// # Errors
    /// As the kernel gives them; a missing key is `None`.
    pub fn get(&self, key: &K) -> io::Result<Option<V>> {
        match self.look(key)? {
            None => self.look(key),
            found => Ok(found),
        }
    }

    fn look(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = [zero::<V>()];
        match self.raw.lookup(bytes(std::slice::from_ref(key)), bytes_mut(&mut value)) {
            Ok(()) => Ok(Some(value[0])),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the entry of a key; gives the value that it had at that moment.
    ///
    /// # Errors
    /// As the kernel gives them; a missing key is `None`.
    pub fn take(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = [zero::<V>()];
        match self.raw.take(bytes(std::slice::from_ref(key)), bytes_mut(&mut value)) {
            Ok(()) => Ok(Some(value[0])),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an entry that is not there; says whether it was written.
    ///
    /// # Errors
    /// As [`Table::put`]; an entry that is there is none.
    pub fn put_new(&self, key: &K, value: &V) -> io::Result<bool> {
        let (key, value) = (bytes(std::slice::from_ref(key)), bytes(std::slice::from_ref(value)));
        match self.raw.update(key, value, Update::New) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes one entry.
    ///
    /// # Errors
    /// `E2BIG` when the map is full, `ENOMEM`.
    pub fn put(&self, key: &K, value: &V) -> io::Result<()> {
        self.raw.update(bytes(std::slice::from_ref(key)), bytes(std::slice::from_ref(value)), Update::Any)
    }

    /// Writes many entries; gives how many were written before an error.
    pub fn put_all(&self, keys: &[K], values: &[V], update: Update) -> (usize, io::Result<()>) {
        self.raw.update_batch(bytes(keys), bytes(values), update)
    }

    /// Removes one entry; says whether it was there.
    ///
    /// # Errors
    /// As the kernel gives them; a missing key is none.
    pub fn remove(&self, key: &K) -> io::Result<bool> {
        match self.raw.delete(bytes(std::slice::from_ref(key))) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives all entries to `each`, some thousand at a time. Entries that come or go meanwhile may be missed.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn scan(&self, mut each: impl FnMut(&[K], &[V])) -> io::Result<()> {
        let mut cursor = Cursor::default();
        let mut room = CHUNK.min(self.raw.max_entries() as usize).max(1);
        let (mut keys, mut values) = (vec![zero::<K>(); room], vec![zero::<V>(); room]);
        while !cursor.done {
            match self.raw.scan(&mut cursor, bytes_mut(&mut keys), bytes_mut(&mut values)) {
                Ok(count) => each(&keys[..count], &values[..count]),
                // One bucket holds more than fits.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < CHUNK << 8 => {
                    room *= 2;
                    keys.resize(room, zero());
                    values.resize(room, zero());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// All entries.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn entries(&self) -> io::Result<Vec<(K, V)>> {
        let mut all = Vec::new();
        self.scan(|keys, values| all.extend(keys.iter().copied().zip(values.iter().copied())))?;
        Ok(all)
    }

    /// Number of entries, counted.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn count(&self) -> io::Result<usize> {
        let mut count = 0;
        self.scan(|keys, _| count += keys.len())?;
        Ok(count)
    }
}

impl<V: MapType> PerCpu<V> {
    /// A handle of `raw`, which was opened for `cpus` copies of a value.
    ///
    /// # Errors
    /// `InvalidData` when the map's keys or values have other sizes.
    pub fn new(raw: RawMap, cpus: usize) -> io::Result<Self> {
        let padded = size_of::<V>().next_multiple_of(8) * cpus;
        if raw.entry().key != size_of::<u32>() || raw.entry().value != padded {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { raw, cpus, types: PhantomData })
    }
}

impl PerCpu<u64> {
    /// The map itself.
    #[must_use]
    pub fn raw(&self) -> &RawMap {
        &self.raw
    }

    /// The sum over all CPUs of each index.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn sums(&self) -> io::Result<Vec<u64>> {
        let mut copies = vec![0_u64; self.cpus];
        let sum = |index: u32| {
            self.raw.lookup(&index.to_ne_bytes(), bytes_mut(&mut copies))?;
            Ok(copies.iter().fold(0_u64, |sum, one| sum.wrapping_add(*one)))
        };
        (0..self.raw.max_entries()).map(sum).collect()
    }
}

impl<K: MapType, V: Count> PerCpuTable<K, V> {
    /// A handle of `raw`, which was opened for `cpus` copies of a value.
    ///
    /// # Errors
    /// `InvalidData` when the map's keys or values have other sizes.
    pub fn new(raw: RawMap, cpus: usize) -> io::Result<Self> {
        let padded = size_of::<V>().next_multiple_of(8) * cpus;
        // The copies of a CPU lie a multiple of eight bytes apart: only then they are an array of values.
        if (raw.entry().key, raw.entry().value) != (size_of::<K>(), padded)
            || !size_of::<V>().is_multiple_of(8)
        {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { raw, cpus, types: PhantomData })
    }

    /// Every key with the sums over all CPUs.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn sums(&self) -> io::Result<Vec<(K, V)>> {
        let mut all = Vec::new();
        let mut cursor = Cursor::default();
        let mut room = PER_CPU_CHUNK.min(self.raw.max_entries() as usize).max(1);
        while !cursor.done {
            let (mut keys, mut values) = (vec![zero::<K>(); room], vec![V::default(); room * self.cpus]);
            match self.raw.scan(&mut cursor, bytes_mut(&mut keys), bytes_mut(&mut values)) {
                Ok(count) => {
                    let sums =
                        values.chunks(self.cpus).map(|copies| copies.iter().fold(V::default(), V::plus));
                    all.extend(keys.into_iter().zip(sums).take(count));
                }
                // One bucket holds more than fits.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < PER_CPU_CHUNK << 8 => {
                    room *= 2
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Removes one entry; that it is not there is no error.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn remove(&self, key: &K) -> io::Result<()> {
        match self.raw.delete(bytes(std::slice::from_ref(key))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn zero<T: Copy>() -> T {
    // SAFETY: only called for the MapTypes of a handle, of which any bytes are a value.
    unsafe { std::mem::zeroed() }
}

fn bytes<T: Copy>(values: &[T]) -> &[u8] {
    // SAFETY: only called for the MapTypes of a handle: they have no padding, so every byte is initialised.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

fn bytes_mut<T: Copy>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `bytes`, and any bytes that are written through it are values of the type.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_batch_that_the_kernel_refuses_at_once_nothing_counts_as_written() {
        let table = Table::<u32, u32>::new(RawMap::hash(4, 4, 8).unwrap()).unwrap();
        // A batch has no conditions: refused before the first entry is looked at.
        let (made, result) = table.put_all(&[1, 2, 3], &[1, 2, 3], Update::New);
        assert_eq!((made, result.unwrap_err().raw_os_error()), (0, Some(libc::EINVAL)));
        assert_eq!(table.entries().unwrap(), []);
        // Of one that does not fit, what fits does.
        let keys: Vec<u32> = (0..10).collect();
        let (made, result) = table.put_all(&keys, &keys, Update::Any);
        assert_eq!((made, result.unwrap_err().raw_os_error()), (8, Some(libc::E2BIG)));
        assert_eq!(table.count().unwrap(), 8);
    }
}
