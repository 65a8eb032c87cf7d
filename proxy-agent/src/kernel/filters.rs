//! Which filters of ours hang on a device, as the kernel lists them: their place says that they are ours, their names for which hook.
//! Numbers and layouts are those of `linux/rtnetlink.h` and `linux/pkt_cls.h`. Knows not who should have one.

use std::io;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    clsact::{HANDLE, PRIORITY},
    hook::{Hook, Side},
    talk::{Talk, find, flags},
    topology::IfIndex,
};

/// `RTM_GETTFILTER`.
const LIST: u16 = 46;

/// Kinds of attributes.
mod attribute {
    /// `TCA_KIND`.
    pub(super) const KIND: u16 = 1;
    /// `TCA_OPTIONS`.
    pub(super) const OPTIONS: u16 = 2;
    /// `TCA_BPF_NAME`.
    pub(super) const NAME: u16 = 7;
    /// `TCA_BPF_ID`.
    pub(super) const PROGRAM: u16 = 11;
}

/// `tcmsg`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Message {
    family: u8,
    pad: [u8; 3],
    index: u32,
    handle: u32,
    parent: u32,
    /// The priority, and the protocol behind it.
    info: u32,
}

/// A filter at our place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filter {
    /// By the name of its program.
    pub hook: Hook,
    /// The kernel's number of its program.
    pub program: Option<u32>,
}

/// A conversation about the filters of the namespace that it was opened in.
#[derive(Debug)]
pub struct Filters {
    talk: Talk,
}

impl Filters {
    /// Opens one in the namespace of the calling thread.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn open() -> io::Result<Self> {
        Ok(Self { talk: Talk::open(None)? })
    }

    /// Ours on that side of a device; none without the device or the qdisc.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn at(&mut self, IfIndex(index): IfIndex, side: Side) -> io::Result<Option<Filter>> {
        let asked = Message { family: 0, pad: [0; 3], index, handle: 0, parent: parent(side), info: 0 };
        let mut found = None;
        self.talk.ask(LIST, flags::DUMP, asked.as_bytes(), |answer| found = found.or(ours(answer)))?;
        Ok(found)
    }
}

/// The filter of an answer, if it is at our place and has one of our names.
fn ours(answer: &[u8]) -> Option<Filter> {
    let (message, attributes) = Message::read_from_prefix(answer).ok()?;
    let is_at_our_place = message.handle == u32::from(HANDLE) && message.info >> 16 == u32::from(PRIORITY);
    if !is_at_our_place || find(attributes, attribute::KIND)? != b"bpf\0" {
        return None;
    }
    let options = find(attributes, attribute::OPTIONS)?;
    let name = std::str::from_utf8(find(options, attribute::NAME)?).ok()?;
    let program =
        find(options, attribute::PROGRAM).and_then(|id| Some(u32::from_ne_bytes(id.try_into().ok()?)));
    Some(Filter { hook: Hook::named(name.trim_end_matches('\0'))?, program })
}

/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`, and the same of egress.
const fn parent(side: Side) -> u32 {
    match side {
        Side::Ingress => 0xffff_fff2,
        Side::Egress => 0xffff_fff3,
    }
}
