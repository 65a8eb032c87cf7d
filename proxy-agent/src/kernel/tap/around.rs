//! The two programs of a tap, as the kernel takes them: one runs before a program of ours, one after it. Some hundred
//! instructions that are the same but for a few offsets and numbers, so they are written here, where those are known, and not
//! compiled. Loads nothing.
//!
//! ```text
//! before:  remember the counters of this CPU                       ─► event, packet
//! after:   see which counter has gone up, and what was returned    ─► event, packet
//! ```
//! On one CPU nothing of ours runs between the two: packets are handled with softirqs off.

use proxy_common::Reason;

/// Bytes of a packet that are copied at most.
pub(super) const SNAP: i32 = 2_048;

/// Bytes of an event before its packet: a time, and six numbers of four bytes.
pub(super) const EVENT: usize = 32;

/// Counters that are remembered: one for each reason's number.
pub(super) const COUNTERS: usize = Reason::ALL[Reason::ALL.len() - 1] as usize + 1;

/// When a program of the tap runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Before ours.
    Before = 0,
    /// After it.
    After = 1,
}

/// What the kernel hands to the tapped program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Packet {
    /// `struct sk_buff`.
    Buffer(BufferOffsets),
    /// `struct xdp_buff`.
    Driver(DriverOffsets),
}

/// Where things are in the kernel's structures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BufferOffsets {
    /// `sk_buff.len`.
    pub(super) len: i16,
    /// `sk_buff.dev`.
    pub(super) dev: i16,
    /// `net_device.ifindex`.
    pub(super) ifindex: i16,
}

/// The same for packets in a driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct DriverOffsets {
    /// `xdp_buff.data`.
    pub(super) data: i16,
    /// `xdp_buff.data_end`.
    pub(super) data_end: i16,
    /// `xdp_buff.rxq`.
    pub(super) rxq: i16,
    /// `xdp_rxq_info.dev`.
    pub(super) dev: i16,
    /// `net_device.ifindex`.
    pub(super) ifindex: i16,
}

/// Descriptors of the maps that the programs use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maps {
    /// The pinned counters.
    pub(super) counters: i32,
    /// Those of this CPU as they were before.
    pub(super) remembered: i32,
    /// Where events go.
    pub(super) events: i32,
}

#[derive(Clone, Copy)]
struct Reg(u8);

const R0: Reg = Reg(0);
const R1: Reg = Reg(1);
const R2: Reg = Reg(2);
const R3: Reg = Reg(3);
const R4: Reg = Reg(4);
const R5: Reg = Reg(5);
const ARGS: Reg = Reg(6);
const PACKET: Reg = Reg(7);
const REMEMBERED: Reg = Reg(8);
const LENGTH: Reg = Reg(9);
const STACK: Reg = Reg(10);

/// Places on the stack: the event, and a key of four bytes.
const AT: i16 = -(EVENT as i16);
const HOOK: i16 = AT + 8;
const PHASE: i16 = AT + 12;
const CODE: i16 = AT + 16;
const REASON: i16 = AT + 20;
const LEN: i16 = AT + 24;
const DEVICE: i16 = AT + 28;
const KEY: i16 = AT - 8;

/// Numbers of helpers, `enum bpf_func_id`.
const LOOKUP: i32 = 1;
const SKB_OUTPUT: i32 = 111;
const XDP_OUTPUT: i32 = 121;
const BOOT_TIME: i32 = 125;

#[derive(Default)]
struct Assembler {
    code: Vec<[u8; 8]>,
    /// Jumps to the end, which is not known yet.
    ends: Vec<usize>,
}

/// Size of a load or store, as the opcode has it.
#[derive(Clone, Copy)]
enum Size {
    Word = 0x00,
    Double = 0x18,
}

impl Assembler {
    fn push(&mut self, op: u8, Reg(dst): Reg, Reg(src): Reg, off: i16, imm: i32) {
        let [o1, o2] = off.to_le_bytes();
        let [i1, i2, i3, i4] = imm.to_le_bytes();
        self.code.push([op, dst | (src << 4), o1, o2, i1, i2, i3, i4]);
    }

    fn copy(&mut self, dst: Reg, src: Reg) {
        self.push(0xbf, dst, src, 0, 0);
    }

    fn set(&mut self, dst: Reg, value: i32) {
        self.push(0xb7, dst, R0, 0, value);
    }

    /// Its upper half becomes zero.
    fn set_low(&mut self, dst: Reg, value: i32) {
        self.push(0xb4, dst, R0, 0, value);
    }

    fn add(&mut self, dst: Reg, value: i32) {
        self.push(0x07, dst, R0, 0, value);
    }

    fn subtract(&mut self, dst: Reg, src: Reg) {
        self.push(0x1f, dst, src, 0, 0);
    }

    fn load(&mut self, size: Size, dst: Reg, src: Reg, off: i16) {
        self.push(0x61 | size as u8, dst, src, off, 0);
    }

    fn store(&mut self, size: Size, dst: Reg, off: i16, src: Reg) {
        self.push(0x63 | size as u8, dst, src, off, 0);
    }

    fn store_number(&mut self, off: i16, value: i32) {
        self.push(0x62, STACK, R0, off, value);
    }

    fn call(&mut self, helper: i32) {
        self.push(0x85, R0, R0, 0, helper);
    }

    /// A map by its descriptor: two slots.
    fn map(&mut self, dst: Reg, fd: i32) {
        self.push(0x18, dst, Reg(1), 0, fd);
        self.push(0, R0, R0, 0, 0);
    }

    fn end_if_zero(&mut self, reg: Reg) {
        self.ends.push(self.code.len());
        self.push(0x15, reg, R0, 0, 0);
    }

    fn skip_if_zero(&mut self, reg: Reg, count: i16) {
        self.push(0x15, reg, R0, count, 0);
    }

    fn skip_if_at_most(&mut self, reg: Reg, other: Reg, count: i16) {
        self.push(0xbd, reg, other, count, 0);
    }

    fn skip_if_at_most_number(&mut self, reg: Reg, value: i32, count: i16) {
        self.push(0xb5, reg, R0, count, value);
    }

    /// Leaves the address of an entry in `r0`, or zero.
    fn lookup(&mut self, map: i32, key: i32) {
        self.store_number(KEY, key);
        self.map(R1, map);
        self.copy(R2, STACK);
        self.add(R2, i32::from(KEY));
        self.call(LOOKUP);
    }

    fn finish(mut self) -> Vec<[u8; 8]> {
        let end = self.code.len();
        for at in std::mem::take(&mut self.ends) {
            let distance = i16::try_from(end - at - 1).unwrap_or(i16::MAX).to_le_bytes();
            self.code[at][2..4].copy_from_slice(&distance);
        }
        self.set(R0, 0);
        self.push(0x95, R0, R0, 0, 0);
        self.code
    }
}

/// The instructions of one program. `hook` is a number of the caller's, which comes back with each event.
pub(super) fn instructions(phase: Phase, hook: u32, packet: Packet, maps: Maps) -> Vec<[u8; 8]> {
    let mut code = Assembler::default();
    code.copy(ARGS, R1);
    code.load(Size::Double, PACKET, ARGS, 0);
    code.store_number(HOOK, hook.cast_signed());
    code.store_number(PHASE, phase as i32);
    code.store_number(CODE, 0);
    code.store_number(REASON, -1);
    code.lookup(maps.remembered, 0);
    code.end_if_zero(R0);
    code.copy(REMEMBERED, R0);
    match phase {
        Phase::Before => remember(&mut code, maps.counters),
        Phase::After => {
            // After the only argument comes what was returned.
            code.load(Size::Double, R1, ARGS, 8);
            code.store(Size::Word, STACK, CODE, R1);
            compare(&mut code, maps.counters);
        }
    }
    code.call(BOOT_TIME);
    code.store(Size::Double, STACK, AT, R0);
    let output = measure(&mut code, packet);
    tell(&mut code, maps.events, output);
    code.finish()
}

fn remember(code: &mut Assembler, counters: i32) {
    for index in 0..COUNTERS {
        code.lookup(counters, index as i32);
        code.skip_if_zero(R0, 2);
        code.load(Size::Double, R1, R0, 0);
        code.store(Size::Double, REMEMBERED, (index * 8) as i16, R1);
    }
}

fn compare(code: &mut Assembler, counters: i32) {
    for index in 0..COUNTERS {
        code.lookup(counters, index as i32);
        code.skip_if_zero(R0, 4);
        code.load(Size::Double, R1, R0, 0);
        code.load(Size::Double, R2, REMEMBERED, (index * 8) as i16);
        code.skip_if_at_most(R1, R2, 1);
        code.store_number(REASON, index as i32);
    }
}

/// Leaves the packet's length in a register and in the event, and the device's number in the event. Gives the helper that
/// copies such a packet.
fn measure(code: &mut Assembler, packet: Packet) -> i32 {
    let (output, dev, ifindex) = match packet {
        Packet::Buffer(BufferOffsets { len, dev, ifindex }) => {
            code.load(Size::Word, LENGTH, PACKET, len);
            code.copy(R1, PACKET);
            (SKB_OUTPUT, dev, ifindex)
        }
        Packet::Driver(DriverOffsets { data, data_end, rxq, dev, ifindex }) => {
            code.load(Size::Double, LENGTH, PACKET, data_end);
            code.load(Size::Double, R1, PACKET, data);
            code.subtract(LENGTH, R1);
            code.load(Size::Double, R1, PACKET, rxq);
            (XDP_OUTPUT, dev, ifindex)
        }
    };
    code.load(Size::Double, R1, R1, dev);
    code.load(Size::Word, R1, R1, ifindex);
    code.store(Size::Word, STACK, DEVICE, R1);
    code.store(Size::Word, STACK, LEN, LENGTH);
    output
}

/// Writes the event and the packet behind it. The upper half of the flags is how much of the packet is copied, the lower one
/// says that it goes to this CPU's buffer.
fn tell(code: &mut Assembler, events: i32, output: i32) {
    code.copy(R3, LENGTH);
    code.skip_if_at_most_number(R3, SNAP, 1);
    code.set(R3, SNAP);
    code.push(0x67, R3, R0, 0, 32);
    code.set_low(R1, -1);
    code.push(0x4f, R3, R1, 0, 0);
    code.copy(R1, PACKET);
    code.map(R2, events);
    code.copy(R4, STACK);
    code.add(R4, i32::from(AT));
    code.set(R5, EVENT as i32);
    code.call(output);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_end_where_their_jumps_lead_and_remember_each_counter() {
        let offsets = BufferOffsets { len: 112, dev: 16, ifindex: 224 };
        let maps = Maps { counters: 3, remembered: 4, events: 5 };
        for phase in [Phase::Before, Phase::After] {
            let code = instructions(phase, 9, Packet::Buffer(offsets), maps);
            let lookups = code.iter().filter(|one| one[0] == 0x85 && one[4] == 1).count();
            assert_eq!(lookups, COUNTERS + 1);
            assert_eq!(code.last().map(|one| one[0]), Some(0x95));
            let jump = code.iter().position(|one| one[0] == 0x15).unwrap();
            let distance = i16::from_le_bytes([code[jump][2], code[jump][3]]);
            assert_eq!(jump + 1 + usize::try_from(distance).unwrap(), code.len() - 2);
        }
    }
}
