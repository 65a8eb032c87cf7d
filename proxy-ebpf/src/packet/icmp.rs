//! The header of ICMP errors: the same eight bytes in both families (RFC 792, RFC 4443 section 3.1).

use super::cursor::Wire;

/// Type, code, checksum and a word that only "too large" needs.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct IcmpError {
    /// Type and code.
    pub kind: [u8; 2],
    /// Internet checksum over the message; in IPv6 over its pseudo header, too.
    pub checksum: u16,
    /// The largest size, in network order, for a packet that was too large; else zero (RFC 1191 section 4, RFC 4443
    /// section 3.2).
    pub size: u32,
}

// SAFETY: plain numbers, 8 bytes without padding.
unsafe impl Wire for IcmpError {}

const _: () = assert!(size_of::<IcmpError>() == 8);
