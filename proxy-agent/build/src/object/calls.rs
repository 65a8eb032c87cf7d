//! Who calls whom in an object: BPF-to-BPF calls, across sections and within one.

use std::collections::BTreeSet;

use object::{
    File, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex, SymbolKind,
};

/// Size of one instruction in bytes (a 64-bit load counts as two).
const INSN: u64 = 8;
/// Opcode `BPF_JMP | BPF_CALL`, <https://docs.kernel.org/bpf/standardization/instruction-set.html#jump-instructions>.
const CALL: u8 = 0x85;
/// `src_reg` of a call to another function of the object.
const PSEUDO_CALL: u8 = 1;

/// A function with code in the object.
#[derive(Debug)]
pub(super) struct Function {
    /// Symbol name, mangled.
    pub(super) name: String,
    /// Section name.
    pub(super) section: String,
    index: SectionIndex,
    /// Byte range in the section.
    range: std::ops::Range<u64>,
    /// Visible outside the object: a program or a global function.
    global: bool,
}

/// One call instruction.
#[derive(Debug)]
pub(super) struct Call {
    /// Index of the calling function.
    pub(super) caller: usize,
    /// Byte offset of the instruction in the caller's section.
    pub(super) offset: u64,
    callee: usize,
}

/// All functions and calls.
#[derive(Debug)]
pub(super) struct Calls {
    functions: Vec<Function>,
    calls: Vec<Call>,
}

impl Calls {
    pub(super) fn read(file: &File<'_>) -> Self {
        let functions: Vec<Function> =
            file.symbols().filter_map(|symbol| Function::of(file, &symbol)).collect();
        let mut calls = Vec::new();
        for section in file.sections() {
            let code = section.data().unwrap_or(&[]);
            for (offset, imm) in call_instructions(code) {
                let jump = (i64::from(imm) + 1) * INSN as i64;
                // A relocated call counts from its symbol, a resolved one from itself.
                let relocated = section.relocations().find(|(at, _)| *at == offset).and_then(|(_, reloc)| {
                    let RelocationTarget::Symbol(symbol) = reloc.target() else {
                        return None;
                    };
                    let symbol = file.symbol_by_index(symbol).ok()?;
                    Some((symbol.section_index()?, symbol.address().checked_add_signed(jump)?))
                });
                let local = || Some((section.index(), offset.checked_add_signed(jump)?));
                let find =
                    |(index, at): (SectionIndex, u64)| functions.iter().position(|f| f.holds(index, at));
                let callee = relocated.or_else(local).and_then(find);
                if let (Some(caller), Some(callee)) = (find((section.index(), offset)), callee) {
                    calls.push(Call { caller, offset, callee });
                }
            }
        }
        Self { functions, calls }
    }

    pub(super) fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// Calls of `callee`, in the order of the sections.
    pub(super) fn to(&self, callee: usize) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(move |call| call.callee == callee)
    }

    /// Names of the programs (global functions) from which `function` is reached, itself included.
    pub(super) fn entries(&self, function: usize) -> impl Iterator<Item = &str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![function];
        while let Some(next) = open.pop() {
            if reached.insert(next) {
                open.extend(self.to(next).map(|call| call.caller));
            }
        }
        let globals = reached.into_iter().filter(|&index| self.functions[index].global);
        globals.map(|index| self.functions[index].name.as_str())
    }
}

impl Function {
    fn of(file: &File<'_>, symbol: &object::Symbol<'_, '_>) -> Option<Self> {
        if symbol.kind() != SymbolKind::Text {
            return None;
        }
        let index = symbol.section_index()?;
        Some(Self {
            name: symbol.name().ok()?.to_owned(),
            section: file.section_by_index(index).ok()?.name().ok()?.to_owned(),
            index,
            range: symbol.address()..symbol.address() + symbol.size(),
            global: symbol.is_global(),
        })
    }

    fn holds(&self, index: SectionIndex, at: u64) -> bool {
        self.index == index && self.range.contains(&at)
    }
}

/// Byte offset and immediate of each BPF-to-BPF call. The second half of a 64-bit load has opcode 0: it cannot be
/// mistaken for a call.
fn call_instructions(code: &[u8]) -> impl Iterator<Item = (u64, i32)> {
    code.as_chunks::<8>().0.iter().zip((0u64..).step_by(INSN as usize)).filter_map(|(insn, offset)| {
        let [opcode, registers, _, _, imm @ ..] = *insn;
        let call = opcode == CALL && registers >> 4 == PSEUDO_CALL;
        call.then(|| (offset, i32::from_le_bytes(imm)))
    })
}
