//! Every entry of one map, decoded by the table of layouts: what a field holds follows from its name and size.

use anyhow::bail;
use proxy_common::layout::{Field, Layout};
use proxy_common::maps::{MapKind, SPECS, spec};
use proxy_common::{Addr4, Addr6, Port, Proto};
use serde::Serialize;
use serde_json::{Map, Value};

use super::output::{Page, columns};
use super::reader::Reader;
use crate::kernel::sys::{Access, Cursor, RawMap};

/// Entries read in one system call.
const BATCH: usize = 4_096;

/// The content of a map.
#[derive(Serialize, Debug)]
pub(super) struct Dump {
    map: &'static str,
    entries: Vec<Entry>,
}

#[derive(Serialize, Debug)]
struct Entry {
    key: Value,
    value: Value,
}

/// Every entry of the map of that name. Slots and entries of arrays that hold only zeroes are left out.
pub(super) fn dump(reader: &Reader, name: &str) -> anyhow::Result<Dump> {
    let Some(spec) = spec(name) else {
        let names: Vec<_> = SPECS.iter().map(|spec| spec.name).collect();
        bail!("there is no map {name:?}; there are {}", names.join(", "));
    };
    if spec.kind == MapKind::SocketStorage {
        bail!("{name} is kept in the sockets themselves and cannot be listed");
    }
    if spec.kind == MapKind::Ring {
        bail!("{name} keeps nothing: `proxyctl monitor` shows what passes through it");
    }
    if spec.kind == MapKind::PerCpuArray {
        let early = spec.name == "early";
        let counters = if early { reader.pinned.early()? } else { reader.pinned.counters()? };
        let entry = |(reason, sum): (proxy_common::Reason, u64)| Entry {
            key: reason.text().into(),
            value: sum.into(),
        };
        return Ok(Dump { map: spec.name, entries: counters.into_iter().map(entry).collect() });
    }
    let map = reader.pinned.pins.open(spec.name, Access::Read)?;
    let is_array = matches!(spec.kind, MapKind::Array | MapKind::MappedArray);
    let per_cpu = spec.kind == MapKind::PerCpuHash;
    let mut entries = Vec::new();
    scan(&map, |key, value| {
        let sums = if per_cpu { sums(value, spec.value.size) } else { Vec::new() };
        let value = if per_cpu { &sums } else { value };
        if !(is_array && value.iter().all(|byte| *byte == 0)) {
            entries.push(Entry { key: decode(&spec.key, key), value: decode(&spec.value, value) });
        }
    })?;
    Ok(Dump { map: spec.name, entries })
}

fn scan(map: &RawMap, mut each: impl FnMut(&[u8], &[u8])) -> anyhow::Result<()> {
    let entry = map.entry();
    let mut keys = vec![0_u8; entry.key * BATCH];
    let mut values = vec![0_u8; entry.value * BATCH];
    let mut cursor = Cursor::default();
    while !cursor.done {
        let read = map.scan(&mut cursor, &mut keys, &mut values)?;
        for (key, value) in keys.chunks(entry.key).zip(values.chunks(entry.value)).take(read) {
            each(key, value);
        }
    }
    Ok(())
}

/// The copies of a value of all CPUs, which is made of counters, added up.
fn sums(copies: &[u8], size: usize) -> Vec<u8> {
    let counters = |copy: &[u8]| -> Vec<u64> {
        copy.chunks(8).map(|eight| eight.try_into().map_or(0, u64::from_ne_bytes)).collect()
    };
    let mut sums = vec![0_u64; size / 8];
    for copy in copies.chunks(size) {
        sums.iter_mut().zip(counters(copy)).for_each(|(sum, one)| *sum = sum.wrapping_add(one));
    }
    sums.into_iter().flat_map(u64::to_ne_bytes).collect()
}

fn decode(layout: &Layout, bytes: &[u8]) -> Value {
    if layout.fields.is_empty() {
        return field(layout.name, bytes);
    }
    let known = layout.fields.iter().filter(|Field { name, .. }| *name != "pad");
    let decoded = known.map(|Field { name, offset, size }| {
        let bytes = bytes.get(*offset..offset + size).unwrap_or_default();
        ((*name).to_owned(), field(name, bytes))
    });
    Value::Object(decoded.collect::<Map<_, _>>())
}

/// A plain field. Addresses and ports are in network order, numbers in the machine's.
fn field(name: &str, bytes: &[u8]) -> Value {
    let word = |at: usize| {
        let word = bytes.get(at * 4..at * 4 + 4).and_then(|four| four.try_into().ok());
        word.map_or(0, u32::from_ne_bytes)
    };
    match (name, bytes.len()) {
        ("addr" | "src" | "dst" | "address" | "Addr4", 4) => Addr4::from_word(word(0)).to_string().into(),
        ("addr" | "src" | "dst" | "address" | "Addr6", 16) => {
            Addr6::from_words([word(0), word(1), word(2), word(3)]).to_string().into()
        }
        ("port" | "sport" | "dport", 2) => {
            let half = bytes.try_into().map_or(0, u16::from_ne_bytes);
            Port::from_wire(half).number().into()
        }
        ("proto", 1) => Proto(bytes[0]).to_string().into(),
        ("eth_src" | "eth_dst", 6) => hex(bytes, ":").into(),
        ("cluster" | "local", 8) => format!("{}+{}", word(0), word(1)).into(),
        (_, 1) => bytes[0].into(),
        (_, 2) => bytes.try_into().map_or(0, u16::from_ne_bytes).into(),
        (_, 4) => word(0).into(),
        (_, 8) => bytes.try_into().map_or(0, u64::from_ne_bytes).into(),
        _ => hex(bytes, "").into(),
    }
}

fn hex(bytes: &[u8], between: &str) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(between)
}

impl Page for Dump {
    fn text(&self) -> String {
        let cells = |entry: &Entry| vec![line(&entry.key), line(&entry.value)];
        columns(vec!["KEY".into(), "VALUE".into()], self.entries.iter().map(cells).collect())
    }
}

fn line(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name}={}", line(value))).collect::<Vec<_>>().join(" ")
        }
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_decoded_by_the_table_of_layouts() {
        let frontends = spec("frontends4").unwrap();
        let key = decode(&frontends.key, &[10, 96, 0, 1, 0, 80, 6, 0]);
        assert_eq!(line(&key), "addr=10.96.0.1 port=80 proto=TCP");
        let mut value = vec![0; frontends.value.size];
        value[..4].copy_from_slice(&7_u32.to_ne_bytes());
        value[4..8].copy_from_slice(&3_u32.to_ne_bytes());
        assert_eq!(decode(&frontends.value, &value)["cluster"], Value::from("7+3"));
        assert_eq!(
            field("Addr6", &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            Value::from("fd00::1")
        );
    }
}
