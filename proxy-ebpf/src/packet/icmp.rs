//! The header of ICMP errors: the same eight bytes in both families (RFC 792, RFC 4443 section 3.1).

use super::cursor::Wire;

/// Type, code, checksum and a word that "port unreachable" leaves zero.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct IcmpError {
    /// Type and code.
    pub kind: [u8; 2],
    /// Internet checksum over the message; in IPv6 over its pseudo header, too.
    pub checksum: u16,
    /// Zero.
    pub unused: u32,
}

// SAFETY: plain numbers, 8 bytes without padding.
unsafe impl Wire for IcmpError {}

const _: () = assert!(size_of::<IcmpError>() == 8);
