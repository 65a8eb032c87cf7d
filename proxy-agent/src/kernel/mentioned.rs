//! What policies say something about: addresses (`docs/decisions/0040-*`) and how finely prefixes divide their neighbourhoods
//! (0041). Both are bits that are set before the address or prefix is written anywhere, and never cleared: one that is missing is
//! a hole. Knows nothing of what is written.

use proxy_common::{
    Address, PrefixKey,
    group::{Division, Span},
    mentioned::Mark,
};

use super::{error::Error, pins::Pins, sys::Access, words::Words};

/// The maps, for the one who writes.
#[derive(Debug)]
pub struct Mentioned {
    addresses: Words,
    spans: Words,
}

impl Mentioned {
    pub(super) fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        let words = |map| Words::open(pins, map, access);
        Ok(Self { addresses: words("mentioned")?, spans: words("spans")? })
    }

    /// Whether the programs look the address up.
    #[must_use]
    pub fn has<A: Address>(&self, addr: &A) -> bool {
        let mark = Mark::of(addr);
        self.addresses.get(mark.word).is_none_or(|word| mark.is_in(word))
    }

    /// How the programs tell the addresses around this one apart.
    #[must_use]
    pub fn division<A: Address>(&self, addr: &A) -> Division {
        let span = Span::of(addr);
        self.spans.get(span.word).map_or(Division::UNKNOWN, |word| span.division(word))
    }

    /// Sets the bits of an address.
    pub(super) fn add<A: Address>(&self, addr: &A) {
        let Mark { word, bits } = Mark::of(addr);
        self.addresses.set(word, bits);
    }

    /// Sets those of the neighbourhood that a prefix lies in.
    pub(super) fn divide<A: Address>(&self, prefix: &PrefixKey<A>) {
        let span = Span::of(&prefix.addr);
        self.spans.set(span.word, span.bits(Division::by::<A>(prefix.len())));
    }
}
