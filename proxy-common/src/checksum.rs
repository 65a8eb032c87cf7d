//! Internet checksum arithmetic (RFC 1071) and its incremental update (RFC 1624).
//!
//! A *difference* is the one's complement sum that turns the old words into the new ones, in the form that
//! `bpf_csum_diff` returns and `bpf_l4_csum_replace` takes. The kernel programs compute one when a flow is
//! created and use it for each of its packets. One's complement addition works in any byte order as long as
//! all words are in the same one, so words are taken as they lie in memory.

use crate::addr::{Address, Port};

/// Folds a 32-bit one's complement sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// One's complement sum of two sums.
#[inline(always)]
pub const fn add(a: u32, b: u32) -> u32 {
    let sum = a as u64 + b as u64;
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// The difference between two words.
#[inline(always)]
pub const fn word_difference(old: u32, new: u32) -> u32 {
    add(!old, new)
}

/// The difference between two addresses.
#[inline(always)]
pub fn address_difference<A: Address>(old: A, new: A) -> u32 {
    let (old, new) = (old.to_words(), new.to_words());
    let mut sum = word_difference(old[0], new[0]);
    if A::WORDS == 4 {
        sum = add(sum, word_difference(old[1], new[1]));
        sum = add(sum, word_difference(old[2], new[2]));
        sum = add(sum, word_difference(old[3], new[3]));
    }
    sum
}

/// The difference between two ports; zero if they are equal, so that unchanged ports can be told.
#[inline(always)]
pub const fn port_difference(old: Port, new: Port) -> u32 {
    if old.wire() == new.wire() {
        return 0;
    }
    // A half word is its own 32-bit sum; the complement must stay inside 16 bits.
    add((!old.wire()) as u32, new.wire() as u32)
}

/// The checksum field after the summed words changed by `difference` (RFC 1624 equation 3).
#[inline(always)]
pub const fn apply(field: u16, difference: u32) -> u16 {
    !fold(add((!field) as u32, difference))
}

/// The checksum field over whole words, for headers that we write ourselves. `bytes` of odd length is padded
/// with a zero byte.
pub fn of(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    let mut chunks = bytes.chunks_exact(2);
    for pair in &mut chunks {
        if let [a, b] = pair {
            sum = add(sum, u16::from_ne_bytes([*a, *b]) as u32);
        }
    }
    if let [last] = chunks.remainder() {
        sum = add(sum, u16::from_ne_bytes([*last, 0]) as u32);
    }
    !fold(sum)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::addr::{Addr4, Addr6};
    use proptest::prelude::*;
    use std::vec::Vec;
    use zerocopy::IntoBytes;

    #[test]
    fn the_worked_example_of_rfc_1071_adds_up() {
        // RFC 1071 section 3: 00 01 f2 03 f4 f5 f6 f7 sums to ddf2.
        let field = of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 0);
        assert_eq!(!field, 0xddf2_u16.to_be());
    }

    #[test]
    fn rfc_1624_example_updates_without_negative_zero() {
        // RFC 1624 section 4: HC = DD2F, m = 5555, m' = 3285 gives 0000.
        let difference = add((!0x5555_u16.to_be()) as u32, 0x3285_u16.to_be() as u32);
        assert_eq!(apply(0xdd2f_u16.to_be(), difference), 0x0000);
    }

    fn equal(a: u16, b: u16) -> bool {
        // 0000 and ffff are the same number; a full sum of a packet never meets the difference.
        a == b || (a ^ b == 0xffff && (a == 0 || b == 0))
    }

    proptest! {
        #[test]
        fn an_update_equals_a_fresh_sum(old in any::<[u32; 4]>(), new in any::<[u32; 4]>(), rest in any::<Vec<u8>>(),
                                        oport in any::<u16>(), nport in any::<u16>()) {
            let bytes = |addr: [u32; 4], port: u16| {
                let mut all = Addr6::from_words(addr).as_bytes().to_vec();
                all.extend(port.to_ne_bytes());
                all.extend(&rest);
                all
            };
            let difference = add(
                address_difference(Addr6::from_words(old), Addr6::from_words(new)),
                port_difference(Port::from_wire(oport), Port::from_wire(nport)),
            );
            prop_assert!(equal(apply(of(&bytes(old, oport), 0), difference), of(&bytes(new, nport), 0)));
        }

        #[test]
        fn an_ipv4_update_equals_a_fresh_sum(old in any::<u32>(), new in any::<u32>(), rest in any::<Vec<u8>>()) {
            let bytes = |word: u32| { let mut all = word.to_ne_bytes().to_vec(); all.extend(&rest); all };
            let difference = address_difference(Addr4::from_word(old), Addr4::from_word(new));
            prop_assert!(equal(apply(of(&bytes(old), 0), difference), of(&bytes(new), 0)));
        }
    }
}
