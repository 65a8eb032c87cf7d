//! A tap on the packet programs: what each of them is given, what it leaves of it, and why. Two small programs of the tap run
//! around each of ours as long as it is open, and nothing of ours is changed or replaced; nobody pays for a tap that is closed.
//! Knows no address and no file.

mod around;
#[cfg(test)]
mod tests;
mod types;

use std::{
    collections::BTreeMap,
    fs, io,
    ops::ControlFlow,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use aya::maps::{
    Map, MapData,
    perf::{PerfEvent, PerfEventArray, PerfEventArrayBuffer},
};
use aya_obj::generated::{
    bpf_attach_type, bpf_cmd, bpf_func_info, bpf_map_type, bpf_prog_info, bpf_prog_type,
};
use proxy_common::Reason;

use self::{
    around::{BufferOffsets, COUNTERS, DriverOffsets, EVENT, Packet, Phase, SNAP, instructions},
    types::Types,
};
use super::{
    error::Error,
    hook::{Anchor, Hook},
    onward,
    pins::Pins,
    preflight,
    sys::{self, Access, RawMap},
    topology::IfIndex,
};

/// What is read of the kernel's structures.
const MEMBERS: [(&str, &str); 7] = [
    ("sk_buff", "len"),
    ("sk_buff", "dev"),
    ("net_device", "ifindex"),
    ("xdp_buff", "data"),
    ("xdp_buff", "data_end"),
    ("xdp_buff", "rxq"),
    ("xdp_rxq_info", "dev"),
];
/// Pages of each CPU's buffer.
const PAGES: usize = 128;
/// Helpers of the tap are for programs that say this.
const LICENSE: &std::ffi::CStr = c"Dual MIT/GPL";

/// An open tap.
pub struct Tap {
    buffers: Vec<PerfEventArrayBuffer<MapData>>,
    /// What a program was given, by CPU, until it is known what it left.
    given: Vec<Option<Half>>,
    /// The programs run as long as these are open.
    links: Vec<OwnedFd>,
}

/// A packet on its way through one program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tapped {
    /// Nanoseconds since the node's boot at which the program was done.
    pub at: u64,
    /// Where.
    pub hook: Hook,
    /// The device.
    pub device: IfIndex,
    /// What the program returned.
    pub code: i32,
    /// Why; `None` where no counter went up.
    pub reason: Option<Reason>,
    /// The packet as it came, as much as was copied; `None` if that was missed.
    pub before: Option<Bytes>,
    /// The packet as it was left.
    pub after: Bytes,
}

/// A packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bytes {
    /// Nanoseconds since the node's boot.
    pub at: u64,
    /// Its length.
    pub length: u32,
    /// Its beginning, from the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// One event of a program of the tap.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Half {
    hook: Hook,
    phase: u32,
    code: i32,
    reason: u32,
    device: u32,
    packet: Bytes,
}

/// What there was to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A packet.
    Packet(Tapped),
    /// So many came faster than they were read.
    Missed(u64),
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("links", &self.links.len()).finish_non_exhaustive()
    }
}

impl Tap {
    /// Opens a tap on the packet programs that are pinned, of these hooks.
    ///
    /// # Errors
    /// [`Error::Path`] without the kernel's types or the pins, [`Error::Tap`] for what the kernel does not do: without
    /// `CAP_SYS_ADMIN`, on a processor for which it cannot put programs around others, or without the types of ours.
    pub fn open(pins: &Pins, hooks: impl Fn(Hook) -> bool) -> Result<Self, Error> {
        let counters = pins.open("counters", Access::Read)?;
        let programs = programs(&counters, hooks)?;
        if programs.is_empty() {
            return Err(failed("find a program of Sluice to tap")(io::ErrorKind::NotFound.into()));
        }
        Self::around(&programs, counters.as_fd())
    }

    /// The same around these programs, by their numbers, which count in `counters`.
    fn around(programs: &BTreeMap<u32, Hook>, counters: BorrowedFd<'_>) -> Result<Self, Error> {
        let types = fs::read(preflight::TYPES).map_err(Error::path("read", Path::new(preflight::TYPES)))?;
        let unknown = || failed("find the kernel's structures")(io::ErrorKind::InvalidData.into());
        let (buffer, driver) = offsets(&types).ok_or_else(unknown)?;
        let create = |kind, key, value, entries| {
            RawMap::create(kind, key, value, entries).map_err(failed("make the maps of a tap"))
        };
        let remembered = create(bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY, 4, COUNTERS * 8, 1)?;
        let cpus = aya::util::online_cpus().map_err(|(path, source)| Error::Path {
            verb: "read",
            path: path.into(),
            source,
        })?;
        let most = cpus.iter().max().map_or(1, |cpu| cpu + 1);
        let events = create(bpf_map_type::BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, most)?;
        let maps = around::Maps {
            counters: counters.as_raw_fd(),
            remembered: remembered.as_fd().as_raw_fd(),
            events: events.as_fd().as_raw_fd(),
        };
        let buffers = buffers(events.as_fd(), &cpus)?;
        let mut links = Vec::new();
        for (id, hook) in programs {
            let packet = match hook.anchor() {
                Anchor::Driver => Packet::Driver(driver),
                Anchor::Cgroup | Anchor::Device(..) => Packet::Buffer(buffer),
            };
            let number = Hook::ALL.iter().position(|one| one == hook).unwrap_or_default() as u32;
            let target = program(*id).map_err(failed("open the program of a hook"))?;
            let function =
                function(target.as_fd()).map_err(failed("read the types of the program of a hook"))?;
            // What comes after is there first: an event of what came before without the other would wait for it.
            for phase in [Phase::After, Phase::Before] {
                let code = instructions(phase, number, packet, maps);
                let attached = attach(target.as_fd(), function, phase, &code);
                links.push(attached.map_err(failed("put a program around that of a hook"))?);
            }
        }
        let given = buffers.iter().map(|_| None).collect();
        Ok(Self { buffers, given, links })
    }

    /// Hands over what has come since the last call, until `each` has enough.
    pub fn read(&mut self, mut each: impl FnMut(Event) -> ControlFlow<()>) -> ControlFlow<()> {
        for (buffer, given) in self.buffers.iter_mut().zip(&mut self.given) {
            buffer.try_fold((), |(), event| match event {
                PerfEvent::Lost { count } => {
                    *given = None;
                    each(Event::Missed(count))
                }
                PerfEvent::Sample { head, tail } => match half(&[head, tail].concat()) {
                    Some(half) if half.phase == Phase::Before as u32 => {
                        *given = Some(half);
                        ControlFlow::Continue(())
                    }
                    Some(half) => each(Event::Packet(whole(given.take(), half))),
                    None => ControlFlow::Continue(()),
                },
            })?;
        }
        ControlFlow::Continue(())
    }
}

fn failed(verb: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Tap { verb, source }
}

/// The packet programs that count in these counters, each once: all pods' devices have the same. Told by their maps, because
/// not every kernel has links for them.
fn programs(counters: &RawMap, hooks: impl Fn(Hook) -> bool) -> Result<BTreeMap<u32, Hook>, Error> {
    let unread = failed("list the programs of the kernel");
    let ours = counters.info().map_err(&unread)?.id;
    let mut programs = BTreeMap::new();
    for info in aya::programs::loaded_programs() {
        let info = info.map_err(|error| unread(io::Error::other(error)))?;
        let hook = info.name_as_str().and_then(hook_of);
        let Some(hook) = hook.filter(|hook| hook.anchor() != Anchor::Cgroup && hooks(*hook)) else {
            continue;
        };
        let maps = info.map_ids().ok().flatten().unwrap_or_default();
        if maps.contains(&ours) {
            programs.insert(info.id(), hook);
        }
    }
    Ok(programs)
}

/// Where the program of that name runs. What one ahead hands on to another is not seen twice: a program that is handed a packet
/// is entered behind the place where a tap has its own.
fn hook_of(program: &str) -> Option<Hook> {
    if program == onward::AHEAD { Some(Hook::FromPod) } else { Hook::named(program) }
}

fn offsets(types: &[u8]) -> Option<(BufferOffsets, DriverOffsets)> {
    let types = Types::read(types)?;
    let mut found = [0; MEMBERS.len()];
    for (offset, (structure, member)) in found.iter_mut().zip(MEMBERS) {
        *offset = types.offset(structure, member)?;
    }
    let [len, skb_dev, ifindex, data, data_end, rxq, dev] = found;
    Some((BufferOffsets { len, dev: skb_dev, ifindex }, DriverOffsets { data, data_end, rxq, dev, ifindex }))
}

fn buffers(events: BorrowedFd<'_>, cpus: &[u32]) -> Result<Vec<PerfEventArrayBuffer<MapData>>, Error> {
    let unfit = |error: aya::maps::MapError| failed("read the packets of a tap")(io::Error::other(error));
    let fd = events.try_clone_to_owned().map_err(failed("read the packets of a tap"))?;
    let map = Map::PerfEventArray(MapData::from_fd(fd).map_err(unfit)?);
    let mut array = PerfEventArray::try_from(map).map_err(unfit)?;
    let open = |cpu: &u32| {
        array
            .open(*cpu, Some(PAGES))
            .map_err(|error| failed("read the packets of a tap")(io::Error::other(error)))
    };
    cpus.iter().map(open).collect()
}

fn program(id: u32) -> io::Result<OwnedFd> {
    let mut attr = sys::attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    sys::bpf(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr).map(sys::owned)
}

/// The number of a program's entry function among its types.
fn function(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut first = bpf_func_info { insn_off: 0, type_id: 0 };
    // SAFETY: bpf_prog_info is plain integers and byte arrays.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    info.func_info_rec_size = size_of::<bpf_func_info>() as u32;
    info.nr_func_info = 1;
    info.func_info = &raw mut first as u64;
    sys::info(program, &mut info)?;
    if info.nr_func_info == 0 || first.type_id == 0 {
        Err(io::ErrorKind::Unsupported.into())
    } else {
        Ok(first.type_id)
    }
}

/// Loads a program of the tap and puts it around `target`; it runs until the descriptor is closed.
fn attach(target: BorrowedFd<'_>, function: u32, phase: Phase, code: &[[u8; 8]]) -> io::Result<OwnedFd> {
    let attach_type = match phase {
        Phase::Before => bpf_attach_type::BPF_TRACE_FENTRY,
        Phase::After => bpf_attach_type::BPF_TRACE_FEXIT,
    };
    let mut attr = sys::attr();
    attr.__bindgen_anon_3.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
    attr.__bindgen_anon_3.insns = code.as_ptr() as u64;
    attr.__bindgen_anon_3.insn_cnt = code.len() as u32;
    attr.__bindgen_anon_3.license = LICENSE.as_ptr() as u64;
    attr.__bindgen_anon_3.expected_attach_type = attach_type as u32;
    attr.__bindgen_anon_3.attach_btf_id = function;
    attr.__bindgen_anon_3.__bindgen_anon_1.attach_prog_fd = target.as_raw_fd() as u32;
    let program = sys::bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr).map(sys::owned)?;
    let mut attr = sys::attr();
    attr.raw_tracepoint.prog_fd = program.as_raw_fd() as u32;
    sys::bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr).map(sys::owned)
}

/// Reads one event as a program of the tap writes it; behind the packet there is padding.
fn half(event: &[u8]) -> Option<Half> {
    let word = |at: usize| event.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let at = event.get(..8)?.try_into().ok().map(u64::from_ne_bytes)?;
    let length = word(24)?;
    let copied = length.min(SNAP.cast_unsigned()) as usize;
    Some(Half {
        hook: *Hook::ALL.get(word(8)? as usize)?,
        phase: word(12)?,
        code: word(16)?.cast_signed(),
        reason: word(20)?,
        device: word(28)?,
        packet: Bytes { at, length, bytes: event.get(EVENT..EVENT + copied)?.to_vec() },
    })
}

fn whole(given: Option<Half>, left: Half) -> Tapped {
    Tapped {
        at: left.packet.at,
        hook: left.hook,
        device: IfIndex(left.device),
        code: left.code,
        reason: Reason::from_index(left.reason),
        before: given.filter(|given| given.hook == left.hook).map(|given| given.packet),
        after: left.packet,
    }
}
