//! Ways to spoil a packet.

use crate::numbers::Numbers;

/// The shortest frame that the kernel takes for a test run: a link header.
pub const SHORTEST: usize = 14;
/// The longest one that is made here.
const LONGEST: usize = 512;

/// The frame ends before the network header that its kind announces.
pub fn is_headless(frame: &[u8]) -> bool {
    let header = match frame[12..14] {
        [0x08, 0x00] => 20,
        [0x86, 0xdd] => 40,
        _ => 0,
    };
    frame.len() < SHORTEST + header
}

/// A seed, spoiled once to four times.
pub fn spoil(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..=numbers.below(4) {
        once(&mut bytes, seeds, numbers);
    }
    // What is spoiled everywhere never gets past the first check: most frames keep the kind that they say they are.
    if numbers.below(4) != 0 {
        let kind = if numbers.below(2) == 0 { [0x08, 0x00] } else { [0x86, 0xdd] };
        if bytes[12..14] != [0x08, 0x00] && bytes[12..14] != [0x86, 0xdd] {
            bytes[12..14].copy_from_slice(&kind);
        }
    }
    bytes
}

fn once(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], numbers: &mut Numbers) {
    let at = numbers.below(bytes.len());
    match numbers.below(9) {
        0 => bytes[at] ^= 1 << numbers.below(8),
        1 => bytes[at] = numbers.next() as u8,
        2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][numbers.below(5)],
        3 => bytes.truncate(at.max(SHORTEST)),
        4 => {
            let end = (at + 1 + numbers.below(40)).min(bytes.len());
            bytes[at..end].fill(if numbers.below(2) == 0 { 0xff } else { 0 });
        }
        5 => {
            let number = (numbers.next() as u16).to_be_bytes();
            let end = (at + 2).min(bytes.len());
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
        6 => {
            let other = &seeds[numbers.below(seeds.len())];
            bytes.truncate(at.max(SHORTEST));
            bytes.extend_from_slice(&other[numbers.below(other.len())..]);
        }
        7 => {
            let repeated = bytes[at..(at + 20).min(bytes.len())].to_vec();
            let place = at.max(SHORTEST).min(bytes.len());
            bytes.splice(place..place, repeated);
        }
        _ => {
            // A field of the network header, where mistakes hide: version, lengths, fragment, protocol.
            let field = SHORTEST + [0, 2, 3, 4, 5, 6, 7, 9, 20, 21, 40, 41, 42, 43][numbers.below(14)];
            if let Some(byte) = bytes.get_mut(field) {
                *byte = numbers.next() as u8;
            }
        }
    }
    bytes.truncate(LONGEST);
}
