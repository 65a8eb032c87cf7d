//! Whether a load balancer's address serves a client (items 81, 82). Both roads ask here.

use aya_ebpf::maps::lpm_trie::Key;
use proxy_common::{Frontend, FrontendFlags, RangeKey, Reason};

use crate::maps::{Range, Tables};

/// [`Reason::SourceRange`] for a client outside of the frontend's ranges. Frontends without any cost nothing.
#[inline(always)]
pub fn admit<F: Tables>(frontend: &Frontend, client: F::Addr) -> Result<(), Reason> {
    if !frontend.flags.has(FrontendFlags::RANGES) {
        return Ok(());
    }
    let RangeKey { bits, service, addr } = RangeKey::exactly(frontend.service, client);
    match F::ranges().get(Key::new(bits, Range { service, addr })) {
        Some(_) => Ok(()),
        None => Err(Reason::SourceRange),
    }
}
