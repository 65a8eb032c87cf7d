//! Source lines of instructions, from `.BTF.ext`
//! (<https://docs.kernel.org/bpf/btf.html#btf-ext-section>). An object without them has no sites, nothing worse.

use object::File;

/// `.BTF.ext` line records per section.
#[derive(Debug, Default)]
pub(super) struct Lines {
    records: Vec<Record>,
}

#[derive(Debug)]
struct Record {
    section: String,
    /// Byte offset of the first instruction that belongs to the line.
    offset: u64,
    file: String,
    line: u32,
}

impl Lines {
    pub(super) fn read(file: &File<'_>) -> Self {
        Self { records: parse(super::data(file, ".BTF"), super::data(file, ".BTF.ext")).unwrap_or_default() }
    }

    /// `file:line` of the instruction at `offset` (bytes) of `section`.
    pub(super) fn site(&self, section: &str, offset: u64) -> Option<String> {
        let before =
            self.records.iter().filter(|record| record.section == section && record.offset <= offset);
        before.max_by_key(|record| record.offset).map(|record| format!("{}:{}", record.file, record.line))
    }
}

fn parse(btf: &[u8], ext: &[u8]) -> Option<Vec<Record>> {
    let strings = btf.get((word(btf, 4)? + word(btf, 16)?) as usize..)?;
    let base = word(ext, 4)? as usize;
    let (start, len) = (word(ext, 16)? as usize, word(ext, 20)? as usize);
    let info = ext.get(base + start..base + start + len)?;
    let size = word(info, 0)? as usize;
    let mut rest = info.get(4..)?;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (section, count) = (text(strings, word(rest, 0)?)?, word(rest, 4)? as usize);
        let body = rest.get(8..8 + count * size)?;
        for record in body.chunks_exact(size) {
            records.push(Record {
                section: section.clone(),
                offset: word(record, 0)?.into(),
                file: text(strings, word(record, 4)?)?,
                // The low ten bits are the column.
                line: word(record, 12)? >> 10,
            });
        }
        rest = rest.get(8 + count * size..)?;
    }
    Some(records)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

fn text(strings: &[u8], at: u32) -> Option<String> {
    let bytes = strings.get(at as usize..)?;
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}
