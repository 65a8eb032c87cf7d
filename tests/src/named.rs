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
    /// Local pods under a policy.
    const POLICED: &'static str;
    /// Classes of addresses.
    const PEERS: &'static str;
    /// Classes of prefixes.
    const BLOCKS: &'static str;
}

macro_rules! named {
    ($family:ty, $index:literal, $number:literal) => {
        impl Named for $family {
            const INDEX: usize = $index;
            const FRONTENDS: &'static str = concat!("frontends", $number);
            const BACKENDS: &'static str = concat!("backends", $number);
            const FLOWS: &'static str = concat!("flows", $number);
            const HALF_OPEN: &'static str = concat!("halfopen", $number);
            const LOCAL: &'static str = concat!("localaddrs", $number);
            const NODE: &'static str = concat!("node", $number);
            const NETS: &'static str = concat!("nets", $number);
            const SOURCES: &'static str = concat!("sources", $number);
            const RANGES: &'static str = concat!("ranges", $number);
            const POLICED: &'static str = concat!("policed", $number);
            const PEERS: &'static str = concat!("peers", $number);
            const BLOCKS: &'static str = concat!("blocks", $number);
        }
    };
}

named!(V4, 0, "4");
named!(V6, 1, "6");

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
