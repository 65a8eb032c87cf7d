//! Which bytes of an entry of one layout are which of another: fields are the same when their names and sizes are. Pure.

use super::abi::{MapAbi, TypeAbi};

/// How the entries of one map become entries of another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Moves {
    pub(super) key: Vec<Move>,
    pub(super) value: Vec<Move>,
}

/// So many bytes from there to here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Move {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) size: usize,
}

impl Moves {
    /// `None` if entries of the one cannot be told apart as entries of the other, or nothing of a value would be left. What
    /// only one of the values has is dropped, or zero, which is the default of every field.
    pub(super) fn by_name(from: &MapAbi, to: &MapAbi) -> Option<Self> {
        let key = moves(&from.key, &to.key)?;
        let named = |of: &TypeAbi| of.fields.iter().filter(|field| field.name != "pad").count();
        let whole = to.key.fields.is_empty() || (key.len(), key.len()) == (named(&from.key), named(&to.key));
        let value = moves(&from.value, &to.value)?;
        (whole && !value.is_empty()).then_some(Self { key, value })
    }
}

fn moves(from: &TypeAbi, to: &TypeAbi) -> Option<Vec<Move>> {
    if from.fields.is_empty() || to.fields.is_empty() {
        let same = (&from.name, from.size, from.fields.len()) == (&to.name, to.size, to.fields.len());
        return same.then(|| vec![Move { from: 0, to: 0, size: to.size }]);
    }
    let find = |name: &str, size| from.fields.iter().find(|field| field.name == name && field.size == size);
    let wanted = to.fields.iter().filter(|field| field.name != "pad");
    let moves = wanted.filter_map(|field| {
        let source = find(&field.name, field.size)?;
        let fits = source.offset + source.size <= from.size && field.offset + field.size <= to.size;
        fits.then_some(Move { from: source.offset, to: field.offset, size: field.size })
    });
    Some(moves.collect())
}

/// Entries of `size` bytes each made of those in `from`, of `step` bytes each.
pub(super) fn translated(moves: &[Move], from: &[u8], step: usize, size: usize) -> Vec<u8> {
    let mut all = vec![0; from.len() / step * size];
    for (from, to) in from.chunks_exact(step).zip(all.chunks_exact_mut(size)) {
        for one in moves {
            to[one.to..one.to + one.size].copy_from_slice(&from[one.from..one.from + one.size]);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::abi::FieldAbi;
    use super::*;

    fn of(fields: &[(&str, usize)]) -> TypeAbi {
        let mut offset = 0;
        let field = |(name, size): &(&str, usize)| {
            offset += size;
            FieldAbi { name: (*name).to_owned(), offset: offset - size, size: *size }
        };
        let fields: Vec<_> = fields.iter().map(field).collect();
        TypeAbi { name: "T".to_owned(), size: offset, fields }
    }

    fn map(key: &[(&str, usize)], value: &[(&str, usize)]) -> MapAbi {
        MapAbi { kind: "Hash".to_owned(), key: of(key), value: of(value) }
    }

    #[test]
    fn fields_go_by_their_names_wherever_they_lie_and_what_is_new_is_zero() {
        let old = map(&[("addr", 4), ("port", 2), ("pad", 2)], &[("seen", 4), ("gone", 1), ("flags", 1)]);
        let new = map(&[("port", 2), ("addr", 4)], &[("new", 2), ("flags", 1), ("seen", 4)]);
        let moves = Moves::by_name(&old, &new).unwrap();
        assert_eq!(
            translated(&moves.key, &[1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 9, 10, 11, 12, 0, 0], 8, 6),
            [5, 6, 1, 2, 3, 4, 11, 12, 7, 8, 9, 10]
        );
        assert_eq!(translated(&moves.value, &[1, 2, 3, 4, 5, 6], 6, 7), [0, 0, 6, 1, 2, 3, 4]);
    }

    #[test]
    fn a_field_of_another_size_has_another_meaning_and_a_key_must_be_carried_whole() {
        let old = map(&[("addr", 4)], &[("seen", 4), ("kept", 1)]);
        let wider = map(&[("addr", 4)], &[("seen", 8), ("kept", 1)]);
        assert_eq!(Moves::by_name(&old, &wider).unwrap().value, [Move { from: 4, to: 8, size: 1 }]);
        for (from, to) in [
            (map(&[("addr", 4)], &[("x", 1)]), map(&[("addr", 4), ("port", 2)], &[("x", 1)])),
            (map(&[("addr", 4), ("port", 2)], &[("x", 1)]), map(&[("addr", 4)], &[("x", 1)])),
            (map(&[("addr", 4)], &[("x", 1)]), map(&[("addr", 4)], &[("y", 1)])),
        ] {
            assert_eq!(Moves::by_name(&from, &to), None);
        }
    }
}
