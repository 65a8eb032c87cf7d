//! What policies say something about: addresses (`docs/decisions/0040-*`) and how finely prefixes divide their neighbourhoods
//! (0041). Both are bits that are set before the address or prefix is written anywhere, and never cleared: one that is missing is
//! a hole. Knows nothing of what is written.

use std::sync::atomic::Ordering::SeqCst;

use proxy_common::{
    Address, PrefixKey,
    group::{Grain, Span},
    mentioned::Mark,
};

use super::{error::Error, memory::Slots, pins::Pins, sys::Access};

/// The maps, for the one who writes.
#[derive(Debug)]
pub struct Mentioned {
    addresses: Words,
    spans: Words,
}

impl Mentioned {
    pub(super) fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        let words = |map| Slots::open(pins, map, access).map(Words);
        Ok(Self { addresses: words("mentioned")?, spans: words("spans")? })
    }

    /// Whether the programs look the address up.
    #[must_use]
    pub fn has<A: Address>(&self, addr: &A) -> bool {
        let mark = Mark::of(addr);
        self.addresses.get(mark.word).is_none_or(|word| mark.is_in(word))
    }

    /// How finely the programs tell the addresses around this one apart.
    #[must_use]
    pub fn grain<A: Address>(&self, addr: &A) -> Grain {
        let span = Span::of(addr);
        self.spans.get(span.word).map_or(Grain::FINEST, |word| span.grain(word))
    }

    /// Sets the bits of an address.
    pub(super) fn add<A: Address>(&self, addr: &A) {
        let Mark { word, bits } = Mark::of(addr);
        self.addresses.set(word, bits);
    }

    /// Sets those of the neighbourhood that a prefix lies in.
    pub(super) fn divide<A: Address>(&self, prefix: &PrefixKey<A>) {
        let span = Span::of(&prefix.addr);
        self.spans.set(span.word, span.bits(Grain::of::<A>(prefix.len())));
    }
}

/// Words of bits.
#[derive(Debug)]
struct Words(Option<Slots<u64>>);

impl Words {
    /// `None` where nobody writes.
    fn get(&self, word: u32) -> Option<u64> {
        let words = self.0.as_ref()?;
        let [low, high] = [0, 4].map(|half| words.word(word, half));
        let [a, b, c, d] = low?.load(SeqCst).to_ne_bytes();
        let [e, f, g, h] = high?.load(SeqCst).to_ne_bytes();
        Some(u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
    }

    fn set(&self, word: u32, bits: u64) {
        let Some(words) = &self.0 else { return };
        let bits = bits.to_ne_bytes();
        for (half, bits) in bits.chunks_exact(4).enumerate() {
            if let (Some(half), &[a, b, c, d]) = (words.word(word, 4 * half), bits) {
                half.fetch_or(u32::from_ne_bytes([a, b, c, d]), SeqCst);
            }
        }
    }
}
