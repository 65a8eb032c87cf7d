//! The packet as bytes: every read, every write and every helper that may move the bytes goes through [`Access`],
//! which is the same at every kind of hook. It knows bounds, nothing of protocols.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_ADJ_ROOM_FIXED_GSO, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    cty::c_void,
    helpers::generated::{bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_pull_data, bpf_skb_store_bytes},
    maps::ProgramArray,
    programs::TcContext,
};
use proxy_common::{Addr6, Reason};

use super::Packet;
use crate::verified;

/// Bytes made linear at once when headers turn out to lie in fragments: Ethernet, the longest IPv4 header and
/// TCP without options fit, as do IPv6 with usual extension headers.
const PULL: u32 = 192;

/// Largest offset that may be asked for. The verifier refuses an offset that might reach 64 KiB, and no header
/// of ours starts that far in.
const MAX_OFFSET: usize = 1024;

/// Plain bytes as they lie in a packet.
///
/// # Safety
/// Every bit pattern must be a value, and the type must have no padding.
pub unsafe trait Wire: Copy {}

// SAFETY: plain integers and arrays of them.
unsafe impl Wire for u16 {}
// SAFETY: as above.
unsafe impl Wire for [u8; 2] {}
// SAFETY: as above.
unsafe impl Wire for u32 {}
// SAFETY: as above.
unsafe impl Wire for u64 {}
// SAFETY: as above.
unsafe impl Wire for [u32; 4] {}

/// A packet at a hook, whatever kind of hook it is. Methods that may move the packet's bytes take `&mut self`, so no
/// reference into the packet outlives such a call: the borrow checker says what the verifier would say later.
pub trait Access {
    /// Address of the first byte.
    fn start(&self) -> usize;
    /// Address behind the last byte that can be read directly.
    fn end(&self) -> usize;
    /// The context, for helpers that only read.
    fn context(&self) -> *mut c_void;
    /// Index of the device that the hook belongs to.
    fn device(&self) -> u32;
    /// Makes headers readable that lie in fragments. False: there was nothing to gain.
    fn linearise(&mut self) -> bool;
    /// Adds a difference to a transport checksum; `flags` are those of `bpf_l4_csum_replace`.
    fn replace_checksum(&mut self, offset: usize, difference: u32, flags: u64) -> Result<(), i64>;
    /// Finds the transport header behind IPv6 extension headers: as [`crate::family::Wired::read`].
    fn skip_extensions(&self, packet: &mut Packet<Addr6>) -> Option<Reason>;

    /// Where `T` lies in memory, if all of it is within the packet.
    #[inline(always)]
    fn pointer<T: Wire>(&self, offset: usize) -> Option<*mut T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let (start, end) = (self.start(), self.end());
        if start + offset + size_of::<T>() > end { None } else { Some((start + offset) as *mut T) }
    }

    /// A copy of what lies at `offset`; unused parts of it are never loaded.
    #[inline(always)]
    fn read<T: Wire>(&self, offset: usize) -> Option<T> {
        // SAFETY: `pointer` has compared with the end of the packet, `Wire` types take any bytes. The target
        // loads and stores words at any address (the kernel sets CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS).
        self.pointer::<T>(offset).map(|at| unsafe { *at })
    }

    /// Four words at `offset`, word by word: of a copy of sixteen bytes the compiler makes sixteen loads.
    #[inline(always)]
    fn read_words(&self, offset: usize) -> Option<[u32; 4]> {
        let at = self.pointer::<[u32; 4]>(offset)?.cast::<u32>();
        // SAFETY: as in `read`, four times.
        Some([0, 1, 2, 3].map(|word| unsafe { at.add(word).read_volatile() }))
    }

    /// What lies at `offset`, to be changed in place. Not for transport checksums: the kernel may still owe
    /// part of one (see [`crate::rewrite::checksum`]).
    #[inline(always)]
    fn edit<T: Wire>(&mut self, offset: usize) -> Option<&mut T> {
        // SAFETY: as in `read`; the reference borrows the frame, so there is one at a time, and the kernel has
        // unshared the headers before the program began (it does for programs that write).
        self.pointer::<T>(offset).map(|at| unsafe { &mut *at })
    }
}

/// One packet at a tc hook.
pub struct Frame {
    ctx: TcContext,
}

impl Frame {
    /// The packet of a program's context.
    #[inline(always)]
    pub fn new(ctx: TcContext) -> Self {
        Self { ctx }
    }

    /// Leaves the packet to the program in the slot of `programs`, which decides in our stead: control only comes back if the
    /// slot is empty.
    #[inline(always)]
    pub fn hand_on(&self, programs: &ProgramArray, slot: u32) {
        // SAFETY: nothing here is to be dropped, so nothing is lost when control does not come back.
        unsafe { programs.tail_call(&self.ctx, slot) };
    }

    /// The context, typed.
    #[inline(always)]
    pub fn skb(&self) -> *mut __sk_buff {
        self.ctx.skb.skb
    }

    /// Bytes of the frame, linear or not.
    #[inline(always)]
    pub fn length(&self) -> usize {
        self.ctx.len() as usize
    }

    /// Cuts the packet to `len` bytes.
    #[inline(always)]
    pub fn cut(&mut self, len: u32) -> Result<(), ()> {
        // SAFETY: the context is the one that the kernel gave the program.
        if (unsafe { bpf_skb_change_tail(self.skb(), len, 0) }) == 0 { Ok(()) } else { Err(()) }
    }

    /// Makes room of `len` bytes between the Ethernet header and the network header.
    #[inline(always)]
    pub fn make_room(&mut self, len: u32) -> Result<(), ()> {
        self.adjust(len as i32, 0)
    }

    /// Makes room of `len` bytes for an outer network header; `flags` say of which family. Segments of a packet that is
    /// yet to be cut keep their length.
    #[inline(always)]
    pub fn wrap(&mut self, len: u32, flags: u64) -> Result<(), ()> {
        self.adjust(len as i32, flags | BPF_F_ADJ_ROOM_FIXED_GSO as u64)
    }

    /// Takes the first `len` bytes of the network header away.
    #[inline(always)]
    pub fn unwrap(&mut self, len: u32) -> Result<(), ()> {
        self.adjust(-(len as i32), BPF_F_ADJ_ROOM_FIXED_GSO as u64)
    }

    #[inline(always)]
    fn adjust(&mut self, len: i32, flags: u64) -> Result<(), ()> {
        // SAFETY: the context is the one that the kernel gave the program.
        let done = unsafe { bpf_skb_adjust_room(self.skb(), len, BPF_ADJ_ROOM_MAC, flags) };
        if done == 0 { Ok(()) } else { Err(()) }
    }

    /// Writes over what lies at `offset`, and keeps the kernel's own sum over the packet right, if it has one. For bytes
    /// that are no part of a header of the packet's own, whose sum does not change.
    #[inline(always)]
    pub fn store<T: Wire>(&mut self, offset: usize, value: &T) -> Result<(), ()> {
        const BPF_F_RECOMPUTE_CSUM: u64 = 1;
        let (from, size) = ((&raw const *value).cast(), size_of::<T>() as u32);
        // SAFETY: the context is the one that the kernel gave the program, the value is as long as we say.
        let done =
            unsafe { bpf_skb_store_bytes(self.skb(), offset as u32, from, size, BPF_F_RECOMPUTE_CSUM) };
        if done == 0 { Ok(()) } else { Err(()) }
    }

    /// Bytes of data in each of the packets that the device is to cut the frame into; zero: it is one packet.
    #[inline(always)]
    pub fn segment(&self) -> u32 {
        // SAFETY: the context is live for the whole program; the field is readable at a tc hook.
        unsafe { (*self.skb()).gso_size }
    }

    /// A process in the hook's own namespace sent the frame. A socket would not tell: a frame that comes in by a
    /// veth still belongs to the socket of the pod that sent it.
    #[inline(always)]
    pub fn is_from_here(&self) -> bool {
        self.arrived_by() == 0
    }

    /// Index of the device that the frame came in by; zero: by none.
    #[inline(always)]
    pub fn arrived_by(&self) -> u32 {
        // SAFETY: the context is live for the whole program; the field is readable at a tc hook.
        unsafe { (*self.skb()).ingress_ifindex }
    }

    /// The frame carries the tag of a VLAN beside its bytes: it belongs to another device. A tag that names a priority and no
    /// VLAN (number 0, IEEE 802.1Q) is none: the stack takes it off and goes on.
    #[inline(always)]
    pub fn is_tagged(&self) -> bool {
        const VLAN: u32 = 0xfff;
        // SAFETY: as in `arrived_by`; without a tag the second field is zero.
        unsafe { (*self.skb()).vlan_tci & VLAN != 0 }
    }

    /// The frame was turned round at the device that it would leave by: it has come by no other, and from no process here.
    #[inline(always)]
    pub fn has_turned(&self) -> bool {
        self.arrived_by() == self.device()
    }

    /// The frame is addressed to this node; false for what a promiscuous device overhears.
    #[inline(always)]
    pub fn is_ours(&self) -> bool {
        const PACKET_OTHERHOST: u32 = 3;
        // SAFETY: as in `arrived_by`.
        unsafe { (*self.skb()).pkt_type != PACKET_OTHERHOST }
    }
}

impl Access for Frame {
    #[inline(always)]
    fn start(&self) -> usize {
        self.ctx.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.ctx.data_end()
    }

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.ctx.skb.skb.cast()
    }

    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: as in `arrived_by`.
        unsafe { (*self.skb()).ifindex }
    }

    #[inline(always)]
    fn linearise(&mut self) -> bool {
        let linear = self.end() - self.start();
        let len = self.ctx.len();
        if linear >= PULL as usize || len as usize <= linear {
            return false;
        }
        let want = if len < PULL { len } else { PULL };
        // SAFETY: the context is the one that the kernel gave the program.
        (unsafe { bpf_skb_pull_data(self.skb(), want) }) == 0
    }

    #[inline(always)]
    fn replace_checksum(&mut self, offset: usize, difference: u32, flags: u64) -> Result<(), i64> {
        self.ctx.l4_csum_replace(offset, 0, difference as u64, flags)
    }

    #[inline(always)]
    fn skip_extensions(&self, packet: &mut Packet<Addr6>) -> Option<Reason> {
        verified::extensions(self, packet)
    }
}
