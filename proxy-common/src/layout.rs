//! Describes the layout of map types as data: for the golden `map-abi.txt`, `docs/maps.md` and the dump of a
//! map's raw bytes. Knows sizes and offsets, nothing of meaning.

/// One in a build for the tests of an upgrade (feature `layout-next`), in which some types are laid out otherwise.
pub const NEXT: usize = cfg!(feature = "layout-next") as usize;

/// One field of a layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Bytes from the start.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
}

/// The layout of one type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The type's name in Rust.
    pub name: &'static str,
    /// Bytes.
    pub size: usize,
    /// Alignment in bytes.
    pub align: usize,
    /// In the order of their offsets; empty for a plain number.
    pub fields: &'static [Field],
}

/// Describes a struct. A forgotten field leaves a gap, which [`is_dense`] finds at compile time.
macro_rules! layout {
    ($ty:ty as $name:literal { $($field:ident: $fty:ty),* $(,)? }) => {
        $crate::layout::Layout {
            name: $name,
            size: size_of::<$ty>(),
            align: align_of::<$ty>(),
            fields: &[$($crate::layout::Field {
                name: stringify!($field),
                offset: core::mem::offset_of!($ty, $field),
                size: size_of::<$fty>(),
            }),*],
        }
    };
}

/// Describes a plain number.
macro_rules! plain {
    ($ty:ty) => {
        $crate::layout::Layout {
            name: stringify!($ty),
            size: size_of::<$ty>(),
            align: align_of::<$ty>(),
            fields: &[],
        }
    };
}

pub(crate) use {layout, plain};

/// The fields cover the whole size without a gap and in order; checked for every map type at compile time.
pub const fn is_dense(layout: &Layout) -> bool {
    let mut end = 0;
    let mut i = 0;
    while i < layout.fields.len() {
        if layout.fields[i].offset != end {
            return false;
        }
        end += layout.fields[i].size;
        i += 1;
    }
    layout.fields.is_empty() || end == layout.size
}
