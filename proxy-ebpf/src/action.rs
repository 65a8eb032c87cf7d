//! What becomes of a packet at a tc hook.

use aya_ebpf::{
    bindings::tcx_action_base::{TCX_DROP, TCX_NEXT},
    helpers::generated::{bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer},
};
use proxy_common::{Reason, reason::Outcome};

/// What the hook tells the kernel. A number and not an enum: an enum's unused payload is a register that was never
/// written, which the verifier refuses to see saved.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Action(i32);

impl Action {
    /// On its way, through whatever other programs sit at the hook.
    pub const CONTINUE: Self = Self(TCX_NEXT);
    /// Gone.
    pub const DROP: Self = Self(TCX_DROP);

    /// The code for the kernel.
    #[inline(always)]
    pub fn code(self) -> i32 {
        self.0
    }

    /// As the code says that a helper or a function of ours gave.
    #[inline(always)]
    pub fn from_code(code: i32) -> Self {
        Self(code)
    }

    /// Out of a device, the Ethernet header as it stands.
    #[inline(always)]
    pub fn out_of(device: u32) -> Self {
        // SAFETY: plain numbers; a wrong device index makes the kernel drop the packet.
        Self(unsafe { bpf_redirect(device, 0) } as i32)
    }

    /// Into a device, as if it had arrived there.
    #[inline(always)]
    pub fn into_device(device: u32) -> Self {
        const BPF_F_INGRESS: u64 = 1;
        // SAFETY: as in `out_of`.
        Self(unsafe { bpf_redirect(device, BPF_F_INGRESS) } as i32)
    }

    /// Into the other end of a veth; from an ingress hook only.
    #[inline(always)]
    pub fn into_peer(device: u32) -> Self {
        // SAFETY: as in `out_of`.
        Self(unsafe { bpf_redirect_peer(device, 0) } as i32)
    }

    /// Out of a device, the Ethernet header filled in by the kernel's neighbour table.
    #[inline(always)]
    pub fn to_neighbour(device: u32) -> Self {
        // SAFETY: as in `out_of`; without parameters the helper finds the next hop itself.
        Self(unsafe { bpf_redirect_neigh(device, core::ptr::null_mut(), 0, 0) } as i32)
    }
}

/// An action and why.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Why; it is counted.
    pub reason: Reason,
    /// What.
    pub action: Action,
}

impl Verdict {
    /// A verdict.
    #[inline(always)]
    pub fn new(reason: Reason, action: Action) -> Self {
        Self { reason, action }
    }

    /// What follows from the reason alone; a rejection without an answer is a drop.
    #[inline(always)]
    pub fn of(reason: Reason) -> Self {
        let action = match reason.outcome() {
            Outcome::Pass | Outcome::Translate => Action::CONTINUE,
            Outcome::Reject | Outcome::Drop => Action::DROP,
        };
        Self { reason, action }
    }
}
