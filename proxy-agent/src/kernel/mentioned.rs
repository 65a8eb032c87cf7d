//! The bits of addresses that policies say something about (`docs/decisions/0040-*`). They are set before the address is written
//! anywhere, and never cleared: a clear bit of somebody who is in a table would be a hole. Knows nothing of what is written.

use std::sync::atomic::Ordering::SeqCst;

use proxy_common::{Address, mentioned::Mark};

use super::{error::Error, memory::Slots, pins::Pins, sys::Access};

const MAP: &str = "mentioned";

/// The map, for the one who writes.
#[derive(Debug)]
pub struct Mentioned(Option<Slots<u64>>);

impl Mentioned {
    pub(super) fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        Slots::open(pins, MAP, access).map(Self)
    }

    /// Whether the programs look the address up.
    #[must_use]
    pub fn has<A: Address>(&self, addr: &A) -> bool {
        let Mark { word, bits } = Mark::of(addr);
        let halves = self.0.as_ref().map(|words| [0, 4].map(|half| words.word(word, half)));
        let Some([Some(low), Some(high)]) = halves else { return true };
        let [a, b, c, d] = low.load(SeqCst).to_ne_bytes();
        let [e, f, g, h] = high.load(SeqCst).to_ne_bytes();
        Mark { word, bits }.is_in(u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Sets the bits of an address.
    pub(super) fn add<A: Address>(&self, addr: &A) {
        let Some(words) = &self.0 else { return };
        let Mark { word, bits } = Mark::of(addr);
        let bits = bits.to_ne_bytes();
        for (half, bits) in bits.chunks_exact(4).enumerate() {
            if let (Some(half), &[a, b, c, d]) = (words.word(word, 4 * half), bits) {
                half.fetch_or(u32::from_ne_bytes([a, b, c, d]), SeqCst);
            }
        }
    }
}
