//! The bpf(2) commands that aya does not offer: pins opened as plain descriptors, links made and updated by
//! number, batches, and facts about maps and links. Knows no map and no program of ours.

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type, bpf_map_info, bpf_map_type};

/// Whether a descriptor may be used to change the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// `BPF_F_RDONLY`.
    Read,
    /// Both ways.
    Write,
}

const BPF_F_RDONLY: u32 = 1 << 3;
const BPF_F_BEFORE: u32 = 1 << 3;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

pub(super) fn bpf(cmd: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: `attr` is a whole, initialised bpf_attr and outlives the call; every pointer in it was put
    // there by a function below from a slice that outlives the call and is as long as the kernel will use.
    let result = unsafe { libc::syscall(libc::SYS_bpf, cmd, attr as *mut bpf_attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

pub(super) fn attr() -> bpf_attr {
    // SAFETY: bpf_attr is a union of plain integers; the kernel demands zeroes in what a command does not use.
    unsafe { mem::zeroed() }
}

pub(super) fn owned(fd: i32) -> OwnedFd {
    // SAFETY: only called with the descriptor that a successful bpf(2) has just returned to us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn path_of(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Opens what is pinned at `path` (`BPF_OBJ_GET`). A link can only be opened for writing.
///
/// # Errors
/// `NotFound` without a pin; `EPERM` without the capabilities.
pub fn open_pin(path: &Path, access: Access) -> io::Result<OwnedFd> {
    let path = path_of(path)?;
    let mut attr = attr();
    // The member of BPF_OBJ_PIN and BPF_OBJ_GET.
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.file_flags = if access == Access::Read { BPF_F_RDONLY } else { 0 };
    bpf(bpf_cmd::BPF_OBJ_GET, &mut attr).map(owned)
}

/// Pins `fd` at `path` (`BPF_OBJ_PIN`).
///
/// # Errors
/// `AlreadyExists` when something is pinned there.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = path_of(path)?;
    let mut attr = attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = fd.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Where a link sits among the links of the same hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Where the kernel puts it; the only choice for cgroups before Linux 6.16.
    Any,
    /// Ahead of all others (tcx).
    First,
    /// In the device's driver, alone (XDP).
    Driver,
    /// Where the kernel stands in for the driver, alone (XDP).
    Generic,
}

/// Attaches `program` to `target`, a cgroup's descriptor or a device's index (`BPF_LINK_CREATE`).
/// The link lives as long as the descriptor or a pin of it.
///
/// # Errors
/// `EINVAL` where the kernel has no such link type, `ENODEV` for a device that is gone.
pub fn create_link(
    program: BorrowedFd<'_>,
    target: u32,
    attach_type: u32,
    place: Place,
) -> io::Result<OwnedFd> {
    let mut attr = attr();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    // `target_ifindex` is the same word.
    attr.link_create.__bindgen_anon_2.target_fd = target;
    attr.link_create.attach_type = attach_type;
    attr.link_create.flags = match place {
        Place::Any => 0,
        Place::First => BPF_F_BEFORE,
        Place::Driver => XDP_FLAGS_DRV_MODE,
        Place::Generic => XDP_FLAGS_SKB_MODE,
    };
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(owned)
}

/// Replaces the program of a link in one step (`BPF_LINK_UPDATE`): each packet or call meets the old one or the new one.
///
/// # Errors
/// `ENOLINK` when the device or cgroup of the link is gone.
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = attr();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Runs a program of packets once (`BPF_PROG_TEST_RUN`); `out` gets the packet that it leaves, as much as fits.
///
/// # Errors
/// `EINVAL` for a packet shorter than an Ethernet header.
pub fn test_run(program: BorrowedFd<'_>, packet: &[u8], out: &mut [u8]) -> io::Result<()> {
    let mut attr = attr();
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.data_in = packet.as_ptr() as u64;
    attr.test.data_size_in = packet.len() as u32;
    attr.test.data_out = out.as_mut_ptr() as u64;
    attr.test.data_size_out = out.len() as u32;
    attr.test.repeat = 1;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).map(drop)
}

pub(super) fn info<T: Copy>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = attr();
    attr.info.bpf_fd = fd.as_raw_fd() as u32;
    attr.info.info = info as *mut T as u64;
    attr.info.info_len = size_of::<T>() as u32;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

/// Facts about a map.
///
/// # Errors
/// As the kernel gives them.
pub fn map_info(fd: BorrowedFd<'_>) -> io::Result<bpf_map_info> {
    // SAFETY: bpf_map_info is plain integers and byte arrays.
    let mut out: bpf_map_info = unsafe { mem::zeroed() };
    info(fd, &mut out)?;
    Ok(out)
}

/// Facts about a link. One of a device or cgroup that is gone has 0 for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkFacts {
    /// The kernel's number of the link, never used twice.
    pub id: u32,
    /// The kernel's number of the program.
    pub program: u32,
    /// The device, for a tcx or XDP link.
    pub ifindex: u32,
    /// The cgroup, for a cgroup link: the inode of its directory.
    pub cgroup: u64,
}

/// Facts about a link.
///
/// # Errors
/// As the kernel gives them.
pub fn link_facts(fd: BorrowedFd<'_>) -> io::Result<LinkFacts> {
    // SAFETY: bpf_link_info is plain integers in a union.
    let mut out: bpf_link_info = unsafe { mem::zeroed() };
    info(fd, &mut out)?;
    const TCX: u32 = bpf_link_type::BPF_LINK_TYPE_TCX as u32;
    const XDP: u32 = bpf_link_type::BPF_LINK_TYPE_XDP as u32;
    const CGROUP: u32 = bpf_link_type::BPF_LINK_TYPE_CGROUP as u32;
    let (ifindex, cgroup) = match out.type_ {
        // SAFETY: the type says which member of the union the kernel filled.
        TCX => (unsafe { out.__bindgen_anon_1.tcx.ifindex }, 0),
        // SAFETY: the type says which member of the union the kernel filled; here it is another one.
        XDP => (unsafe { out.__bindgen_anon_1.xdp.ifindex }, 0),
        // SAFETY: as above; here it is a third one.
        CGROUP => (0, unsafe { out.__bindgen_anon_1.cgroup.cgroup_id }),
        _ => (0, 0),
    };
    Ok(LinkFacts { id: out.id, program: out.prog_id, ifindex, cgroup })
}

/// Bytes of one key and one value of a map, as the kernel sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Bytes of a key.
    pub key: usize,
    /// Bytes of a value; for per-CPU maps those of all CPUs.
    pub value: usize,
}

/// A map's descriptor with the sizes that were read from the kernel: what bounds every buffer below.
#[derive(Debug)]
pub struct RawMap {
    fd: OwnedFd,
    entry: Entry,
    max_entries: u32,
}

/// Condition of an update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Update {
    /// Insert or replace.
    Any = 0,
    /// Insert; `AlreadyExists` otherwise.
    New = 1,
}

/// One step of a scan: how far it is and what it found.
#[derive(Debug, Default)]
pub struct Cursor {
    token: Option<[u8; 64]>,
    /// There is nothing left to read.
    pub done: bool,
}

impl RawMap {
    /// Takes over a map's descriptor. `copies` is the number of values behind one key: CPUs for per-CPU maps, else 1.
    ///
    /// # Errors
    /// When the descriptor is not a map's.
    pub fn new(fd: OwnedFd, copies: usize) -> io::Result<Self> {
        let info = map_info(fd.as_fd())?;
        let value = info.value_size as usize;
        let value = if copies == 1 { value } else { value.next_multiple_of(8) * copies };
        let max_entries = info.max_entries;
        Ok(Self { fd, entry: Entry { key: info.key_size as usize, value }, max_entries })
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn entry(&self) -> Entry {
        self.entry
    }

    /// Most entries.
    #[must_use]
    pub fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// Facts about the map.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn info(&self) -> io::Result<bpf_map_info> {
        map_info(self.fd.as_fd())
    }

    fn element(&self, key: &[u8], value: Option<*const u8>) -> bpf_attr {
        assert_eq!(key.len(), self.entry.key, "a key of another map");
        let mut attr = attr();
        attr.__bindgen_anon_2.map_fd = self.fd.as_raw_fd() as u32;
        attr.__bindgen_anon_2.key = key.as_ptr() as u64;
        if let Some(value) = value {
            attr.__bindgen_anon_2.__bindgen_anon_1.value = value as u64;
        }
        attr
    }

    /// Reads the value of `key` into `value`.
    ///
    /// # Errors
    /// `NotFound` without an entry.
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<()> {
        assert_eq!(value.len(), self.entry.value, "a value of another map");
        bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut self.element(key, Some(value.as_mut_ptr()))).map(drop)
    }

    /// Removes the entry of `key` and reads what its value was, in one step.
    ///
    /// # Errors
    /// `NotFound` without an entry.
    pub fn take(&self, key: &[u8], value: &mut [u8]) -> io::Result<()> {
        assert_eq!(value.len(), self.entry.value, "a value of another map");
        let mut attr = self.element(key, Some(value.as_mut_ptr()));
        bpf(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attr).map(drop)
    }

    /// Writes one entry.
    ///
    /// # Errors
    /// `E2BIG` when a hash is full, `ENOMEM`, `AlreadyExists` with [`Update::New`].
    pub fn update(&self, key: &[u8], value: &[u8], update: Update) -> io::Result<()> {
        assert_eq!(value.len(), self.entry.value, "a value of another map");
        let mut attr = self.element(key, Some(value.as_ptr()));
        attr.__bindgen_anon_2.flags = update as u64;
        bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
    }

    /// Removes one entry.
    ///
    /// # Errors
    /// `NotFound` without an entry.
    pub fn delete(&self, key: &[u8]) -> io::Result<()> {
        bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut self.element(key, None)).map(drop)
    }

    /// Writes many entries in one call; gives how many were written before an error.
    pub fn update_batch(&self, keys: &[u8], values: &[u8], update: Update) -> (usize, io::Result<()>) {
        let count = self.count(keys);
        assert_eq!(values.len(), count * self.entry.value, "as many values as keys");
        let mut attr = self.batch(keys.as_ptr(), values.as_ptr(), count);
        attr.batch.elem_flags = update as u64;
        done(bpf_cmd::BPF_MAP_UPDATE_BATCH, attr)
    }

    /// Removes many entries in one call; gives how many were removed before an error.
    pub fn delete_batch(&self, keys: &[u8]) -> (usize, io::Result<()>) {
        let count = self.count(keys);
        done(bpf_cmd::BPF_MAP_DELETE_BATCH, self.batch(keys.as_ptr(), std::ptr::null(), count))
    }

    /// Reads on from `cursor` as many entries as fit into the buffers; gives how many.
    ///
    /// # Errors
    /// `ENOSPC` when not even one bucket of a hash fits.
    pub fn scan(&self, cursor: &mut Cursor, keys: &mut [u8], values: &mut [u8]) -> io::Result<usize> {
        let count = self.count(keys);
        assert_eq!(values.len(), count * self.entry.value, "as many values as keys");
        let mut attr = self.batch(keys.as_mut_ptr(), values.as_mut_ptr(), count);
        let from = cursor.token;
        let mut next = [0_u8; 64];
        attr.batch.in_batch = from.as_ref().map_or(0, |token| token.as_ptr() as u64);
        attr.batch.out_batch = next.as_mut_ptr() as u64;
        let result = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
        cursor.token = Some(next);
        // SAFETY: the command uses the batch member, whose count the kernel has written.
        let read = unsafe { attr.batch.count } as usize;
        match result {
            Ok(_) => Ok(read),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                cursor.done = true;
                Ok(read)
            }
            Err(error) => Err(error),
        }
    }

    fn count(&self, keys: &[u8]) -> usize {
        assert_eq!(keys.len() % self.entry.key, 0, "whole keys");
        keys.len() / self.entry.key
    }

    fn batch(&self, keys: *const u8, values: *const u8, count: usize) -> bpf_attr {
        let mut attr = attr();
        attr.batch.map_fd = self.fd.as_raw_fd() as u32;
        attr.batch.keys = keys as u64;
        attr.batch.values = values as u64;
        attr.batch.count = count as u32;
        attr
    }
}

impl AsFd for RawMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn done(cmd: bpf_cmd, mut attr: bpf_attr) -> (usize, io::Result<()>) {
    // SAFETY: both callers use the batch member, and have filled it.
    let asked = unsafe { attr.batch.count } as usize;
    let result = bpf(cmd, &mut attr).map(drop);
    // SAFETY: as above; the kernel writes the count back, also after an error between two entries.
    let made = unsafe { attr.batch.count } as usize;
    // An error before the first entry leaves the count as it was. Had all been made, there were no error.
    (if result.is_err() && made == asked { 0 } else { made }, result)
}

impl RawMap {
    /// A hash that nobody else knows.
    #[cfg(test)]
    pub(super) fn hash(key: usize, value: usize, entries: u32) -> io::Result<Self> {
        Self::create(bpf_map_type::BPF_MAP_TYPE_HASH, key, value, entries)
    }

    /// A map that nobody else knows.
    pub(super) fn create(kind: bpf_map_type, key: usize, value: usize, entries: u32) -> io::Result<Self> {
        let mut attr = attr();
        attr.__bindgen_anon_1.map_type = kind as u32;
        attr.__bindgen_anon_1.key_size = key as u32;
        attr.__bindgen_anon_1.value_size = value as u32;
        attr.__bindgen_anon_1.max_entries = entries;
        Self::new(bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr).map(owned)?, 1)
    }
}
