//! Random worlds against the reference evaluator, over maps in memory.

use proptest::prelude::*;

use crate::fixture::*;
use crate::kernel::{Machine, ROOMY};
use crate::random::{attempts, facts};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_maps_do_what_the_reference_says(facts in facts()) {
        let mut machine = Machine::new(facts.settings.clone(), ROOMY);
        machine.apply(events(&facts).into_iter().chain(synced()));
        machine.sync();
        machine.assert_like(&facts, &attempts());
    }
}
