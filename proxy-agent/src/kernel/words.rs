//! Words of bits in the memory of a map, which others set too. Knows no bit's meaning.

use std::sync::atomic::Ordering::SeqCst;

use super::{error::Error, memory::Slots, pins::Pins, sys::Access};

/// The words of a map.
#[derive(Debug)]
pub(super) struct Words(Option<Slots<u64>>);

impl Words {
    pub(super) fn open(pins: &Pins, map: &'static str, access: Access) -> Result<Self, Error> {
        Slots::open(pins, map, access).map(Self)
    }

    /// `None` where nobody writes.
    pub(super) fn get(&self, word: u32) -> Option<u64> {
        let words = self.0.as_ref()?;
        let [low, high] = [0, 4].map(|half| words.word(word, half));
        let [a, b, c, d] = low?.load(SeqCst).to_ne_bytes();
        let [e, f, g, h] = high?.load(SeqCst).to_ne_bytes();
        Some(u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
    }

    pub(super) fn set(&self, word: u32, bits: u64) {
        let Some(words) = &self.0 else { return };
        let bits = bits.to_ne_bytes();
        for (half, bits) in bits.chunks_exact(4).enumerate() {
            if let (Some(half), &[a, b, c, d]) = (words.word(word, 4 * half), bits) {
                half.fetch_or(u32::from_ne_bytes([a, b, c, d]), SeqCst);
            }
        }
    }

    /// Puts a small number into a word, if it has this one; says whether it had.
    pub(super) fn exchange(&self, word: u32, from: u32, to: u32) -> bool {
        // The programs are built for processors whose lower half comes first.
        let half = self.0.as_ref().and_then(|words| words.word(word, 0));
        half.is_some_and(|half| half.compare_exchange(from, to, SeqCst, SeqCst).is_ok())
    }
}
