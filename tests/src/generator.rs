//! A program for measuring: it writes the packet of another flow for each run of a test run, and hands it to the program that
//! is measured. So one call measures many flows, in the kernel's own loop and without a system call between two of them.
//!
//! The same with a program in the other's place that does nothing is what to subtract. The programs here are put together from
//! instructions, because the product's object has no room for them. They know where a packet's ports are, nothing else.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    time::Duration,
};

use crate::bpf::{self, put_pointer};

/// Packets of many flows that differ in a port, and beyond 32,768 of them in another half word.
#[derive(Clone)]
pub struct Template {
    /// The first flow's.
    pub bytes: Vec<u8>,
    /// Where the port is: of the flow number `n` it is 1,024 + `n` mod 32,768.
    pub port_at: usize,
    /// Where the half word is that `n` / 32,768 is added to.
    pub high_at: usize,
}

/// The program, and the place for the one that is measured.
pub struct Generator {
    program: OwnedFd,
    target: OwnedFd,
    frame: Vec<u8>,
}

/// Ports of one half word.
const PORTS: u32 = 1 << 15;
const FIRST_PORT: i32 = 1_024;
/// Odd, so that a multiple visits each of 2^n flows, in an order that no prefetcher guesses.
const STEP: i32 = 40_503;

impl Generator {
    /// Writes packets of `flows` flows, a power of two; of each flow one by each template, one after the other.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[must_use]
    pub fn new(templates: &[Template], flows: u32, order: Order) -> Self {
        let target = create_program_array().expect("a program array can be made");
        let program =
            load(&generator(templates, flows, order, target.as_raw_fd())).expect("the kernel takes it");
        Self { program, target, frame: templates[0].bytes.clone() }
    }

    /// The time of one of `repeat` runs of a program on a frame that passes a device; `first` is the number of the first
    /// packet.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn time(&self, program: RawFd, device: u32, first: u32, repeat: u32) -> Duration {
        update(self.target.as_raw_fd(), program).expect("a program can be put into the array");
        run(self.program.as_raw_fd(), &self.frame, (device, first), repeat).expect("the program runs")
    }
}

/// In which order flows come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One after the other.
    Rising,
    /// As no prefetcher guesses.
    Scattered,
}

/// A program that looks the tuple of a frame up in a map of flows, once, and reads what is there: what the kernel's own part
/// of an established packet is, at the same size of the table.
///
/// # Panics
/// If the kernel refuses.
#[must_use]
pub fn lookup(map: RawFd, addresses_at: i16, words: i16) -> OwnedFd {
    // Both addresses and ports lie one behind the other in the packet, as they do in the key; then the protocol.
    let size = i32::from(words) * 4 + 4;
    let mut code = bounds(i32::from(addresses_at) + i32::from(words) * 4);
    for word in 0..words {
        code.push(insn(LOAD_W, 4, 2, addresses_at + word * 4, 0));
        code.push(insn(STORE_W, 10, 4, word * 4 - size as i16, 0));
    }
    code.push(insn(STORE_IMM_W, 10, 0, -4, 6));
    code.extend(map_address(1, map));
    code.extend([
        insn(MOVE, 2, 10, 0, 0),
        insn(ADD_IMM, 2, 0, 0, -size),
        insn(CALL, 0, 0, 0, MAP_LOOKUP),
        insn(JUMP_EQ_IMM, 0, 0, 2, 0),
        insn(LOAD_W, 1, 0, 0, 0),
        insn(LOAD_W, 1, 0, 48, 0),
    ]);
    load(&finish(code)).expect("the kernel takes it")
}

/// One instruction: code, registers, offset and number (`struct bpf_insn`).
type Insn = u64;

const fn insn(code: u8, dst: u8, src: u8, offset: i16, number: i32) -> Insn {
    let [o0, o1] = offset.to_le_bytes();
    let [n0, n1, n2, n3] = number.to_le_bytes();
    u64::from_le_bytes([code, dst | src << 4, o0, o1, n0, n1, n2, n3])
}

const LOAD_W: u8 = 0x61;
const STORE_W: u8 = 0x63;
const STORE_H: u8 = 0x6b;
const STORE_IMM_W: u8 = 0x62;
const STORE_IMM_B: u8 = 0x72;
const LOAD_WIDE: u8 = 0x18;
const MOVE: u8 = 0xbf;
const MOVE_IMM: u8 = 0xb7;
const ADD_IMM: u8 = 0x07;
const MULTIPLY_IMM: u8 = 0x27;
const AND_IMM: u8 = 0x57;
const SHIFT_RIGHT_IMM: u8 = 0x77;
const TO_BE: u8 = 0xdc;
const JUMP_GT: u8 = 0x2d;
const JUMP_EQ_IMM: u8 = 0x15;
const JUMP: u8 = 0x05;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const MAP_LOOKUP: i32 = 1;
const TAIL_CALL: i32 = 12;
/// `struct __sk_buff`.
const MARK: i16 = 8;
const DATA: i16 = 76;
const DATA_END: i16 = 80;

/// Context in r6, data in r2; what is shorter than `length` leaves at once.
fn bounds(length: i32) -> Vec<Insn> {
    vec![
        insn(MOVE, 6, 1, 0, 0),
        insn(LOAD_W, 2, 6, DATA, 0),
        insn(LOAD_W, 3, 6, DATA_END, 0),
        insn(MOVE, 4, 2, 0, 0),
        insn(ADD_IMM, 4, 0, 0, length),
        insn(JUMP_GT, 4, 3, 1, 0),
        insn(JUMP, 0, 0, 2, 0),
        insn(MOVE_IMM, 0, 0, 0, -1),
        insn(EXIT, 0, 0, 0, 0),
    ]
}

fn finish(mut code: Vec<Insn>) -> Vec<Insn> {
    code.extend([insn(MOVE_IMM, 0, 0, 0, -1), insn(EXIT, 0, 0, 0, 0)]);
    code
}

fn map_address(register: u8, map: RawFd) -> [Insn; 2] {
    const PSEUDO_MAP_FD: u8 = 1;
    [insn(LOAD_WIDE, register, PSEUDO_MAP_FD, 0, map), 0]
}

/// The packet's number is the mark, which the kernel keeps from one run to the next.
fn generator(templates: &[Template], flows: u32, order: Order, target: RawFd) -> Vec<Insn> {
    let length = templates.iter().map(|template| template.bytes.len()).max().unwrap_or_default();
    let mut code = bounds(i32::try_from(length).expect("short"));
    code.extend([
        insn(LOAD_W, 7, 6, MARK, 0),
        insn(MOVE, 8, 7, 0, 0),
        insn(ADD_IMM, 8, 0, 0, 1),
        insn(STORE_W, 6, 8, MARK, 0),
    ]);
    let turns = u32::try_from(templates.len()).expect("few");
    assert!(turns.is_power_of_two() && turns <= 2 && flows.is_power_of_two(), "halves are told by a bit");
    code.extend([
        insn(MOVE, 9, 7, 0, 0),
        insn(AND_IMM, 9, 0, 0, (turns - 1).cast_signed()),
        insn(SHIFT_RIGHT_IMM, 7, 0, 0, turns.trailing_zeros().cast_signed()),
    ]);
    if order == Order::Scattered {
        code.push(insn(MULTIPLY_IMM, 7, 0, 0, STEP));
    }
    code.extend([
        insn(AND_IMM, 7, 0, 0, (flows - 1).cast_signed()),
        insn(MOVE, 8, 7, 0, 0),
        insn(AND_IMM, 8, 0, 0, (PORTS - 1).cast_signed()),
        insn(ADD_IMM, 8, 0, 0, FIRST_PORT),
        insn(TO_BE, 8, 0, 0, 16),
        insn(SHIFT_RIGHT_IMM, 7, 0, 0, PORTS.trailing_zeros().cast_signed()),
    ]);
    let writes: Vec<Vec<Insn>> = templates.iter().map(write).collect();
    if let [first, second] = &writes[..] {
        let skip = |insns: &[Insn]| i16::try_from(insns.len()).expect("short");
        code.push(insn(JUMP_EQ_IMM, 9, 0, skip(second) + 1, 0));
        code.extend(second);
        code.push(insn(JUMP, 0, 0, skip(first), 0));
    }
    code.extend(&writes[0]);
    code.push(insn(MOVE, 1, 6, 0, 0));
    code.extend(map_address(2, target));
    code.extend([insn(MOVE_IMM, 3, 0, 0, 0), insn(CALL, 0, 0, 0, TAIL_CALL)]);
    finish(code)
}

/// The packet's bytes; r8 is the port, r7 what is added to the half word.
fn write(template: &Template) -> Vec<Insn> {
    let offset = |at: usize| i16::try_from(at).expect("short");
    let mut code = Vec::new();
    let (words, rest) = template.bytes.as_chunks::<4>();
    for (number, word) in words.iter().enumerate() {
        code.push(insn(STORE_IMM_W, 2, 0, offset(number * 4), i32::from_le_bytes(*word)));
    }
    for (number, byte) in rest.iter().enumerate() {
        code.push(insn(STORE_IMM_B, 2, 0, offset(words.len() * 4 + number), i32::from(*byte)));
    }
    let high = u16::from_be_bytes([template.bytes[template.high_at], template.bytes[template.high_at + 1]]);
    code.extend([
        insn(STORE_H, 2, 8, offset(template.port_at), 0),
        insn(ADD_IMM, 7, 0, 0, i32::from(high)),
        insn(TO_BE, 7, 0, 0, 16),
        insn(STORE_H, 2, 7, offset(template.high_at), 0),
    ]);
    code
}

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;

fn create_program_array() -> io::Result<OwnedFd> {
    const PROG_ARRAY: u32 = 3;
    let mut words = [0; 32];
    words[..4].copy_from_slice(&[PROG_ARRAY, 4, 4, 1]);
    bpf::make(MAP_CREATE, &mut words)
}

fn update(array: RawFd, program: RawFd) -> io::Result<()> {
    let (key, value) = (0_u32, program.cast_unsigned());
    let mut words = [0; 32];
    words[0] = array.cast_unsigned();
    put_pointer(&mut words, 2, &raw const key);
    put_pointer(&mut words, 4, &raw const value);
    bpf::call(MAP_UPDATE, &mut words).map(drop)
}

fn load(code: &[Insn]) -> io::Result<OwnedFd> {
    const SCHED_CLS: u32 = 3;
    let license = c"GPL";
    let mut words = [0; 32];
    words[0] = SCHED_CLS;
    words[1] = u32::try_from(code.len()).expect("short");
    put_pointer(&mut words, 2, code.as_ptr());
    put_pointer(&mut words, 4, license.as_ptr());
    bpf::make(PROG_LOAD, &mut words)
}

fn run(program: RawFd, packet: &[u8], (device, first): (u32, u32), repeat: u32) -> io::Result<Duration> {
    let mut context = [0_u32; 48];
    context[MARK as usize / 4] = first;
    context[40 / 4] = device;
    let mut words = [0; 32];
    words[0] = program.cast_unsigned();
    words[2] = u32::try_from(packet.len()).expect("short");
    put_pointer(&mut words, 4, packet.as_ptr());
    words[8] = repeat;
    words[10] = u32::try_from(size_of_val(&context)).expect("short");
    put_pointer(&mut words, 12, context.as_ptr());
    loop {
        match bpf::call(PROG_TEST_RUN, &mut words) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(|_| Duration::from_nanos(u64::from(words[9]))),
        }
    }
}
