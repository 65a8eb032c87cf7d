//! The kernel programs, compiled by the build script and carried in the binary.

/// The ELF object.
pub const BYTES: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice.o"));
