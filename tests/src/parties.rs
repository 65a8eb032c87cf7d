//! Whose packets connections in the tables may have: what the programs trust, and whether they may. Each entry of the tables must
//! have its source named, whoever has made it: looked at wherever a test ends.

use std::thread;

use proxy_common::{
    Address, Flow, FlowKey, V4, V6,
    maps::MapType,
    party::{Parties, Party},
};

use crate::{
    dataplane::Dataplane,
    named::Named,
    object::{self, Cell},
};

/// Entries that are looked at in each table: benches make hundreds of thousands.
const MANY: usize = 4_096;

impl Dataplane {
    /// Says whether the bits count.
    ///
    /// # Panics
    /// If the map is another.
    pub fn trust_parties(&mut self, state: Parties) {
        self.write_party(Parties::WORD, u64::from(state.0));
    }

    /// Names the source of an entry, as whoever makes one does.
    ///
    /// # Panics
    /// If the map is another.
    pub fn name_party<A: Address>(&mut self, addr: &A) {
        let party = Party::of(addr);
        let word = self.read_party(party.word);
        self.write_party(party.word, word | party.bit);
    }

    /// Takes the bit of an address away, which nobody does.
    ///
    /// # Panics
    /// If the map is another.
    pub fn forget_party<A: Address>(&mut self, addr: &A) {
        let party = Party::of(addr);
        let word = self.read_party(party.word);
        self.write_party(party.word, word & !party.bit);
    }

    /// Whether packets from the address are looked up.
    ///
    /// # Panics
    /// If the map is another.
    pub fn is_party<A: Address>(&mut self, addr: &A) -> bool {
        let party = Party::of(addr);
        party.is_in(self.read_party(party.word))
    }

    fn read_party(&mut self, word: u32) -> u64 {
        let Cell(value) =
            object::array::<u64>(self.object(), "parties").get(&word, 0).expect("a word of the map");
        value
    }

    fn write_party(&mut self, word: u32, value: u64) {
        object::array::<u64>(self.object(), "parties").set(word, Cell(value), 0).expect("a word of the map");
    }

    /// Sources of entries that nobody has named.
    fn unnamed<F: Named>(&mut self) -> Vec<F::Addr>
    where
        FlowKey<F::Addr>: MapType,
        Flow<F::Addr>: MapType,
    {
        let mut unnamed = Vec::new();
        for map in [F::HALF_OPEN, F::FLOWS] {
            let map = object::hash::<FlowKey<F::Addr>, Flow<F::Addr>>(self.object(), map);
            let sources: Vec<_> =
                map.keys().take(MANY).map(|key| key.expect("flows can be listed").0.src).collect();
            unnamed.extend(sources.into_iter().filter(|addr| !self.is_party(addr)));
        }
        unnamed
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_eq!(
                (self.unnamed::<V4>(), self.unnamed::<V6>()),
                (vec![], vec![]),
                "sources without a bit"
            );
        }
    }
}
