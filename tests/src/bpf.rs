//! `bpf(2)` as it is, with the words of its attribute, for what aya has no name for. It knows no program and no map.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
};

/// `union bpf_attr`, zeroed where a command takes nothing.
pub(crate) type Words = [u32; 32];

/// Makes a call; some commands leave what they found in the words, or give a descriptor.
///
/// # Errors
/// The kernel's own.
pub(crate) fn call(command: libc::c_long, words: &mut Words) -> io::Result<RawFd> {
    // SAFETY: the attribute is as long as we say, and the pointers in it lead to memory of the callers, which lives on.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, words.as_mut_ptr(), size_of_val(words)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

/// The same, for a command that makes something.
///
/// # Errors
/// The kernel's own.
pub(crate) fn make(command: libc::c_long, words: &mut Words) -> io::Result<OwnedFd> {
    let fd = call(command, words)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts an address at a word and the next one.
pub(crate) fn put_pointer<T>(words: &mut Words, at: usize, pointer: *const T) {
    let address = pointer as u64;
    (words[at], words[at + 1]) = (address as u32, (address >> 32) as u32);
}
