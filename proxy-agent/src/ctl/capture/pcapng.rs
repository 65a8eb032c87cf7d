//! Packets in a file that tcpdump and Wireshark read, with what became of each as a comment
//! (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>). Everything is written in this machine's order, as the
//! format allows. Knows no device but by number and name.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::kernel::tap::Bytes;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const ORDER: u32 = 0x1a2b_3c4d;
const ETHERNET: u32 = 1;

/// Numbers of options: of all blocks, and of interfaces.
const END: u16 = 0;
const COMMENT: u16 = 1;
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;
/// Times in nanoseconds, as a power of ten.
const NANOSECONDS: u8 = 9;

/// A file that is being written.
pub(super) struct File<W> {
    out: W,
    /// Numbers of the devices in the file, by the kernel's.
    devices: BTreeMap<u32, u32>,
}

impl<W: Write> File<W> {
    /// Begins a file.
    pub(super) fn begin(mut out: W) -> io::Result<Self> {
        let mut body = ORDER.to_ne_bytes().to_vec();
        body.extend([1_u16, 0].iter().flat_map(|half| half.to_ne_bytes()));
        // The section's length is not known before its end.
        body.extend(u64::MAX.to_ne_bytes());
        block(&mut out, SECTION, &body)?;
        Ok(Self { out, devices: BTreeMap::new() })
    }

    /// Adds a packet that was on `device` at `time`, in nanoseconds since 1970; `name` is asked for once.
    pub(super) fn packet(
        &mut self,
        device: u32,
        name: impl FnOnce() -> String,
        time: u64,
        packet: &Bytes,
        comment: &str,
    ) -> io::Result<()> {
        let number = match self.devices.get(&device) {
            Some(number) => *number,
            None => self.interface(device, &name())?,
        };
        let mut body = Vec::with_capacity(packet.bytes.len() + comment.len() + 64);
        // The upper half of the time comes first.
        let times = [(time >> 32) as u32, time as u32];
        let lengths = [packet.bytes.len() as u32, packet.length];
        body.extend([number].iter().chain(&times).chain(&lengths).flat_map(|word| word.to_ne_bytes()));
        body.extend(&packet.bytes);
        pad(&mut body);
        option(&mut body, COMMENT, comment.as_bytes());
        option(&mut body, END, &[]);
        block(&mut self.out, PACKET, &body)
    }

    /// Lets readers see what was written so far.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn interface(&mut self, device: u32, name: &str) -> io::Result<u32> {
        let number = self.devices.len() as u32;
        let mut body = ETHERNET.to_ne_bytes().to_vec();
        // As much of each packet as there is.
        body.extend(0_u32.to_ne_bytes());
        option(&mut body, NAME, name.as_bytes());
        option(&mut body, RESOLUTION, &[NANOSECONDS]);
        option(&mut body, END, &[]);
        block(&mut self.out, INTERFACE, &body)?;
        self.devices.insert(device, number);
        Ok(number)
    }
}

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = (body.len() + 12) as u32;
    out.write_all(&kind.to_ne_bytes())?;
    out.write_all(&length.to_ne_bytes())?;
    out.write_all(body)?;
    out.write_all(&length.to_ne_bytes())
}

fn option(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // A comment is a line; it cannot be this long.
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(kind.to_ne_bytes());
    body.extend((value.len() as u16).to_ne_bytes());
    body.extend(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_described_once_before_its_first_packet() {
        let mut bytes = Vec::new();
        let mut file = File::begin(&mut bytes).unwrap();
        let packet = Bytes { at: 0, length: 60, bytes: vec![1, 2, 3] };
        let time = (7 << 32) | 9;
        for (device, name) in [(4, "veth"), (4, "not asked for"), (2, "eth0")] {
            file.packet(device, || name.to_owned(), time, &packet, "why").unwrap();
        }
        let mut blocks = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let word = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().unwrap());
            let length = word(4) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(word(length - 4) as usize, length);
            blocks.push((word(0), rest[8..length - 4].to_vec()));
            rest = &rest[length..];
        }
        let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [SECTION, INTERFACE, PACKET, PACKET, INTERFACE, PACKET]);
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let comment = [&1_u16.to_ne_bytes()[..], &3_u16.to_ne_bytes(), b"why\0", &[0; 4]].concat();
        assert_eq!(blocks[5].1, [words(&[1, 7, 9, 3, 60]), vec![1, 2, 3, 0], comment].concat());
        assert!(blocks[4].1.windows(4).any(|bytes| bytes == b"eth0"));
    }
}
