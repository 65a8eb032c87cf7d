//! The Ethernet header.

use super::cursor::Wire;

/// Length of the header: where the network header begins.
pub const LENGTH: usize = size_of::<Ethernet>();

/// The header as it lies in the frame.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ethernet {
    /// Who gets the frame.
    pub destination: Mac,
    /// Who sends it.
    pub source: Mac,
    /// Network protocol, network order.
    pub protocol: u16,
}

/// A device's address. Half words: frames are aligned to two bytes, and three loads beat six.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Mac([u16; 3]);

impl Mac {
    /// From bytes.
    #[inline(always)]
    pub fn new(bytes: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = bytes;
        Self([u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]), u16::from_ne_bytes([e, f])])
    }

    /// To more than one receiver: nobody may answer such a frame with an error (RFC 1122 section 3.2.2).
    #[inline(always)]
    pub fn is_group(self) -> bool {
        self.0[0].to_ne_bytes()[0] & 1 != 0
    }
}

// SAFETY: half words only, without padding.
unsafe impl Wire for Ethernet {}

const _: () = assert!(size_of::<Ethernet>() == 14);
