//! A gate in front of the kernel: every bpf(2) of an agent waits there until it is let through, refused with an error, or the
//! agent is killed instead. The agent is the one that is shipped and knows nothing of it: the kernel holds its calls for us
//! (seccomp, `SECCOMP_RET_USER_NOTIF`). Why it is done like this: `docs/decisions/0030-*`.
//!
//! What the agent does without bpf(2) goes by unseen: it writes slots of backends through memory that it shares with the
//! kernel. A death between two slots is as one before the next call, for nothing points there yet.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, mem};

use anyhow::{Context, Result};
use aya::maps::MapInfo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, Signal, kill_process};

/// Programs of ours have more instructions than that.
const PROBE: u32 = 100;

/// What a call asks the kernel for, as far as anybody here cares (`enum bpf_cmd` in `linux/bpf.h`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Verb {
    MapCreate,
    Lookup,
    Update,
    Delete,
    ProgramLoad,
    Pin,
    LookupBatch,
    UpdateBatch,
    DeleteBatch,
    LinkCreate,
    LinkUpdate,
    Other,
}

impl Verb {
    fn of(command: u64) -> Self {
        match command {
            0 => Self::MapCreate,
            1 => Self::Lookup,
            2 => Self::Update,
            3 => Self::Delete,
            5 => Self::ProgramLoad,
            6 => Self::Pin,
            24 => Self::LookupBatch,
            26 => Self::UpdateBatch,
            27 => Self::DeleteBatch,
            28 => Self::LinkCreate,
            29 => Self::LinkUpdate,
            _ => Self::Other,
        }
    }

    /// Where the descriptor of the map is among the arguments.
    fn map_at(self) -> Option<u64> {
        match self {
            Self::Lookup | Self::Update | Self::Delete => Some(0),
            Self::LookupBatch | Self::UpdateBatch | Self::DeleteBatch => Some(36),
            Self::MapCreate
            | Self::ProgramLoad
            | Self::Pin
            | Self::LinkCreate
            | Self::LinkUpdate
            | Self::Other => None,
        }
    }

    /// It changes what a map holds.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Update | Self::Delete | Self::UpdateBatch | Self::DeleteBatch)
    }
}

/// A call that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Call {
    pub(crate) verb: Verb,
    /// The map that it reads or writes; empty for others.
    pub(crate) map: String,
}

impl Call {
    /// It changes what is served.
    pub(crate) fn writes_frontends(&self) -> bool {
        self.verb.writes() && self.map.starts_with("frontends")
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The kernel gets it.
    Go,
    /// It fails, and the kernel never sees it.
    Fail(i32),
    /// The agent dies instead.
    Kill,
}

type Judge = Box<dyn FnMut(&Call) -> Verdict + Send>;

/// The gate of one agent.
pub(crate) struct Gate {
    judge: Arc<Mutex<Judge>>,
    /// Calls that did not pass.
    stopped: Arc<Mutex<Vec<Call>>>,
}

impl Gate {
    /// A gate that lets everything through, and the end of it that a command has to be given.
    pub(crate) fn new() -> Self {
        Self { judge: Arc::new(Mutex::new(Box::new(|_| Verdict::Go))), stopped: Arc::default() }
    }

    /// Judges so from now on.
    pub(crate) fn judge(&self, judge: impl FnMut(&Call) -> Verdict + Send + 'static) {
        *hold(&self.judge) = Box::new(judge);
    }

    /// Lets everything through again.
    pub(crate) fn open(&self) {
        self.judge(|_| Verdict::Go);
    }

    /// Calls that did not pass so far.
    pub(crate) fn stopped(&self) -> Vec<Call> {
        hold(&self.stopped).clone()
    }

    /// Lets a command start behind the gate.
    pub(crate) fn before(&self, command: &mut Command) -> Result<()> {
        let (here, there) = UnixStream::pair()?;
        let close = move || {
            let listener = listener()?;
            hand_over(there.as_fd(), listener.as_fd())
        };
        // SAFETY: between fork and exec the closure makes two system calls with buffers on its stack; it allocates nothing and
        // takes no lock.
        unsafe { command.pre_exec(close) };
        let (judge, stopped) = (self.judge.clone(), self.stopped.clone());
        // Ends with the last process behind the gate.
        std::thread::spawn(move || {
            if let Ok(listener) = take_over(here.as_fd()) {
                watch(&listener, &judge, &stopped);
            }
        });
        Ok(())
    }
}

fn hold<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds back every bpf(2) of this process and its children from now on; gives where they are to be judged.
fn listener() -> io::Result<OwnedFd> {
    const LOAD_NUMBER: libc::sock_filter = libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
    const UNLESS_BPF_SKIP: libc::sock_filter =
        libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: libc::SYS_bpf as u32 };
    const ASK: libc::sock_filter =
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_USER_NOTIF };
    const PASS: libc::sock_filter =
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let mut filter = [LOAD_NUMBER, UNLESS_BPF_SKIP, ASK, PASS];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // Without the second flag a signal that is not deadly would have a call asked about twice.
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: the kernel copies the four instructions, which outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

fn hand_over(socket: BorrowedFd<'_>, what: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let fds = [what];
    message.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(&[0])], &mut message, SendFlags::empty())?;
    Ok(())
}

fn take_over(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut message, RecvFlags::empty())?;
    let fds = message
        .drain()
        .find_map(|part| if let RecvAncillaryMessage::ScmRights(mut fds) = part { fds.next() } else { None });
    fds.context("no descriptor came")
}

fn watch(listener: &OwnedFd, judge: &Mutex<Judge>, stopped: &Mutex<Vec<Call>>) {
    let mut names = BTreeMap::new();
    loop {
        let mut ready = [PollFd::new(listener, PollFlags::IN)];
        let wait = Timespec { tv_sec: 60, tv_nsec: 0 };
        if poll(&mut ready, Some(&wait)).is_err() {
            continue;
        }
        let events = ready[0].revents();
        if events.contains(PollFlags::HUP) && !events.contains(PollFlags::IN) {
            return;
        }
        // Who asked may have died meanwhile.
        let Some(asked) = events.contains(PollFlags::IN).then(|| receive(listener)).flatten() else {
            continue;
        };
        let mut verb = Verb::of(asked.data.args[0]);
        // The library finds out what the kernel can by loading programs of a few instructions.
        if verb == Verb::ProgramLoad && word(&asked, 4).is_none_or(|count| count < PROBE) {
            verb = Verb::Other;
        }
        let map = verb.map_at().and_then(|at| map(&asked, at, &mut names)).unwrap_or_default();
        let call = Call { verb, map };
        let verdict = (hold(judge))(&call);
        if verdict != Verdict::Go {
            hold(stopped).push(call);
        }
        match verdict {
            Verdict::Go => send(listener, asked.id, 0),
            Verdict::Fail(errno) => send(listener, asked.id, errno),
            Verdict::Kill => {
                if let Some(pid) = Pid::from_raw(asked.pid.cast_signed()) {
                    // Gone already is as good.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        }
    }
}

fn receive(listener: &OwnedFd) -> Option<libc::seccomp_notif> {
    // SAFETY: plain integers; the kernel wants zeros.
    let mut asked: libc::seccomp_notif = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one `seccomp_notif`.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) };
    (result == 0).then_some(asked)
}

/// Answers a call: with an error, or by letting the kernel have it.
fn send(listener: &OwnedFd, id: u64, errno: i32) {
    let flags = if errno == 0 { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 };
    let answer = libc::seccomp_notif_resp { id, val: 0, error: -errno, flags };
    // SAFETY: the kernel reads one `seccomp_notif_resp`. That it fails means that nobody waits any more.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
}

/// The word that is so far into the arguments.
fn word(asked: &libc::seccomp_notif, at: u64) -> Option<u32> {
    let memory = fs::File::open(format!("/proc/{}/mem", asked.pid)).ok()?;
    let mut word = [0; 4];
    memory.read_exact_at(&mut word, asked.data.args[1] + at).ok()?;
    Some(u32::from_ne_bytes(word))
}

/// The name of the map whose descriptor is so far into the arguments.
fn map(asked: &libc::seccomp_notif, at: u64, names: &mut BTreeMap<u32, String>) -> Option<String> {
    let fd = word(asked, at)?;
    let facts = fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", asked.pid)).ok()?;
    let id = facts.lines().find_map(|line| line.strip_prefix("map_id:"))?.trim().parse().ok()?;
    if let Some(name) = names.get(&id) {
        return Some(name.clone());
    }
    let name = MapInfo::from_id(id).ok()?.name_as_str()?.to_owned();
    names.insert(id, name.clone());
    Some(name)
}
