//! What may be asked about a case: whether its source is forged, what the rules say, or one after the other. In one function,
//! because the processor pays for each call and each return, and a new connection of a pod asks for both.

use proxy_common::Reason;

use super::{
    Case,
    rule::judge,
    source::{Role, is_forged},
};
use crate::verified::police::Judging;

/// What is asked. A number, because it passes a function that is verified on its own.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Question(pub u32);

impl Question {
    /// What the rules say.
    pub const RULES: Self = Self(1);
    /// Whether the end that has sent the packet has forged its address.
    const SOURCE: Self = Self(2);
    /// That end is the server.
    const OF_SERVER: Self = Self(4);

    /// Whether this end, which has sent the packet, has forged its address.
    #[inline(always)]
    pub const fn source(sender: Role) -> Self {
        match sender {
            Role::Client => Self::SOURCE,
            Role::Server => Self(Self::SOURCE.0 | Self::OF_SERVER.0),
        }
    }

    /// The same, and if not, what the rules say.
    #[inline(always)]
    pub const fn all(sender: Role) -> Self {
        Self(Self::source(sender).0 | Self::RULES.0)
    }

    #[inline(always)]
    const fn has(self, part: Self) -> bool {
        self.0 & part.0 != 0
    }
}

/// [`Reason::ForgedSource`], or what the rules say. If they are not asked, [`Reason::NotAService`].
#[inline(always)]
pub fn answer<F: Judging>(case: &mut Case<F::Addr>, device: u32, question: Question) -> Reason {
    let sender = if question.has(Question::OF_SERVER) { Role::Server } else { Role::Client };
    if question.has(Question::SOURCE) && is_forged::<F>(case, device, sender) {
        return Reason::ForgedSource;
    }
    if question.has(Question::RULES) { judge::<F>(case) } else { Reason::NotAService }
}
