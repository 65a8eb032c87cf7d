//! The programs over packets that nobody sends. A second load of the object reads the pinned maps that the agent alone
//! writes, and has tables of connections, counters and everything else that programs write to itself: it sees what
//! packets see, and leaves nothing behind. Knows nothing of what a packet is for.

use std::{io, os::fd::AsFd};

use aya::{
    Ebpf, EbpfLoader,
    maps::Map,
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use proxy_common::{
    DatapathConfig, Flow, FlowKey, Reason, Route,
    maps::{MapKind, MapSpec, MapType, SPECS},
    reason::Outcome,
};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{
    error::Error,
    family::MapFamily,
    hook::{Anchor, Hook},
    load::patiently,
    map::{PerCpu, Table},
    object,
    pins::Pins,
    settings::{DriverRoad, Families, SocketRoad},
    sys::RawMap,
    topology::IfIndex,
};

/// Entries of a table of our own: a packet or two.
const ENTRIES: u32 = 64;
/// Room for what a program adds to a frame.
const GROWTH: usize = 256;

/// The programs and what they read.
pub struct Rehearsal {
    object: Ebpf,
    counters: PerCpu<u64>,
}

/// What a program made of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Played {
    /// Why.
    pub reason: Reason,
    /// What becomes of the frame.
    pub fate: Fate,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// On its way through the node's stack.
    Next,
    /// Sent elsewhere without the stack: where, [`Rehearsal::way`] knows.
    Redirected,
    /// Gone, or answered.
    Ended,
}

/// The frame of a test run passes a device, and may have come to the node by another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passage {
    /// The hook's device.
    pub device: IfIndex,
    /// By which it came; `None`: the node itself sends it.
    pub from: Option<IfIndex>,
}

impl std::fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rehearsal").finish_non_exhaustive()
    }
}

impl Rehearsal {
    /// Loads the packet programs over the pinned maps, with the constants that the running ones have.
    ///
    /// # Errors
    /// [`Error::NewMap`] when a map cannot be made, [`Error::Verifier`] for a program the kernel refuses.
    pub fn load(pins: &Pins, constants: &DatapathConfig) -> Result<Self, Error> {
        let constants = DatapathConfig { two_tables: 0, ..*constants };
        let mut loader = EbpfLoader::new();
        loader.override_global("CONFIG", constants.as_bytes(), true);
        let paths: Vec<_> = SPECS.iter().map(|spec| pins.map(spec.name)).collect();
        for (spec, path) in SPECS.iter().zip(&paths) {
            if is_read_only(spec) {
                loader.map_pin_path(spec.name, path.as_path());
            } else if is_scalable(spec) {
                loader.map_max_entries(spec.name, spec.entries.min(ENTRIES));
            }
        }
        let mut object = loader.load(object::BYTES).map_err(Error::loading)?;
        let is_of_device = |hook: &Hook| matches!(hook.anchor(), Anchor::Device(..));
        for hook in Hook::ALL.into_iter().filter(is_of_device) {
            if hook.needed(Families::Dual, SocketRoad::Off, DriverRoad::Off) {
                let program = classifier(&mut object, hook.name())?;
                patiently(|| program.load()).map_err(Error::refused(hook.name()))?;
            }
        }
        let failed = |source| Error::Map { verb: "open our own", map: "counters", source };
        let cpus = super::pins::cpus()?;
        let counters = PerCpu::new(raw(&object, "counters", cpus).map_err(failed)?, cpus).map_err(failed)?;
        Ok(Self { object, counters })
    }

    /// Runs the program of a hook over a frame.
    ///
    /// # Errors
    /// [`Error::Program`] when the kernel does not run it.
    pub fn play(&mut self, hook: Hook, passage: Passage, frame: &[u8]) -> Result<Played, Error> {
        let name = hook.name();
        let before = self.counted()?;
        let mut out = vec![0; frame.len() + GROWTH];
        let context = context(passage);
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = classifier(&mut self.object, name)?.test_run(options);
        let result = result.map_err(|source| Error::Program { name, source })?;
        out.truncate(result.data_size_out as usize);
        let after = self.counted()?;
        let went_up = after.iter().zip(&before).position(|(after, before)| after > before);
        let reason = went_up.and_then(|index| Reason::from_index(u32::try_from(index).ok()?));
        let reason = reason.ok_or(Error::Map {
            verb: "find the reason in our own",
            map: "counters",
            source: io::ErrorKind::InvalidData.into(),
        })?;
        Ok(Played { reason, fate: fate(reason, result.return_value.cast_signed()), frame: out })
    }

    /// How the packets of a connection that was played before leave; `key` is the packet's before its translation.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn way<F: MapFamily>(&self, key: FlowKey<F::Addr>) -> Result<Option<(Route, IfIndex)>, Error>
    where
        FlowKey<F::Addr>: MapType,
        Flow<F::Addr>: MapType,
    {
        for map in [F::NAMES.flows, F::NAMES.half_open] {
            let failed = |source| Error::Map { verb: "read our own", map, source };
            let raw = raw(&self.object, map, 1).map_err(failed)?;
            let table = Table::<_, Flow<F::Addr>>::new(raw).map_err(failed)?;
            if let Some(flow) = table.get(&key).map_err(failed)? {
                return Ok(Some((flow.route, IfIndex(flow.ifindex))));
            }
        }
        Ok(None)
    }

    fn counted(&self) -> Result<Vec<u64>, Error> {
        self.counters.sums().map_err(|source| Error::Map { verb: "read our own", map: "counters", source })
    }
}

/// The constants as they are written down.
#[must_use]
pub fn written(constants: &DatapathConfig) -> String {
    constants.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The constants that were written down; `None` by an agent of another version.
#[must_use]
pub fn constants(text: &str) -> Option<DatapathConfig> {
    let byte = |index: usize| u8::from_str_radix(text.get(index..index + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
    DatapathConfig::read_from_bytes(&bytes?).ok()
}

/// Programs only read it, so ours may read the pinned one.
fn is_read_only(spec: &MapSpec) -> bool {
    !spec.writer.contains("kernel") && spec.writer != "nobody"
}

/// Its number of entries has no meaning to the programs.
fn is_scalable(spec: &MapSpec) -> bool {
    match spec.kind {
        MapKind::Hash | MapKind::SparseHash | MapKind::LruHash | MapKind::PerCpuHash => true,
        MapKind::PrefixTrie | MapKind::Array | MapKind::MappedArray | MapKind::PerCpuArray => false,
        MapKind::SocketStorage | MapKind::Ring => false,
    }
}

fn classifier<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, Error> {
    let program = object.program_mut(name).ok_or(Error::NoProgram { name })?;
    program.try_into().map_err(|source| Error::Program { name, source })
}

fn raw(object: &Ebpf, name: &str, copies: usize) -> io::Result<RawMap> {
    let Some(Map::HashMap(data) | Map::LruHashMap(data) | Map::PerCpuArray(data)) = object.map(name) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    RawMap::new(data.fd().as_fd().try_clone_to_owned()?, copies)
}

/// `struct __sk_buff` with the devices and nothing else; the kernel refuses fields that it does not take.
fn context(Passage { device, from }: Passage) -> [u8; 192] {
    const INGRESS: usize = 36;
    const DEVICE: usize = 40;
    let mut context = [0; 192];
    context[INGRESS..INGRESS + 4].copy_from_slice(&from.map_or(0, |IfIndex(index)| index).to_ne_bytes());
    context[DEVICE..DEVICE + 4].copy_from_slice(&device.0.to_ne_bytes());
    context
}

fn fate(reason: Reason, code: i32) -> Fate {
    const NEXT: i32 = -1;
    match reason.outcome() {
        Outcome::Reject | Outcome::Drop => Fate::Ended,
        Outcome::Pass | Outcome::Translate if code == NEXT => Fate::Next,
        Outcome::Pass | Outcome::Translate => Fate::Redirected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_read_back_as_they_were_written() {
        let config =
            DatapathConfig { host_netns: 0x0102_0304_0506_0708, ipv4: 1, mptcp: 1, ..Default::default() };
        assert_eq!(constants(&written(&config)), Some(config));
        for bad in ["", "0", "zz", "00"] {
            assert_eq!(constants(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_programs_write_is_never_the_pinned_map() {
        let pinned: Vec<_> = SPECS.iter().filter(|spec| is_read_only(spec)).map(|spec| spec.name).collect();
        for written in [
            "flows4",
            "halfopen6",
            "spareflows4",
            "tunnels4",
            "counters",
            "early",
            "affinity",
            "denials",
            "notices",
            "turns",
            "loads",
            "tallies",
            "fragments4",
            "held6",
            "portsfull4",
            "recent4",
            "recent6",
            "ends",
            "groups",
            "precedents",
            "scratch",
            "connected",
            "streams",
        ] {
            assert!(!pinned.contains(&written), "{written}");
        }
        for read in [
            "frontends4",
            "backends6",
            "policed4",
            "peers6",
            "blocks4",
            "wholes",
            "verdicts",
            "policy",
            "replacing",
            "policywrites",
            "mentioned",
            "spans",
            "devices",
            "hooked",
            "node4",
        ] {
            assert!(pinned.contains(&read), "{read}");
        }
    }
}
