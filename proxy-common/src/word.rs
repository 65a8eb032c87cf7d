//! What numbers with a meaning have in common: how they lie in a map, how they compare, and, where they are sets of bits, how
//! they are put together. A newtype and not an enum: a pinned map may hold a number that we never wrote.

/// A number of its own type, as it lies in a map.
macro_rules! word {
    ($(#[$about:meta])+ pub struct $name:ident(pub $number:ty);) => {
        $(#[$about])+
        #[derive(
            Clone,
            Copy,
            PartialEq,
            Eq,
            PartialOrd,
            Ord,
            Hash,
            Default,
            zerocopy::FromBytes,
            zerocopy::IntoBytes,
            zerocopy::Immutable,
            zerocopy::KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $name(pub $number);
    };
}

/// Sets of bits.
macro_rules! bits {
    ($($name:ident),+) => {$(
        impl $name {
            /// All bits of `other` are set here.
            #[inline(always)]
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// These bits but those of `other`.
            #[inline(always)]
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// Both sets of bits.
            #[inline(always)]
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }
    )+};
}
