//! Loads the embedded object: maps at their pins, constants, and the programs that this node needs and no others.
//! Nothing is attached here.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{CgroupSock, CgroupSockAddr, ProgramError, SchedClassifier, Xdp},
};
use proxy_common::{DatapathConfig, maps::SPECS, node::READS_IN_ORDER};
use zerocopy::IntoBytes;

use super::{
    clsact,
    error::Error,
    hook::Hook,
    migrate::Tables,
    object, onward,
    pins::Pins,
    settings::{Settings, SocketRoad, Tallies, Tunnels},
    shape,
};

/// Name of the program that tells the kernel's jiffies.
pub(super) const CLOCK: &str = "clock";

/// There where the kernel was built with multipath TCP.
const MPTCP: &str = "/proc/sys/net/mptcp/enabled";

/// The loaded programs. Dropping them detaches nothing that is pinned.
pub struct Programs {
    object: Ebpf,
    loaded: BTreeMap<Hook, &'static str>,
    constants: DatapathConfig,
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Programs").field(&self.loaded.keys()).finish()
    }
}

impl Programs {
    /// Loads what `settings` need, with `road` in place of [`SocketRoad::Auto`]. Maps that are pinned are used
    /// as they are, so they must have been compared before; the others are made and pinned.
    ///
    /// # Errors
    /// [`Error::NewMap`] when maps cannot be made, [`Error::Verifier`] for a program the kernel refuses.
    pub fn load(pins: &Pins, settings: &Settings, road: SocketRoad) -> Result<Self, Error> {
        Self::load_over(pins, settings, road, Tables::One)
    }

    /// The same, over two tables of flows while connections move from one to the other.
    ///
    /// # Errors
    /// As [`Programs::load`].
    pub(super) fn load_over(
        pins: &Pins,
        settings: &Settings,
        road: SocketRoad,
        tables: Tables,
    ) -> Result<Self, Error> {
        let constants = DatapathConfig {
            two_tables: u8::from(tables != Tables::One),
            ..constants(settings, road, netns_cookie()?)
        };
        let paths: Vec<PathBuf> = SPECS.iter().map(|spec| tables.path(pins, spec)).collect();
        let mut loader = EbpfLoader::new();
        loader.override_global("CONFIG", constants.as_bytes(), true);
        for (spec, path) in SPECS.iter().zip(&paths) {
            loader.map_pin_path(spec.name, path.as_path());
            let entries = shape::entries(spec, settings.families, settings.sizes);
            if entries > 0 {
                loader.map_max_entries(spec.name, entries);
            }
        }
        let object = loader.load(object::BYTES).map_err(Error::loading)?;
        let mut programs = Self { object, loaded: BTreeMap::new(), constants };
        for hook in Hook::ALL.into_iter().filter(|hook| hook.needed(settings.families, road, settings.driver))
        {
            programs.load_one(hook.name())?;
            programs.loaded.insert(hook, hook.name());
        }
        programs.load_one(CLOCK)?;
        if programs.constants.ahead != 0 {
            programs.put_ahead(pins)?;
        }
        Ok(programs)
    }

    fn load_one(&mut self, name: &'static str) -> Result<(), Error> {
        let program = self.object.program_mut(name).ok_or(Error::NoProgram { name })?;
        if let Ok(tc) = <&mut SchedClassifier>::try_from(&mut *program) {
            return patiently(|| tc.load()).map_err(Error::refused(name));
        }
        if let Ok(socket) = <&mut CgroupSock>::try_from(&mut *program) {
            return patiently(|| socket.load()).map_err(Error::refused(name));
        }
        if let Ok(xdp) = <&mut Xdp>::try_from(&mut *program) {
            return patiently(|| xdp.load()).map_err(Error::refused(name));
        }
        let cgroup: &mut CgroupSockAddr = program.try_into().map_err(Error::refused(name))?;
        patiently(|| cgroup.load()).map_err(Error::refused(name))
    }

    /// What hangs at pods' devices is the program ahead from now on, and the one behind it can be found.
    fn put_ahead(&mut self, pins: &Pins) -> Result<(), Error> {
        self.load_one(onward::AHEAD)?;
        onward::lead(&mut self.object)?;
        self.loaded.insert(Hook::FromPod, onward::AHEAD);
        let both = self.ahead().zip(self.map(onward::MAP));
        let (number, array) = both.ok_or(Error::NoProgram { name: onward::AHEAD })?;
        onward::hold(pins, number, array)
    }

    /// The kernel's number of the program that hangs ahead of that of pods' packets; `None` where there is none.
    #[must_use]
    pub fn ahead(&self) -> Option<u32> {
        if self.constants.ahead != 0 { self.id(Hook::FromPod) } else { None }
    }

    /// What they were loaded with.
    pub(super) fn constants(&self) -> &DatapathConfig {
        &self.constants
    }

    /// The hooks that have a program.
    pub fn hooks(&self) -> impl Iterator<Item = Hook> + '_ {
        self.loaded.keys().copied()
    }

    /// The descriptor of a hook's program.
    ///
    /// # Errors
    /// [`Error::NoProgram`] for a hook that is not needed.
    pub fn fd(&self, hook: Hook) -> Result<BorrowedFd<'_>, Error> {
        let name = self.loaded.get(&hook).copied().ok_or(Error::NoProgram { name: hook.name() })?;
        let program = self.object.program(name).ok_or(Error::NoProgram { name })?;
        Ok(program.fd().map_err(|source| Error::Program { name, source })?.as_fd())
    }

    /// The kernel's number of a hook's program.
    pub(super) fn id(&self, hook: Hook) -> Option<u32> {
        let program = self.object.program(self.loaded.get(&hook)?)?;
        program.info().ok().map(|info| info.id())
    }

    /// The descriptor of a map.
    pub(super) fn map(&self, name: &str) -> Option<BorrowedFd<'_>> {
        use aya::maps::Map;
        let map = self.object.map(name)?;
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the enum grows with the kernel; these are the kinds that we declare"
        )]
        match map {
            Map::Array(data)
            | Map::HashMap(data)
            | Map::LruHashMap(data)
            | Map::LpmTrie(data)
            | Map::PerCpuArray(data)
            | Map::PerCpuHashMap(data)
            | Map::ProgramArray(data)
            | Map::RingBuf(data)
            | Map::SkStorage(data) => Some(data.fd().as_fd()),
            _ => None,
        }
    }

    /// A hook's program as aya knows it; for attaching by filters.
    ///
    /// # Errors
    /// [`Error::NoProgram`] for a hook that has no packet program.
    pub(super) fn classifier(&mut self, hook: Hook) -> Result<&mut SchedClassifier, Error> {
        let name = hook.name();
        let program = self.object.program_mut(name).ok_or(Error::NoProgram { name })?;
        program.try_into().map_err(|source| Error::Program { name, source })
    }

    /// The program that tells the kernel's jiffies.
    ///
    /// # Errors
    /// [`Error::NoProgram`].
    pub(super) fn clock(&self) -> Result<BorrowedFd<'_>, Error> {
        let program = self.object.program(CLOCK).ok_or(Error::NoProgram { name: CLOCK })?;
        Ok(program.fd().map_err(|source| Error::Program { name: CLOCK, source })?.as_fd())
    }
}

/// Loads the program that tells the kernel's jiffies, and nothing else, over the maps that are pinned.
///
/// # Errors
/// As [`Programs::load`].
pub(super) fn clock(pins: &Pins) -> Result<OwnedFd, Error> {
    let paths: Vec<PathBuf> = SPECS.iter().map(|spec| pins.map(spec.name)).collect();
    let mut loader = EbpfLoader::new();
    for (spec, path) in SPECS.iter().zip(&paths) {
        loader.map_pin_path(spec.name, path.as_path());
    }
    let object = loader.load(object::BYTES).map_err(Error::loading)?;
    let mut programs = Programs { object, loaded: BTreeMap::new(), constants: DatapathConfig::default() };
    programs.load_one(CLOCK)?;
    programs.clock()?.try_clone_to_owned().map_err(Error::path("keep", "the program that tells the time"))
}

/// The verifier gives up with `EAGAIN` when a signal is pending (`bpf_check` in the kernel's `verifier.c`); libbpf
/// tries five times, which is not enough for large programs on a busy node.
pub(super) fn patiently(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    const TRIES: u32 = 50;
    let mut result = load();
    for _ in 1..TRIES {
        match &result {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == io::ErrorKind::WouldBlock => {
                result = load();
            }
            _ => break,
        }
    }
    result
}

fn constants(settings: &Settings, road: SocketRoad, host_netns: u64) -> DatapathConfig {
    let families = settings.families;
    DatapathConfig {
        host_netns,
        ipv4: u8::from(families.ipv4()),
        ipv6: u8::from(families.ipv6()),
        host_sockets_only: u8::from(road == SocketRoad::Host),
        pod_packets: u8::from(matches!(road, SocketRoad::Host | SocketRoad::Off)),
        node_packets: u8::from(road == SocketRoad::Off),
        tallies: u8::from(settings.tallies == Tallies::Kept),
        tunnels: u8::from(settings.tunnels == Tunnels::Ipip),
        mptcp: u8::from(std::path::Path::new(MPTCP).exists()),
        in_order: READS_IN_ORDER,
        // A filter does not say which program it has, so nobody could tell which arrays are still in use.
        ahead: u8::from(road == SocketRoad::On && !clsact::needed()),
        ..DatapathConfig::default()
    }
}

/// The cookie of this process's network namespace: what `bpf_get_netns_cookie` gives for the node's sockets.
fn netns_cookie() -> Result<u64, Error> {
    use std::os::fd::AsRawFd;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").or_else(|_| std::net::UdpSocket::bind("[::]:0"));
    let socket = socket.map_err(Error::NetnsCookie)?;
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which is the size of `cookie`.
    let result = unsafe {
        let cookie = (&raw mut cookie).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, cookie, &raw mut len)
    };
    if result == 0 { Ok(cookie) } else { Err(Error::NetnsCookie(io::Error::last_os_error())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::settings::{Families, Sizes, Uplinks};

    #[test]
    fn a_load_that_a_signal_cut_short_is_tried_again_five_times_and_no_other() {
        let refusal = |errno| ProgramError::LoadError {
            io_error: io::Error::from_raw_os_error(errno),
            verifier_log: aya_obj::VerifierLog::new(String::new()),
        };
        for (errno, tries) in [(libc::EAGAIN, 50), (libc::EACCES, 1)] {
            let mut count = 0;
            let result = patiently(|| {
                count += 1;
                Err(refusal(errno))
            });
            assert!(result.is_err());
            assert_eq!(count, tries);
        }
        let mut count = 0;
        let second = || {
            count += 1;
            if count == 2 { Ok(()) } else { Err(refusal(libc::EAGAIN)) }
        };
        assert!(patiently(second).is_ok());
    }

    #[test]
    fn the_constants_follow_from_the_settings_and_the_road() {
        let settings = Settings {
            bpf_root: PathBuf::new(),
            cgroup_root: PathBuf::new(),
            run_root: PathBuf::new(),
            socket_road: SocketRoad::Auto,
            families: Families::Ipv4,
            sizes: Sizes::DEFAULT,
            uplinks: Uplinks::Auto,
            driver: super::super::settings::DriverRoad::Off,
            tallies: Tallies::Off,
            tunnels: Tunnels::Off,
            pods: super::super::settings::PodDevices::Unnamed,
        };
        let counting = Settings { tallies: Tallies::Kept, ..settings.clone() };
        let tallies = [&settings, &counting].map(|settings| constants(settings, SocketRoad::On, 7).tallies);
        assert_eq!(tallies, [0, 1]);
        let tunnelling = Settings { tunnels: Tunnels::Ipip, ..settings.clone() };
        let tunnels = [&settings, &tunnelling].map(|settings| constants(settings, SocketRoad::On, 7).tunnels);
        assert_eq!(tunnels, [0, 1]);
        let of = |road| {
            let c = constants(&settings, road, 7);
            [c.ipv4, c.ipv6, c.host_sockets_only, c.pod_packets, c.node_packets, c.ahead]
        };
        let has_links = u8::from(!clsact::needed());
        assert_eq!(of(SocketRoad::On), [1, 0, 0, 0, 0, has_links]);
        assert_eq!(of(SocketRoad::Host), [1, 0, 1, 1, 0, 0]);
        assert_eq!(of(SocketRoad::Off), [1, 0, 0, 1, 1, 0]);
    }
}
