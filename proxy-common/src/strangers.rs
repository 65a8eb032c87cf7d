//! For tests of bits by a hash of addresses: how often somebody without any looks as if it had some. Knows no bit's meaning.

extern crate std;

use core::net::IpAddr;
use std::vec;

use crate::addr::Address;

const MANY: u32 = 100_000;

/// A hundred thousand addresses are noted in so many words, each by the bits that `place` names: how many of a thousand others look
/// as if they were.
///
/// # Panics
/// If one that is noted does not look so.
pub(crate) fn mistaken<A: Address>(
    words: u32,
    place: impl Fn(&A) -> (u32, u64),
    noted: impl Fn(u32) -> IpAddr,
    other: impl Fn(u32) -> IpAddr,
) -> usize {
    let place = |ip| place(&A::from_ip(ip).unwrap());
    let mut all = vec![0_u64; words as usize];
    for number in 0..MANY {
        let (word, bits) = place(noted(number));
        all[word as usize] |= bits;
    }
    let has = |ip| {
        let (word, bits) = place(ip);
        all[word as usize] & bits == bits
    };
    assert!((0..MANY).all(|number| has(noted(number))), "whoever is noted");
    (0..MANY).filter(|number| has(other(*number))).count() * 1_000 / MANY as usize
}
