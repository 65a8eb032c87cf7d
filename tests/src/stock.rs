//! Objects whose programs the kernel has verified already. A verifier takes seconds where the processor is emulated, and
//! the tests of a process ask for the same few configurations: one object serves them one after another, with its maps
//! emptied in between. It knows nothing of what is in them.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
    thread,
};

use aya::Ebpf;
use proxy_common::DatapathConfig;
use zerocopy::IntoBytes as _;

use crate::{
    content::{content, empty},
    object,
};

/// Objects that nobody uses; the one that was used last is the last one. Each is a hundred descriptors.
const IDLE: usize = 4;

static STOCK: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

/// An object, and what it was loaded for.
struct Kept {
    made_for: Made,
    object: Ebpf,
}

/// What an object cannot change any more.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Made {
    config: Vec<u8>,
    /// Entries of each map.
    entries: u32,
}

/// An object with empty maps; some of its programs may be loaded.
pub(crate) struct Loan {
    /// There until it is dropped.
    object: Option<Ebpf>,
    /// None: it is not given back.
    made_for: Option<Made>,
}

impl Loan {
    /// One of the stock, or a new one for it.
    pub(crate) fn shared(config: DatapathConfig, entries: u32) -> Self {
        let made_for = Made { config: config.as_bytes().to_vec(), entries };
        let kept = {
            let mut stock = stock();
            let place = stock.iter().rposition(|kept| kept.made_for == made_for);
            place.map(|place| stock.remove(place))
        };
        let object = match kept {
            Some(Kept { mut object, .. }) => {
                empty(&mut object);
                // What cannot be emptied must not reach another test.
                assert_eq!(content(&object), BTreeMap::new(), "maps that were emptied");
                object
            }
            None => object::load_for_packets(config, entries),
        };
        Self { object: Some(object), made_for: Some(made_for) }
    }

    /// A new one, which nobody gets afterwards.
    pub(crate) fn own(config: DatapathConfig, entries: u32) -> Self {
        Self { object: Some(object::load_for_packets(config, entries)), made_for: None }
    }
}

fn stock() -> std::sync::MutexGuard<'static, Vec<Kept>> {
    // Nothing in here is half done when something panics.
    STOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Loan {
    fn drop(&mut self) {
        // Whoever looks into a failure must not have to think of other tests.
        if thread::panicking() {
            return;
        }
        if let (Some(object), Some(made_for)) = (self.object.take(), self.made_for.take()) {
            let surplus = {
                let mut stock = stock();
                stock.push(Kept { made_for, object });
                (stock.len() > IDLE).then(|| stock.remove(0))
            };
            // The kernel takes its time.
            drop(surplus);
        }
    }
}

impl Deref for Loan {
    type Target = Ebpf;

    fn deref(&self) -> &Ebpf {
        self.object.as_ref().expect("there until it is dropped")
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut Ebpf {
        self.object.as_mut().expect("there until it is dropped")
    }
}
