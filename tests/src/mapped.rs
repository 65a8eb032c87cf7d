//! An array of the kernel's as memory of ours. It knows no map.

use std::{
    io,
    os::fd::RawFd,
    ptr::{self, NonNull},
};

/// Mapped while it lives.
pub(crate) struct Mapped {
    start: NonNull<u8>,
    length: usize,
}

impl Mapped {
    /// The first `length` bytes.
    ///
    /// # Errors
    /// The kernel's own.
    pub(crate) fn new(fd: RawFd, length: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses a place where nothing of ours is.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, access, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("the kernel never chooses the address zero");
        Ok(Self { start, length })
    }

    /// A copy.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut copy = vec![0; self.length];
        // SAFETY: both are this long, and the copy is not in the mapping. A program that writes at the same time tears a value, as it
        // does for whoever reads through a call.
        unsafe { ptr::copy_nonoverlapping(self.start.as_ptr(), copy.as_mut_ptr(), self.length) };
        copy
    }

    pub(crate) fn zero(&self) {
        // SAFETY: the mapping is this long and may be written.
        unsafe { ptr::write_bytes(self.start.as_ptr(), 0, self.length) };
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it is ours, and no reference into it was ever given away. It can only fail for what is no mapping.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
