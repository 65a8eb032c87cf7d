//! The records of a ring that the programs write (`BPF_MAP_TYPE_RINGBUF`), read by any number of processes at once. The
//! kernel knows one reader: the room up to where that one has read is written again. So one process holds the lock and
//! moves the mark; the others read along, and notice when they were too slow. Knows nothing of what a record says.
//!
//! ```text
//!        mark                 position              end
//! ───────┼──────────────────────┼────────────────────┼──────
//! free   │ read, not given back │ records to read    │ free
//! ```

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence},
};

use rustix::fs::{FlockOperation, flock};

/// Bits of a record's header, `BPF_RINGBUF_BUSY_BIT` and `BPF_RINGBUF_DISCARD_BIT`.
const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
/// Bytes of a record's header.
const HEADER: usize = 8;
/// Bytes that a writer may have touched before the end says so: a record, and there is one writer at a time.
const MARGIN: usize = 4_096;

/// A reader.
#[derive(Debug)]
pub struct Ring {
    mark: Mapping,
    written: Mapping,
    page: usize,
    size: usize,
    position: usize,
    lock: File,
    role: Role,
}

/// Whose reading makes room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Marks,
    ReadsAlong,
}

/// What there was to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// A record.
    Record(Vec<u8>),
    /// Nothing yet.
    Nothing,
    /// Records were written over before they were read.
    Missed,
}

#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to the mapping and not to a thread.
unsafe impl Send for Mapping {}

impl Ring {
    /// Maps a ring of `size` bytes; reading begins with what nobody has read yet. Whoever holds `lock` makes room.
    ///
    /// # Errors
    /// As mmap(2) gives them.
    pub fn map(fd: BorrowedFd<'_>, size: usize, lock: File) -> io::Result<Self> {
        let page = page_size();
        let mark = Mapping::of(fd, page, libc::PROT_READ | libc::PROT_WRITE, 0)?;
        let written = Mapping::of(fd, page + size, libc::PROT_READ, page)?;
        let mut ring = Self { mark, written, page, size, position: 0, lock, role: Role::ReadsAlong };
        ring.position = ring.mark().load(Ordering::Acquire);
        Ok(ring)
    }

    /// The next record.
    pub fn read(&mut self) -> Next {
        if self.role == Role::ReadsAlong
            && flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            self.role = Role::Marks;
        }
        loop {
            if self.is_overrun() {
                self.position = self.mark().load(Ordering::Acquire);
                return Next::Missed;
            }
            if self.position == self.end() {
                return Next::Nothing;
            }
            let header = self.header().load(Ordering::Acquire);
            if header & BUSY != 0 {
                return Next::Nothing;
            }
            let length = (header & !DISCARD) as usize;
            let record = self.copy(self.position.wrapping_add(HEADER), length.min(self.size));
            // What was copied counts only if it has not been written over meanwhile.
            fence(Ordering::SeqCst);
            if self.is_overrun() {
                continue;
            }
            self.position = self.position.wrapping_add((HEADER + length).next_multiple_of(8));
            self.give_back();
            if header & DISCARD == 0 {
                return Next::Record(record);
            }
        }
    }

    /// Makes room, if that is ours to do; never backwards, where somebody has read further before.
    fn give_back(&self) {
        let mark = self.mark();
        let ahead = self.position.wrapping_sub(mark.load(Ordering::Acquire));
        if self.role == Role::Marks && ahead <= self.size {
            mark.store(self.position, Ordering::Release);
        }
    }

    /// The record at the position may have been written over. What the mark has not passed is safe.
    fn is_overrun(&self) -> bool {
        let end = self.end();
        let behind = end.wrapping_sub(self.position);
        let held = end.wrapping_sub(self.mark().load(Ordering::Acquire));
        behind > held && behind > self.size - MARGIN
    }

    fn mark(&self) -> &AtomicUsize {
        // SAFETY: the first word of a page that is mapped as long as `self`, aligned to it; others write it by
        // atomic stores only.
        unsafe { self.mark.base.cast::<AtomicUsize>().as_ref() }
    }

    fn end(&self) -> usize {
        // SAFETY: as in `mark`; the kernel writes it, and it is only loaded here.
        unsafe { self.written.base.cast::<AtomicUsize>().as_ref() }.load(Ordering::Acquire)
    }

    fn header(&self) -> &AtomicU32 {
        let offset = self.page + (self.position & (self.size - 1));
        // SAFETY: records begin at multiples of eight, the size is a power of two, so the word lies in the mapping and is
        // aligned; it is only loaded.
        unsafe { self.written.base.add(offset).cast::<AtomicU32>().as_ref() }
    }

    fn copy(&self, from: usize, length: usize) -> Vec<u8> {
        let byte = |at: usize| {
            let offset = self.page + (at & (self.size - 1));
            // SAFETY: masked into the mapping. The kernel may write it at this moment: then the copy is thrown away.
            unsafe { self.written.base.add(offset).read_volatile() }
        };
        (0..length).map(|index| byte(from.wrapping_add(index))).collect()
    }
}

impl Mapping {
    fn of(fd: BorrowedFd<'_>, bytes: usize, protection: i32, offset: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of ours.
        let base = unsafe {
            let offset = offset as libc::off_t;
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd.as_raw_fd(), offset)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { base, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `of`, with its length; references into it end with `Ring`'s methods.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

fn page_size() -> usize {
    // SAFETY: reads a constant of the system.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(MARGIN)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use super::*;

    const SIZE: usize = 16_384;

    /// A file that looks like a ring, and who writes it as the kernel does.
    struct Writer {
        file: File,
        end: usize,
        page: usize,
        lock: tempfile::NamedTempFile,
    }

    impl Writer {
        fn new() -> Self {
            let page = page_size();
            let file = tempfile::tempfile().unwrap();
            file.set_len((2 * page + SIZE) as u64).unwrap();
            Self { file, end: 0, page, lock: tempfile::NamedTempFile::new().unwrap() }
        }

        fn reader(&self) -> Ring {
            Ring::map(self.file.as_fd(), SIZE, self.lock.reopen().unwrap()).unwrap()
        }

        fn put(&self, at: usize, bytes: &[u8]) {
            for (index, byte) in bytes.iter().enumerate() {
                let offset = 2 * self.page + ((at + index) & (SIZE - 1));
                self.file.write_all_at(&[*byte], offset as u64).unwrap();
            }
        }

        /// Writes a record whose header has these bits besides.
        fn write(&mut self, record: &[u8], bits: u32) {
            self.put(self.end, &(record.len() as u32 | bits).to_ne_bytes());
            self.put(self.end + HEADER, record);
            self.end += (HEADER + record.len()).next_multiple_of(8);
            self.file.write_all_at(&self.end.to_ne_bytes(), self.page as u64).unwrap();
        }

        /// Room that the reader has given back.
        fn mark(&self) -> usize {
            let mut bytes = [0; 8];
            self.file.read_exact_at(&mut bytes, 0).unwrap();
            usize::from_ne_bytes(bytes)
        }
    }

    fn record(text: &str) -> Next {
        Next::Record(text.into())
    }

    #[test]
    fn records_are_read_in_turn_and_unfinished_ones_awaited() {
        let mut writer = Writer::new();
        let mut ring = writer.reader();
        assert_eq!(ring.read(), Next::Nothing);
        writer.write(b"one", 0);
        writer.write(b"dropped", DISCARD);
        writer.write(b"two", 0);
        let unfinished = writer.end;
        writer.write(b"three", BUSY);
        assert_eq!([ring.read(), ring.read(), ring.read()], [record("one"), record("two"), Next::Nothing]);
        assert_eq!(writer.mark(), unfinished, "the room of what was read is given back");
        writer.put(unfinished, &5_u32.to_ne_bytes());
        assert_eq!([ring.read(), ring.read()], [record("three"), Next::Nothing]);
    }

    #[test]
    fn records_go_round_the_end() {
        let mut writer = Writer::new();
        let mut ring = writer.reader();
        for number in 0..1_000 {
            let text = format!("record {number} with some length to it");
            writer.write(text.as_bytes(), 0);
            assert_eq!(ring.read(), record(&text));
        }
        assert!(writer.end > 2 * SIZE && writer.mark() == writer.end);
    }

    #[test]
    fn all_readers_see_everything_and_one_of_them_makes_room_also_after_another_has_gone() {
        let mut writer = Writer::new();
        let (mut first, mut second) = (writer.reader(), writer.reader());
        assert_eq!([first.read(), second.read()], [Next::Nothing, Next::Nothing]);
        writer.write(b"one", 0);
        assert_eq!(second.read(), record("one"));
        assert_eq!(writer.mark(), 0, "the second reads along");
        assert_eq!(first.read(), record("one"));
        assert_eq!(writer.mark(), writer.end);
        drop(first);
        writer.write(b"two", 0);
        assert_eq!(second.read(), record("two"));
        assert_eq!(writer.mark(), writer.end, "now the second makes room");
    }

    #[test]
    fn a_reader_that_is_too_slow_is_told_and_goes_on() {
        let mut writer = Writer::new();
        let (mut first, mut slow) = (writer.reader(), writer.reader());
        assert_eq!([first.read(), slow.read()], [Next::Nothing, Next::Nothing]);
        for _ in 0..SIZE / 16 {
            writer.write(b"12345678", 0);
            assert_eq!(first.read(), record("12345678"));
        }
        assert_eq!([slow.read(), slow.read()], [Next::Missed, Next::Nothing]);
        writer.write(b"later", 0);
        assert_eq!(slow.read(), record("later"));
    }
}
