//! Numbers by which a run can be repeated.

/// Where a run begins that nobody gave another seed.
const SEED: u64 = 1;

/// A generator: SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    /// From `SLUICE_SEED`, or else always the same; says which.
    pub(crate) fn new() -> Self {
        let given = std::env::var("SLUICE_SEED").ok();
        let seed = given.map_or(SEED, |text| text.parse().expect("SLUICE_SEED is a number"));
        println!("SLUICE_SEED={seed}");
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let number = mixed ^ (mixed >> 31);
        usize::try_from(number % u64::try_from(bound).unwrap()).unwrap()
    }

    /// One of these.
    pub(crate) fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}
