//! The memory of an mmapable array: slots are read and written without a system call. Knows no layout beyond
//! the distance between slots.

use std::{
    io,
    marker::PhantomData,
    ops::Range,
    os::fd::{AsFd as _, AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering, fence},
};

use proxy_common::maps::{MapType, stride};

use super::{error::Error, pins::Pins, sys::Access};

/// An mmapable array of `T`.
#[derive(Debug)]
pub struct Slots<T> {
    base: NonNull<u8>,
    bytes: usize,
    count: u32,
    access: Access,
    of: PhantomData<T>,
}

// SAFETY: the memory belongs to the mapping and not to a thread; writing needs `&mut`.
unsafe impl<T: Send> Send for Slots<T> {}
// SAFETY: as above; reading copies bytes out.
unsafe impl<T: Sync> Sync for Slots<T> {}

/// A run of slots that is not in the array.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("slots {start}..{end} are outside of an array of {count}")]
pub struct Outside {
    /// First slot.
    pub start: u64,
    /// Slot after the last.
    pub end: u64,
    /// Slots there are.
    pub count: u32,
}

impl<T: MapType> Slots<T> {
    /// Those of a pinned array, for the one who writes; who only reads has no use for them.
    pub(super) fn open(pins: &Pins, name: &'static str, access: Access) -> Result<Option<Self>, Error> {
        if access == Access::Read {
            return Ok(None);
        }
        let map = pins.open(name, access)?;
        let failed = |source| Error::Map { verb: "map the memory of", map: name, source };
        Self::map(map.as_fd(), map.max_entries(), access).map(Some).map_err(failed)
    }

    /// Maps the array behind `fd`, which has `count` values of `T`.
    ///
    /// # Errors
    /// As mmap(2) gives them.
    pub fn map(fd: BorrowedFd<'_>, count: u32, access: Access) -> io::Result<Self> {
        let bytes = count as usize * stride(size_of::<T>());
        let protection = match access {
            Access::Read => libc::PROT_READ,
            Access::Write => libc::PROT_READ | libc::PROT_WRITE,
        };
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of ours.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { base, bytes, count, access, of: PhantomData })
    }
}

impl<T: Copy> Slots<T> {
    /// Number of slots.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    fn range(&self, start: u32, len: usize) -> Result<Range<usize>, Outside> {
        let (from, end) = (u64::from(start), u64::from(start) + len as u64);
        if end > u64::from(self.count) {
            return Err(Outside { start: from, end, count: self.count });
        }
        Ok(start as usize..start as usize + len)
    }

    /// Copies slots out.
    ///
    /// # Errors
    /// [`Outside`].
    pub fn read(&self, start: u32, len: usize) -> Result<Vec<T>, Outside> {
        let step = stride(size_of::<T>());
        let slots = self.range(start, len)?;
        // SAFETY: `range` keeps each slot inside the mapping, slots are 8-byte aligned, and any bytes are a
        // `T` because only a MapType can be mapped.
        Ok(slots.map(|slot| unsafe { self.base.add(slot * step).cast::<T>().read_volatile() }).collect())
    }

    /// Copies slots in. They must be slots that no frontend points at.
    ///
    /// # Errors
    /// [`Outside`]; nothing is written then.
    ///
    /// # Panics
    /// When the array was mapped for reading.
    pub fn write(&mut self, start: u32, values: &[T]) -> Result<(), Outside> {
        assert_eq!(self.access, Access::Write, "mapped for reading");
        let step = stride(size_of::<T>());
        for (slot, value) in self.range(start, values.len())?.zip(values) {
            // SAFETY: as in `read`; the kernel only reads this memory, and not while no frontend points at it.
            unsafe { self.base.add(slot * step).cast::<T>().write_volatile(*value) };
        }
        Ok(())
    }

    /// A word of a slot that others write too; `None` outside of the slots, or off a word's border.
    ///
    /// # Panics
    /// When the array was mapped for reading.
    #[must_use]
    pub fn word(&self, slot: u32, offset: usize) -> Option<&AtomicU32> {
        assert_eq!(self.access, Access::Write, "mapped for reading");
        let inside = slot < self.count && offset + size_of::<u32>() <= size_of::<T>();
        let at = slot as usize * stride(size_of::<T>()) + offset;
        // SAFETY: `inside` keeps the word in the mapping, which lives as long as `self`; it is aligned, and others
        // write it in one piece.
        (inside && offset.is_multiple_of(4)).then(|| unsafe { self.base.add(at).cast().as_ref() })
    }

    /// All slots written so far are visible to every CPU before anything that is done after this.
    pub fn publish(&self) {
        fence(Ordering::SeqCst);
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, with its length; nothing borrows from it, `read` copies.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
