//! Removes what is over: a second pair of hands beside the one that writes what is served, with handles of its own, so
//! that no change waits for a scan of a million flows. Knows no plans; touches no frontend and no backend.

use std::{path::PathBuf, time::Instant};

use proxy_common::{V4, V6};
use proxy_model::Moved;

use super::{
    Kernel,
    clock::{Clock, Jiffies},
    error::Error,
    gc::{self, Collected},
    moved::{self, LetGo, Whom},
    namespace::Reach,
    parties,
    pins::Pinned,
    settings::SocketRoad,
    stale::Serving,
    sys::Access,
};

/// Handles of what is cleaned up. Several may work at once, and beside the kernel programs: each removes what it has
/// judged, and what is gone already is no error.
#[derive(Debug)]
pub struct Caretaker {
    maps: Pinned,
    clock: Clock,
    road: SocketRoad,
    cgroup_root: PathBuf,
}

impl Kernel {
    /// Somebody who cleans up after this kernel room's programs, from now on and from any thread.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::Program`].
    pub fn caretaker(&self) -> Result<Caretaker, Error> {
        let program = self.programs.clock()?.try_clone_to_owned();
        let program = program.map_err(Error::path("take along", "the program that tells the time"))?;
        Ok(Caretaker {
            maps: Pinned::open(self.maps.pins.clone(), Access::Write)?,
            clock: Clock::start(program, Instant::now())?,
            road: self.road,
            cgroup_root: self.settings.cgroup_root.clone(),
        })
    }
}

impl Caretaker {
    /// Names the sources of all entries that programs before this start's have made, if that has not been done. Bounded by the size
    /// of the maps.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn name_parties(&self) -> Result<(), Error> {
        parties::name_all(&self.maps)
    }

    /// Removes flows and affinities that are over, and UDP flows to backends that are silent and do not serve their
    /// Service. Bounded by the size of the maps; call it every ten seconds.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Program`].
    pub fn collect(&mut self, now: Instant, serving: &Serving) -> Result<Collected, Error> {
        gc::collect(&self.maps, &mut self.clock, now, serving)
    }

    /// Ends the UDP flows, and closes the connected UDP sockets, whose backend serves their Service no more: the
    /// client's next datagram finds another one. To be called when the frontends name the new backends. What can be
    /// done is done, also after an error.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Path`], [`Error::Netlink`]: the first of them.
    pub fn let_go(&self, v4: &Moved<V4>, v6: &Moved<V6>) -> (LetGo, Result<(), Error>) {
        moved::let_go(&self.maps, v4, v6, Reach::of(self.road, &self.cgroup_root))
    }

    /// Closes the sockets of [`LetGo::carried`] that no entry of those Services serves any more; gives how many still are.
    ///
    /// # Errors
    /// As [`Self::let_go`].
    pub fn let_go_of_carried(&self, v4: &Moved<V4>, v6: &Moved<V6>) -> (LetGo, Result<(), Error>) {
        let mut gone = LetGo::default();
        let reach = Reach::of(self.road, &self.cgroup_root);
        let result = moved::close_sockets(&self.maps, v4, v6, reach, Whom::Carried, &mut gone);
        (gone, result)
    }

    /// The moment `now` as flow entries have it; `None` in the first second, while the clock's rate is not known.
    ///
    /// # Errors
    /// [`Error::Program`].
    pub fn jiffies(&mut self, now: Instant) -> Result<Option<Jiffies>, Error> {
        self.clock.read(now)
    }
}
