//! Where the members of the kernel's structures are, from its own description of its types (BTF). Reads bytes, and knows no
//! structure of its own accord.

use std::collections::BTreeMap;

/// `struct btf_header`: magic, version, flags, and five numbers, of which the last four are places behind it.
const MAGIC: u16 = 0xeb9f;
/// Kinds of the kernel's `btf.h`.
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;
/// Anonymous structures within structures that are looked into.
const DEPTH: usize = 8;

/// The structures and unions of a description, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Types<'a> {
    compounds: BTreeMap<u32, Compound<'a>>,
    /// The first structure of each name that has members.
    named: BTreeMap<&'a str, u32>,
}

#[derive(Debug)]
struct Compound<'a> {
    members: Vec<Member<'a>>,
}

#[derive(Debug)]
struct Member<'a> {
    name: &'a str,
    kind: u32,
    bits: u32,
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn word(&self, at: usize) -> Option<u32> {
        self.0.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    fn text(&self, at: usize) -> Option<&'a str> {
        let bytes = self.0.get(at..)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&bytes[..end]).ok()
    }
}

impl<'a> Types<'a> {
    /// Reads a description; `None` for what is none.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let head = Bytes(bytes);
        if head.word(0)? & 0xffff != u32::from(MAGIC) {
            return None;
        }
        let length = head.word(4)? as usize;
        let types = length + head.word(8)? as usize;
        let end = types + head.word(12)? as usize;
        let strings = Bytes(bytes.get(length + head.word(16)? as usize..)?);
        let mut all = Self::default();
        let (mut at, mut id) = (types, 1);
        while at < end {
            at = all.take(&head, &strings, at, id)?;
            id += 1;
        }
        Some(all)
    }

    /// Takes one type in; gives where the next begins.
    fn take(&mut self, head: &Bytes<'a>, strings: &Bytes<'a>, at: usize, id: u32) -> Option<usize> {
        let (name, info) = (head.word(at)?, head.word(at + 4)?);
        let (count, kind, by_bits) = ((info & 0xffff) as usize, (info >> 24) & 0x1f, info >> 31 != 0);
        let body = at + 12;
        let size = match kind {
            INT | VAR | DECL_TAG => 4,
            ARRAY => 12,
            STRUCT | UNION | DATASEC | ENUM64 => count * 12,
            ENUM | FUNC_PROTO => count * 8,
            _ => 0,
        };
        if kind == STRUCT || kind == UNION {
            let member = |index: usize| {
                let at = body + index * 12;
                let offset = head.word(at + 8)?;
                let bits = if by_bits { offset & 0x00ff_ffff } else { offset };
                Some(Member { name: strings.text(head.word(at)? as usize)?, kind: head.word(at + 4)?, bits })
            };
            let members: Option<Vec<_>> = (0..count).map(member).collect();
            let members = members?;
            if kind == STRUCT && !members.is_empty() {
                self.named.entry(strings.text(name as usize)?).or_insert(id);
            }
            self.compounds.insert(id, Compound { members });
        }
        Some(body + size)
    }

    /// Bytes from the beginning of a structure to a member, which may be in an anonymous part of it.
    pub(super) fn offset(&self, structure: &str, member: &str) -> Option<i16> {
        let bits = self.find(*self.named.get(structure)?, member, DEPTH)?;
        i16::try_from(bits / 8).ok()
    }

    fn find(&self, id: u32, wanted: &str, depth: usize) -> Option<u32> {
        let compound = self.compounds.get(&id)?;
        compound.members.iter().find_map(|member| match member.name {
            name if name == wanted => Some(member.bits),
            "" if depth > 0 => Some(member.bits + self.find(member.kind, wanted, depth - 1)?),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int first; union { int second; }; }`, whose numbers are 2 and, of the union, 3.
    fn description() -> Vec<u8> {
        let strings = b"\0outer\0first\0second\0";
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let types = [
            words(&[0, 1 << 24, 4, 32]),
            words(&[1, (4 << 24) | 2, 8, 7, 1, 0, 0, 3, 32]),
            words(&[0, (5 << 24) | 1, 4, 13, 1, 0]),
        ]
        .concat();
        let head = words(&[
            u32::from(MAGIC) | (1 << 16),
            24,
            0,
            types.len() as u32,
            types.len() as u32,
            strings.len() as u32,
        ]);
        [head, types, strings.to_vec()].concat()
    }

    #[test]
    fn members_are_found_also_in_anonymous_parts() {
        let bytes = description();
        let types = Types::read(&bytes).unwrap();
        assert_eq!(types.offset("outer", "first"), Some(0));
        assert_eq!(types.offset("outer", "second"), Some(4));
        assert_eq!(types.offset("outer", "third"), None);
        assert_eq!(types.offset("inner", "first"), None);
        assert!(Types::read(&bytes[1..]).is_none());
        assert!(Types::read(&bytes[..40]).is_none());
    }

    #[test]
    fn this_kernels_structures_are_described() {
        let bytes = std::fs::read(crate::kernel::preflight::TYPES).unwrap();
        let types = Types::read(&bytes).unwrap();
        for (structure, member) in super::super::MEMBERS {
            assert!(types.offset(structure, member).is_some(), "{structure}.{member}");
        }
    }
}
