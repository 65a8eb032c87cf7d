//! Reads a linked BPF object and finds what the kernel would refuse with a message that helps nobody.
//!
//! A reachable panic is such a case: the verifier says `last insn is not an exit or jmp` and verifies nothing, because
//! a function that never returns ends without `exit`. Here the call, its source line and the programs that reach it
//! are named.

mod calls;
mod lines;

use std::fmt;

use ::object::{
    File, Object as _, ObjectSection as _, ObjectSymbol as _,
    build::elf::{Builder, SectionData},
};

use crate::Error;
use calls::{Call, Calls};

/// A part of a symbol's readable name that says "this is a panic".
const PANICS: [&str; 5] =
    ["core::panicking::", "rust_begin_unwind", "_fail", "unwrap_failed", "expect_failed"];

/// Something because of which the object must not be embedded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Defect {
    /// Not a BPF object at all, or a truncated one.
    Malformed(String),
    /// No BTF: maps have no types and kernel messages no source lines.
    NoBtf,
    /// A function that no program, map or library defines.
    Undefined(String),
    /// Code that can panic.
    Panic {
        /// Readable name of the panic function.
        panic: String,
        /// The function with the call; `None`: nothing calls it, but it is there.
        caller: Option<String>,
        /// `file:line` of the call.
        site: Option<String>,
        /// Entry functions from which the call is reached.
        programs: Vec<String>,
    },
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "it is not a BPF object: {why}"),
            Self::NoBtf => {
                write!(f, "it has no BTF; was it built without debug information or with another linker?")
            }
            Self::Undefined(name) => write!(f, "it calls {name}, which does not exist for BPF"),
            Self::Panic { panic, caller, site, programs } => {
                write!(
                    f,
                    "{}can panic ({panic})",
                    site.as_ref().map_or(String::new(), |site| format!("{site} "))
                )?;
                if let Some(caller) = caller {
                    write!(f, " in {caller}")?;
                }
                if !programs.is_empty() {
                    write!(f, ", reached from {}", programs.join(", "))?;
                }
                write!(f, "; mask the index, use .get(), or divide by a constant")
            }
        }
    }
}

/// Accepts an object that can be embedded.
///
/// # Errors
/// [`Error::Refused`] with every [`Defect`].
pub fn check(bytes: &[u8]) -> Result<(), Error> {
    let defects = match File::parse(bytes) {
        Ok(file) => defects(&file),
        Err(error) => vec![Defect::Malformed(error.to_string())],
    };
    if defects.is_empty() { Ok(()) } else { Err(Error::Refused(defects)) }
}

/// The object without DWARF: nine tenths of its size, and nothing that a loader or the kernel reads. BTF, which has the
/// types and source lines, stays.
///
/// # Errors
/// [`Error::Refused`] when it is no object.
pub fn without_dwarf(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let refuse = |error: ::object::build::Error| Error::Refused(vec![Defect::Malformed(error.to_string())]);
    let mut builder = Builder::read(bytes).map_err(refuse)?;
    for section in &mut builder.sections {
        section.delete =
            [&b".debug_"[..], b".rel.debug_"].iter().any(|prefix| section.name.starts_with(prefix));
    }
    builder.delete_orphans();
    // LLVM keeps the names of sections and symbols in one table; the writer wants one each.
    let names = builder.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = ::object::elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut slim = Vec::new();
    builder.write(&mut slim).map_err(refuse)?;
    Ok(slim)
}

fn defects(file: &File<'_>) -> Vec<Defect> {
    let mut found = Vec::new();
    if file.architecture() != ::object::Architecture::Bpf {
        return vec![Defect::Malformed(format!("its machine is {:?}", file.architecture()))];
    }
    if [".BTF", ".BTF.ext"].iter().any(|name| file.section_by_name(name).is_none()) {
        found.push(Defect::NoBtf);
    }
    found.extend(file.symbols().filter(|symbol| symbol.is_undefined()).filter_map(|symbol| {
        symbol.name().ok().filter(|name| !name.is_empty()).map(|name| Defect::Undefined(readable(name)))
    }));
    found.extend(panics(file));
    found
}

fn panics(file: &File<'_>) -> Vec<Defect> {
    let calls = Calls::read(file);
    let lines = lines::Lines::read(file);
    let mut found = Vec::new();
    for (index, function) in calls.functions().iter().enumerate() {
        let panic = readable(&function.name);
        if !is_panic(&panic) {
            continue;
        }
        let outside = |call: &&Call| !is_panic(&readable(&calls.functions()[call.caller].name));
        let sites: Vec<&Call> = calls.to(index).filter(outside).collect();
        for call in &sites {
            let caller = &calls.functions()[call.caller];
            found.push(Defect::Panic {
                panic: panic.clone(),
                caller: Some(readable(&caller.name)),
                site: lines.site(&caller.section, call.offset),
                programs: calls.entries(call.caller).map(readable).collect(),
            });
        }
        // A panic function that only other panic functions call is reported with those.
        if calls.to(index).next().is_none() {
            found.push(Defect::Panic { panic, caller: None, site: None, programs: Vec::new() });
        }
    }
    found
}

fn is_panic(name: &str) -> bool {
    PANICS.iter().any(|part| name.contains(part))
        && (name.starts_with("core::") || name.contains("rust_begin_unwind"))
}

fn readable(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

/// The bytes of a section that may be absent.
fn data<'a>(file: &File<'a>, name: &str) -> &'a [u8] {
    file.section_by_name(name).and_then(|section| section.data().ok()).unwrap_or(&[])
}
