//! A packet at an XDP hook: bytes in the driver's memory, of which the kernel has made nothing yet. It may be in several
//! buffers; only the first can be read, and headers are in it.

use aya_ebpf::{bindings::BPF_F_MARK_MANGLED_0, cty::c_void, programs::XdpContext};
use proxy_common::{Addr6, Reason, checksum};

use super::Packet;
use super::cursor::Access;

/// One packet at an XDP hook.
pub struct DriverFrame {
    ctx: XdpContext,
}

impl DriverFrame {
    /// The packet of a program's context.
    #[inline(always)]
    pub fn new(ctx: XdpContext) -> Self {
        Self { ctx }
    }
}

impl Access for DriverFrame {
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
        self.ctx.ctx.cast()
    }

    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: the context is live for the whole program.
        unsafe { (*self.ctx.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn linearise(&mut self) -> bool {
        false
    }

    /// By hand: what comes off a wire is summed, so no kernel owes a part of it. (A veth's packets never were on a wire;
    /// see `docs/xdp.md`.)
    #[inline(always)]
    fn replace_checksum(&mut self, offset: usize, difference: u32, flags: u64) -> Result<(), i64> {
        let zero_is_none = flags & BPF_F_MARK_MANGLED_0 as u64 != 0;
        let field = self.edit::<u16>(offset).ok_or(EFAULT)?;
        if zero_is_none && *field == 0 {
            return Ok(());
        }
        let sum = checksum::apply(*field, difference);
        *field = if zero_is_none && sum == 0 { u16::MAX } else { sum };
        Ok(())
    }

    /// Rare: whoever sits behind this hook can walk them.
    #[inline(always)]
    fn skip_extensions(&self, _packet: &mut Packet<Addr6>) -> Option<Reason> {
        Some(Reason::NoPorts)
    }
}

const EFAULT: i64 = -14;
