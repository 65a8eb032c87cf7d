//! SCTP's checksum (RFC 9260 appendix A): CRC32c over the whole packet, its own field taken as zero.
//!
//! A CRC is linear: what changes in it depends on the changed bits and on how many bytes follow them, not on what those
//! bytes are. So a packet whose ports change is not read again.

/// The polynomial, lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What the CRC register holds for the polynomial 1.
const ONE: u32 = 1 << 31;

/// Product of two polynomials modulo [`POLYNOMIAL`].
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 0;
    while bit < 32 {
        if a >> (31 - bit) & 1 != 0 {
            product ^= b;
        }
        b = (b >> 1) ^ if b & 1 != 0 { POLYNOMIAL } else { 0 };
        bit += 1;
    }
    product
}

/// Powers of two of the number of bytes that are looked up: an IP packet has less than 2^16.
const POWERS: usize = 16;

/// `ZEROS[n][1][i][value]`: the register after 2^n bytes of zero, if it held `value` in its `i`-th four bits and else
/// nothing; `ZEROS[n][0]` the same after none. Without a branch: a verifier would follow each.
static ZEROS: [[[[u32; 16]; 8]; 2]; POWERS] = {
    let mut zeros = [[[[0; 16]; 8]; 2]; POWERS];
    // x^8: one byte.
    let mut power = ONE >> 8;
    let mut n = 0;
    while n < POWERS {
        let mut cell = 0;
        while cell < 8 * 16 {
            let (place, value) = (cell / 16, cell % 16);
            let register = (value as u32) << (4 * place);
            zeros[n][0][place][value] = register;
            zeros[n][1][place][value] = multiply(register, power);
            cell += 1;
        }
        power = multiply(power, power);
        n += 1;
    }
    zeros
};

/// The register after `bytes` more bytes of zero.
#[inline(always)]
pub fn after_zeros(mut register: u32, bytes: u16) -> u32 {
    for (n, zeros) in ZEROS.iter().enumerate() {
        let mut next = 0;
        // A kernel before 6.10 has no idea of what two numbers are that were combined with "or", which is what the compiler
        // makes of two indices: so the first leads to a place in memory before the second is added.
        let zeros = core::hint::black_box(&zeros[(bytes >> n & 1) as usize]);
        for (place, zeros) in zeros.iter().enumerate() {
            next ^= zeros[(register >> (4 * place) & 15) as usize];
        }
        register = next;
    }
    register
}

/// What the checksum field of a packet is to be combined with (exclusive or) when the word at its start changes; `old`,
/// `new`, the field and the result are as they lie in memory, `length` is that of the whole packet and at least 4.
///
/// On a little-endian machine, as the programs' target is.
#[inline(always)]
pub fn difference(old: u32, new: u32, length: u16) -> u32 {
    // The register takes the lowest byte first, and the field holds it in the same order (RFC 9260 appendix A).
    let changed = u32::from_le_bytes((old ^ new).to_ne_bytes());
    // The word passes through the register, too, as if it were zeros: it is linear.
    let register = after_zeros(changed, length);
    u32::from_ne_bytes(register.to_le_bytes())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Bit by bit, as RFC 9260 appendix A has it.
    fn crc(bytes: &[u8]) -> u32 {
        let mut register = u32::MAX;
        for byte in bytes {
            register ^= u32::from(*byte);
            for _ in 0..8 {
                register = (register >> 1) ^ if register & 1 != 0 { POLYNOMIAL } else { 0 };
            }
        }
        !register
    }

    #[test]
    fn the_check_value_of_the_catalogue_comes_out() {
        // "123456789", https://reveng.sourceforge.io/crc-catalogue/17plus.htm#crc.cat.crc-32-iscsi
        assert_eq!(crc(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn an_update_equals_a_fresh_sum(old in any::<[u8; 4]>(), new in any::<[u8; 4]>(), rest in any::<Vec<u8>>()) {
            let whole = |ports: [u8; 4]| [&ports[..], &rest].concat();
            let length = u16::try_from(rest.len() + 4).expect("short");
            let field = |bytes: &[u8]| u32::from_ne_bytes(crc(bytes).to_le_bytes());
            let difference = difference(u32::from_ne_bytes(old), u32::from_ne_bytes(new), length);
            prop_assert_eq!(field(&whole(old)) ^ difference, field(&whole(new)));
        }
    }
}
