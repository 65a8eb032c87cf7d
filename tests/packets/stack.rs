//! The stack: the kernel gives a chain of functions 512 bytes in all, and refuses the program that may need more. What
//! each chain takes is read from the object, so that a test names the deepest one before the verifier does.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use aya_obj::{
    Object,
    generated::{BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, bpf_insn},
};
use tests::object::bytes;

/// What the verifier allows (`MAX_BPF_STACK`).
const LIMIT: usize = 512;
/// Kernels before 6.11 round each frame up to this many bytes, and count at least one such step for each function
/// (`check_max_stack_depth`).
const STEP: usize = 32;
/// `r10`: the frame pointer, which only ever points above what is used.
const FRAME: u8 = 10;

/// One function: the bytes of its frame and where the functions that it calls begin.
#[derive(Default)]
struct Frame {
    bytes: usize,
    calls: BTreeSet<usize>,
}

/// A chain of calls: all its bytes, and each function with its own.
type Chain = (usize, Vec<(String, usize)>);

/// Bits of an instruction's code: loads and stores have a class below 4, `call` and `ld_imm64` a whole number.
const CLASS: u8 = 7;
const CALL: u8 = 0x85;
const LOAD_WIDE: u8 = 0x18;
const ADD: u8 = 0x07;
const MOVE: u8 = 0xbf;

/// How far below the frame pointer the function's instructions reach, and whom they call.
fn frame(program: &[bpf_insn], range: std::ops::Range<usize>) -> Frame {
    let mut frame = Frame::default();
    // Registers that hold a copy of the frame pointer until something is added to them.
    let mut copies = BTreeSet::new();
    for (at, insn) in program.iter().enumerate().take(range.end).skip(range.start) {
        let (src, dst) = (insn.src_reg(), insn.dst_reg());
        let mut reach = |depth: i32| frame.bytes = frame.bytes.max(depth.max(0).cast_unsigned() as usize);
        match insn.code {
            CALL if u32::from(src) == BPF_PSEUDO_CALL => {
                frame.calls.insert((at as i64 + 1 + i64::from(insn.imm)) as usize);
            }
            LOAD_WIDE if u32::from(src) == BPF_PSEUDO_FUNC => {
                frame.calls.insert((at as i64 + 1 + i64::from(insn.imm)) as usize);
            }
            MOVE if src == FRAME => {
                copies.insert(dst);
            }
            ADD if copies.remove(&dst) => reach(-insn.imm),
            code if code & CLASS < 4 && code != LOAD_WIDE => {
                let base = if code & CLASS == 1 { src } else { dst };
                if base == FRAME {
                    reach(-i32::from(insn.off));
                }
            }
            _ => {}
        }
    }
    frame
}

fn deepest(start: usize, frames: &BTreeMap<usize, (String, Frame)>) -> Chain {
    let (name, frame) = &frames[&start];
    let below = frame.calls.iter().map(|callee| deepest(*callee, frames)).max_by_key(|chain| chain.0);
    let (bytes, mut functions) = below.unwrap_or_default();
    functions.insert(0, (name.clone(), frame.bytes));
    (bytes + frame.bytes.max(1).next_multiple_of(STEP), functions)
}

/// The deepest chain of each program.
fn chains() -> BTreeMap<String, Chain> {
    let mut object = Object::parse(&bytes()).expect("the object can be parsed");
    let name = |function: &aya_obj::Function| {
        let short = format!("{:#}", rustc_demangle::demangle(&function.name));
        function.func_info.func_info.first().map(|info| (info.type_id, short))
    };
    let names: BTreeMap<u32, String> = object.functions.values().filter_map(name).collect();
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&text).expect("calls can be resolved");
    let chain = |program: &aya_obj::Program| {
        let linked = &object.functions[&program.function_key()];
        let infos = &linked.func_info.func_info;
        let starts: Vec<usize> = infos.iter().map(|info| info.insn_off as usize).collect();
        let ends = starts.iter().skip(1).copied().chain([linked.instructions.len()]);
        let frames = infos.iter().zip(starts.iter().zip(ends)).map(|(info, (start, end))| {
            (*start, (names[&info.type_id].clone(), frame(&linked.instructions, *start..end)))
        });
        deepest(0, &frames.collect())
    };
    object.programs.iter().map(|(name, program)| (name.clone(), chain(program))).collect()
}

#[test]
fn no_chain_of_calls_needs_more_stack_than_every_kernel_gives() {
    let chains = chains();
    assert!(chains.len() > 10, "{:?}", chains.keys());
    for (program, (bytes, functions)) in &chains {
        println!("{program}: {bytes} of {LIMIT} bytes: {functions:?}");
        assert!(*bytes <= LIMIT, "{program}: {functions:?}");
    }
}
