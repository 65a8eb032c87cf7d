//! The names of each family's maps, and addresses of a family as people write them.

use proxy_common::{Address as _, Cidr, Family, Port, PrefixKey, V4, V6};

/// The names of a family's maps.
pub trait Named: Family {
    /// Place in arrays.
    const INDEX: usize;
    /// Frontends.
    const FRONTENDS: &'static str;
    /// Slots.
    const BACKENDS: &'static str;
    /// Answered connections.
    const FLOWS: &'static str;
    /// Others.
    const HALF_OPEN: &'static str;
    /// Addresses of the node.
    const LOCAL: &'static str;
    /// The node.
    const NODE: &'static str;
    /// Ranges beside it.
    const NETS: &'static str;
    /// Addresses of devices.
    const SOURCES: &'static str;
    /// Source ranges.
    const RANGES: &'static str;
}

impl Named for V4 {
    const INDEX: usize = 0;
    const FRONTENDS: &'static str = "frontends4";
    const BACKENDS: &'static str = "backends4";
    const FLOWS: &'static str = "flows4";
    const HALF_OPEN: &'static str = "halfopen4";
    const LOCAL: &'static str = "localaddrs4";
    const NODE: &'static str = "node4";
    const NETS: &'static str = "nets4";
    const SOURCES: &'static str = "sources4";
    const RANGES: &'static str = "ranges4";
}

impl Named for V6 {
    const INDEX: usize = 1;
    const FRONTENDS: &'static str = "frontends6";
    const BACKENDS: &'static str = "backends6";
    const FLOWS: &'static str = "flows6";
    const HALF_OPEN: &'static str = "halfopen6";
    const LOCAL: &'static str = "localaddrs6";
    const NODE: &'static str = "node6";
    const NETS: &'static str = "nets6";
    const SOURCES: &'static str = "sources6";
    const RANGES: &'static str = "ranges6";
}

pub(crate) fn family_addr<F: Family>(text: &str) -> F::Addr {
    let ip = text.parse().unwrap_or_else(|_| panic!("{text} is no address"));
    F::Addr::from_ip(ip).unwrap_or_else(|| panic!("{text} is not {}", F::NAME))
}

/// An address and port of a family.
///
/// # Panics
/// If the text is none.
#[must_use]
pub fn endpoint<F: Family>(text: &str) -> (F::Addr, Port) {
    let at = crate::packet::addr(text);
    (family_addr::<F>(&at.ip().to_string()), Port::new(at.port()))
}

pub(crate) fn range<F: Family>(text: &str) -> Cidr<F::Addr> {
    let Some((addr, len)) = text.split_once('/') else { return Cidr::unused() };
    Cidr::new(family_addr::<F>(addr), len.parse().expect("a length"))
}

pub(crate) fn prefix_key<F: Family>(scope: u32, text: &str) -> PrefixKey<F::Addr> {
    let (addr, len) = text.split_once('/').expect("a range");
    PrefixKey::new(scope, family_addr::<F>(addr), len.parse().expect("a length"))
}
