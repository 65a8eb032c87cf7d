//! Memory that is not needed any more, and who may have it.

/// Gives back what decoding the lists and making the first plan have left behind.
pub(super) fn give_back() {
    // Other C libraries give back whole pages as soon as they are free, or offer nothing of the kind.
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and only gives pages back that hold nothing.
    unsafe {
        libc::malloc_trim(0);
    }
}
