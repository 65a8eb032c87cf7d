//! The program ahead of that of pods' packets, and the slot in which it finds that one. It knows no packet.

use aya::maps::ProgramArray;

use crate::dataplane::Dataplane;

impl Dataplane {
    /// Loads `strangers`, and puts the program behind it where it looks.
    ///
    /// # Panics
    /// If the verifier refuses one of them.
    pub fn put_ahead(&mut self) {
        let behind = self.program("from_pod").fd().and_then(|fd| Ok(fd.try_clone()?)).expect("it is loaded");
        self.slots().set(0, &behind, 0).expect("the slot takes a program of its kind");
        self.program("strangers");
    }

    /// Takes the program behind it away, which the agent never does.
    ///
    /// # Panics
    /// If there is none.
    pub fn take_behind(&mut self) {
        self.slots().clear_index(&0).expect("the slot is filled");
    }

    fn slots(&mut self) -> ProgramArray<&mut aya::maps::MapData> {
        let map = self.object().map_mut("onward").expect("the object has it");
        ProgramArray::try_from(map).expect("it is an array of programs")
    }
}
