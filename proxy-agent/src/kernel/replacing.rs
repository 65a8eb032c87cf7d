//! Tells the programs while elements of hashes are replaced, and until no program runs that did meanwhile: the kernel lets a lookup
//! miss such an element, and who knows looks again (`docs/decisions/0049-*`). Knows no map but the one that says so.

use std::{
    io,
    sync::{
        Arc,
        atomic::{
            AtomicU32,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use proxy_model::plan::GRACE_MILLIS;

use super::{error::Error, memory::Slots, pins::Pins, sys::Access};

const MAP: &str = "replacing";

/// Set in the word while something is replaced.
const WRITING: u32 = 1;
/// Set then, too, and afterwards, until nobody can have missed it any more.
const WRITTEN: u32 = 2;
/// What is above counts, so that the end of one write is not taken for that of another.
const ONCE: u32 = 4;

const fn begun(word: u32) -> u32 {
    word | WRITTEN | WRITING
}

const fn done(word: u32) -> u32 {
    word.wrapping_add(ONCE) & !WRITING
}

/// The word that programs read, of which there is one writer. Zero says that nothing is replaced; the thread behind it says so.
#[derive(Debug)]
pub(super) struct Replacing {
    word: Arc<Slots<u32>>,
    done: SyncSender<()>,
}

/// Something is replaced as long as it lives.
#[derive(Debug)]
#[must_use = "nothing is said any more once it is dropped"]
pub(super) struct Meanwhile {
    word: Arc<Slots<u32>>,
    done: SyncSender<()>,
}

impl Replacing {
    /// Takes the word over; whoever had it may have been ended in the middle of a write.
    pub(super) fn start(pins: &Pins) -> Result<Self, Error> {
        let failed = |source| Error::Map { verb: "map the memory of", map: MAP, source };
        let word = Slots::open(pins, MAP, Access::Write)?.map(Arc::new);
        let word = word.ok_or_else(|| failed(io::ErrorKind::PermissionDenied.into()))?;
        let (done, dones) = sync_channel(1);
        let shared = Arc::clone(&word);
        let thread = thread::Builder::new().name("replacing".into());
        thread.spawn(move || settle(&shared, &dones)).map_err(failed)?;
        let replacing = Self { word, done };
        drop(replacing.begin());
        Ok(replacing)
    }

    /// From now on something is replaced. By one at a time.
    pub(super) fn begin(&self) -> Meanwhile {
        if let Some(word) = of(&self.word) {
            word.store(begun(word.load(Relaxed)), SeqCst);
        }
        // What is written is seen by nobody who does not see that it is being written.
        fence(SeqCst);
        Meanwhile { word: Arc::clone(&self.word), done: self.done.clone() }
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        if let Some(word) = of(&self.word) {
            word.store(done(word.load(Relaxed)), SeqCst);
        }
        // One that is full has told already, and what is told is looked for afterwards.
        let _ = self.done.try_send(());
    }
}

/// Takes the word back whenever something was replaced, and nothing since.
fn settle(word: &Slots<u32>, dones: &Receiver<()>) {
    while dones.recv().is_ok() {
        let Some(word) = of(word) else { return };
        let seen = word.load(SeqCst);
        if seen & WRITING != 0 {
            // Who writes tells again.
            continue;
        }
        wait_for_programs();
        let _ = word.compare_exchange(seen, 0, SeqCst, SeqCst);
    }
}

fn of(word: &Slots<u32>) -> Option<&AtomicU32> {
    word.word(0, 0)
}

/// Returns when every program has ended that runs now: they run as readers of RCU, and membarrier(2) waits for all of those. Where
/// it is not to be had (`nohz_full`), nor is a processor waited for that is the only one: the time that slots rest, too, is long
/// enough.
fn wait_for_programs() {
    // SAFETY: the call takes three numbers and touches no memory.
    let waited = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) } == 0;
    if !waited || thread::available_parallelism().is_ok_and(|processors| processors.get() == 1) {
        thread::sleep(Duration::from_millis(GRACE_MILLIS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_never_zero_from_when_a_write_begins_and_no_two_writes_end_alike() {
        // Nothing, what a killed agent leaves in the middle, what it leaves behind, and the end of all numbers.
        for word in [0, 1, WRITTEN | WRITING, ONCE | WRITTEN, u32::MAX - WRITING, u32::MAX] {
            let writing = begun(word);
            assert_eq!(writing & (WRITING | WRITTEN), WRITING | WRITTEN, "{word:#x}");
            let written = done(writing);
            assert_eq!((written & WRITING, written & WRITTEN), (0, WRITTEN), "{word:#x}");
            assert_ne!(done(begun(written)), written, "{word:#x}");
        }
    }
}
