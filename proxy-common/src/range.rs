//! Source ranges: which clients a load balancer's address serves (items 81, 82).
//!
//! The kernel finds the longest prefix of a client's key; that there is any is all it asks.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::addr::{Addr4, Addr6};
use crate::frontend::ServiceId;

/// Key of the `ranges` maps, as a longest-prefix-match trie wants it: first the number of bits that count, then
/// the bits. The Service always counts in full, so the ranges of many lie in one trie.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RangeKey<A> {
    /// Bits that count: those of `service` and the range's own.
    pub bits: u32,
    /// Whose range it is.
    pub service: ServiceId,
    /// Network address; bits beyond the length are zero.
    pub addr: A,
}

impl<A> RangeKey<A> {
    /// The range of one Service with the first `len` bits of `addr`, the others being zero.
    #[inline(always)]
    pub const fn new(service: ServiceId, addr: A, len: u8) -> Self {
        Self { bits: u32::BITS + len as u32, service, addr }
    }

    /// The key of one address: what a client is looked up by.
    #[inline(always)]
    pub const fn exactly(service: ServiceId, addr: A) -> Self {
        Self { bits: u32::BITS + 8 * size_of::<A>() as u32, service, addr }
    }
}

const _: () = assert!(size_of::<RangeKey<Addr4>>() == 12);
const _: () = assert!(size_of::<RangeKey<Addr6>>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_an_address_is_its_longest_range() {
        let service = ServiceId(7);
        assert_eq!(
            RangeKey::exactly(service, Addr4::default()),
            RangeKey::new(service, Addr4::default(), 32)
        );
        assert_eq!(
            RangeKey::exactly(service, Addr6::default()),
            RangeKey::new(service, Addr6::default(), 128)
        );
        assert_eq!(RangeKey::new(service, Addr4::default(), 0).bits, 32, "the Service alone");
    }
}
