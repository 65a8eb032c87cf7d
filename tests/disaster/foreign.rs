//! A program of somebody else's on the ingress of a device, ahead of those that hang there or behind them. It lets every packet go.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_link_info, bpf_prog_type};
use sluice_lab::netns;

/// Where it hangs among the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Before,
    After,
}

/// What it says of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Says {
    /// The next program is asked (`TCX_NEXT`).
    Next,
    /// No other is asked, and the packet goes on (`TCX_PASS`).
    Pass,
}

/// Hangs until it is dropped.
#[derive(Debug)]
pub(crate) struct Foreign {
    link: OwnedFd,
}

impl Foreign {
    /// Hangs it on a device of that namespace.
    pub(crate) fn hang(space: &str, device: &str, order: Order, says: Says) -> Result<Self> {
        netns::inside(space, || {
            let program = load(says).context("loading a program")?;
            let name = CString::new(device)?;
            // SAFETY: a string that ends with a zero.
            let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
            let mut attr = attr();
            attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
            attr.link_create.__bindgen_anon_2.target_ifindex = index;
            attr.link_create.attach_type = bpf_attach_type::BPF_TCX_INGRESS as u32;
            attr.link_create.flags = match order {
                Order::Before => 1 << 3,
                Order::After => 1 << 4,
            };
            let link = bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr).context("hanging a program")?;
            // SAFETY: the call has just given this descriptor to us alone.
            Ok(Self { link: unsafe { OwnedFd::from_raw_fd(link) } })
        })
    }

    /// Whether it still hangs on a device.
    pub(crate) fn hangs(&self) -> bool {
        // SAFETY: plain integers in a union.
        let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
        let mut attr = attr();
        attr.info.bpf_fd = self.link.as_raw_fd() as u32;
        attr.info.info = &raw mut info as u64;
        attr.info.info_len = size_of::<bpf_link_info>() as u32;
        // SAFETY: a link of a device, whose member of the union the kernel has filled.
        bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).is_ok()
            && unsafe { info.__bindgen_anon_1.tcx.ifindex } != 0
    }
}

/// `r0 = verdict; exit`.
fn load(says: Says) -> io::Result<OwnedFd> {
    let verdict = match says {
        Says::Next => -1,
        Says::Pass => 0,
    };
    let instruction = |code: u8, imm: i32| bpf_insn {
        code,
        imm,
        off: 0,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
    };
    let instructions = [instruction(0xb7, verdict), instruction(0x95, 0)];
    let license = c"GPL";
    let mut attr = attr();
    attr.__bindgen_anon_3.prog_type = bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32;
    attr.__bindgen_anon_3.insns = instructions.as_ptr() as u64;
    attr.__bindgen_anon_3.insn_cnt = 2;
    attr.__bindgen_anon_3.license = license.as_ptr() as u64;
    let program = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)?;
    // SAFETY: the call has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(program) })
}

fn attr() -> bpf_attr {
    // SAFETY: a union of plain integers; the kernel demands zeros in what a command does not use.
    unsafe { std::mem::zeroed() }
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: `attr` is whole and outlives the call, and so does whatever it points to.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut bpf_attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
