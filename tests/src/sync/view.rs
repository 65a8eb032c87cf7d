//! The frontends of a node as they are in the kernel, by the pinned map: looked at every few microseconds until they change.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aya::maps::{HashMap, Map, MapData};
use proxy_common::{Addr4, Frontend, FrontendKey};

use crate::object::Cell;

/// Between two looks. Without a pause, one that comes before all else would keep the kernel's own threads from the processor,
/// and with them the packets that it waits for.
pub const PAUSE: Duration = Duration::from_micros(10);
/// How long a change may take before it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pinned map.
pub struct View {
    map: HashMap<MapData, Cell<FrontendKey<Addr4>>, Cell<Frontend>>,
}

impl View {
    /// Opens it below a node's folder of pins, whatever version the layout has.
    ///
    /// # Errors
    /// There is none.
    pub fn open(bpf_root: &Path) -> Result<Self> {
        let layouts =
            std::fs::read_dir(bpf_root).with_context(|| format!("reading {}", bpf_root.display()))?;
        let mut pins =
            layouts.flatten().map(|layout| layout.path().join("maps/frontends4")).filter(|pin| pin.exists());
        let pin = pins.next().with_context(|| format!("no pinned frontends below {}", bpf_root.display()))?;
        let data = MapData::from_pin(&pin).with_context(|| format!("opening {}", pin.display()))?;
        Ok(Self { map: HashMap::try_from(Map::HashMap(data))? })
    }

    /// What is behind a frontend now.
    #[must_use]
    pub fn get(&self, key: &FrontendKey<Addr4>) -> Option<Frontend> {
        self.map.get(&Cell(*key), 0).ok().map(|cell| cell.0)
    }

    /// Puts a frontend there, as somebody who has no business to.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn put(&mut self, key: &FrontendKey<Addr4>, value: &Frontend) -> Result<()> {
        Ok(self.map.insert(Cell(*key), Cell(*value), 0)?)
    }

    /// Takes a frontend away in the same manner.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn remove(&mut self, key: &FrontendKey<Addr4>) -> Result<()> {
        Ok(self.map.remove(&Cell(*key))?)
    }

    /// Looks until it is something else; gives when it was seen.
    ///
    /// # Errors
    /// It stays what it was.
    pub fn changed(&self, key: &FrontendKey<Addr4>, before: Option<Frontend>) -> Result<Instant> {
        self.until(key, |now| now != before)
    }

    /// Looks until it is so; gives when it was seen.
    ///
    /// # Errors
    /// It does not come to be so.
    pub fn until(
        &self,
        key: &FrontendKey<Addr4>,
        is_so: impl Fn(Option<Frontend>) -> bool,
    ) -> Result<Instant> {
        let end = Instant::now() + PATIENCE;
        loop {
            let now = self.get(key);
            let at = Instant::now();
            if is_so(now) {
                return Ok(at);
            }
            if at > end {
                bail!("a change did not come to the map within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(PAUSE);
        }
    }
}
