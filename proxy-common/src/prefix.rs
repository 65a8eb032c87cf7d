//! Keys of the longest-prefix tries that ask "what is this address to us": ranges of pods and Services beyond the
//! few that [`crate::NodeConfig`] holds, and the source addresses of the node's devices.

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::addr::{Addr4, Addr6};

/// Key of the `nets` and `sources` maps, as a longest-prefix-match trie wants it: first the number of bits that count,
/// then the bits. The scope always counts in full.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PrefixKey<A> {
    /// Bits that count: those of `scope` and the prefix's own.
    pub bits: u32,
    /// `nets`: a [`crate::node::NetKind`]. `sources`: the index of a device.
    pub scope: u32,
    /// Network address; bits beyond the length are zero.
    pub addr: A,
}

impl<A> PrefixKey<A> {
    /// The first `len` bits of `addr`, the others being zero.
    #[inline(always)]
    pub const fn new(scope: u32, addr: A, len: u8) -> Self {
        Self { bits: u32::BITS + len as u32, scope, addr }
    }

    /// Length of the prefix, in bits; zero is everything.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no prefix is empty")]
    pub const fn len(&self) -> u8 {
        self.bits.saturating_sub(u32::BITS) as u8
    }

    /// The key that one address is looked up by.
    #[inline(always)]
    pub const fn exactly(scope: u32, addr: A) -> Self {
        Self { bits: u32::BITS + 8 * size_of::<A>() as u32, scope, addr }
    }
}

const _: () = assert!(size_of::<PrefixKey<Addr4>>() == 12);
const _: () = assert!(size_of::<PrefixKey<Addr6>>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_an_address_is_its_longest_prefix() {
        assert_eq!(PrefixKey::exactly(7, Addr4::default()), PrefixKey::new(7, Addr4::default(), 32));
        assert_eq!(PrefixKey::exactly(7, Addr6::default()), PrefixKey::new(7, Addr6::default(), 128));
        assert_eq!(PrefixKey::new(7, Addr4::default(), 0).bits, 32, "the scope alone");
    }
}
