//! The maps of another layout, while connections move from there to here, and where their bytes lie.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{HashMap, LruHashMap},
};
use proxy_common::{
    Addr4, Addr6, Family, Flow, FlowKey, V4, V6,
    ferry::{NOWHERE, Places},
    limits,
};

use super::{SPARE_FLOWS4, SPARE_FLOWS6};

/// Given at load time. A byte of it that is read at a known place is a constant to the verifier.
#[unsafe(no_mangle)]
pub static FERRY: Global<Places> = Global::new(Places::NONE);

#[map(name = "sparehalf4")]
static SPARE_HALF4: LruHashMap<FlowKey<Addr4>, Flow<Addr4>> =
    LruHashMap::with_max_entries(limits::SPARE_FLOWS, 0);

#[map(name = "sparehalf6")]
static SPARE_HALF6: LruHashMap<FlowKey<Addr6>, Flow<Addr6>> =
    LruHashMap::with_max_entries(limits::SPARE_FLOWS, 0);

/// A byte's place in the other layout.
#[derive(Clone, Copy)]
pub struct Place(u8);

impl Place {
    /// Where, if anywhere.
    #[inline(always)]
    pub fn offset(self) -> Option<usize> {
        if self.0 == NOWHERE { None } else { Some(self.0 as usize) }
    }
}

/// The other layout's tables of one address family. The types are ours: what their bytes mean, the places say.
pub trait Ferried: Family {
    /// Their answered connections.
    fn foreign_flows() -> &'static HashMap<FlowKey<Self::Addr>, Flow<Self::Addr>>;
    /// Their connections without an answer.
    fn foreign_half_open() -> &'static LruHashMap<FlowKey<Self::Addr>, Flow<Self::Addr>>;
    /// The place of a byte of our key; `index` is within it.
    fn key_place(index: usize) -> Place;
    /// The place of a byte of our value; `index` is within it.
    fn flow_place(index: usize) -> Place;
}

macro_rules! place {
    ($part:ident, $index:ident) => {{
        let places = (&raw const FERRY).cast::<Places>();
        // SAFETY: the caller's index is within the array. Volatile, because the loader has changed it behind the
        // compiler's back.
        Place(unsafe { core::ptr::read_volatile((&raw const (*places).$part).cast::<u8>().add($index)) })
    }};
}

macro_rules! ferried {
    ($family:ty, $flows:ident, $half_open:ident, $key:ident, $flow:ident) => {
        impl Ferried for $family {
            #[inline(always)]
            fn foreign_flows() -> &'static HashMap<FlowKey<Self::Addr>, Flow<Self::Addr>> {
                &$flows
            }
            #[inline(always)]
            fn foreign_half_open() -> &'static LruHashMap<FlowKey<Self::Addr>, Flow<Self::Addr>> {
                &$half_open
            }
            #[inline(always)]
            fn key_place(index: usize) -> Place {
                place!($key, index)
            }
            #[inline(always)]
            fn flow_place(index: usize) -> Place {
                place!($flow, index)
            }
        }
    };
}

ferried!(V4, SPARE_FLOWS4, SPARE_HALF4, key4, flow4);
ferried!(V6, SPARE_FLOWS6, SPARE_HALF6, key6, flow6);
