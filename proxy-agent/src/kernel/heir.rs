//! Who gets the connections of a node that is left: netfilter, as far as it is there. Knows no maps of ours.

use std::io;

use proxy_common::{Address, Flow, FlowKey, Proto, Route};

use super::{
    conntrack::Conntrack,
    family::MapFamily,
    netfilter::{self, Translates},
};

/// Netfilter.
pub(super) struct Heir {
    conntrack: Option<Conntrack>,
    translates: Translates,
    /// It was said that it refuses.
    has_refused: bool,
}

/// What netfilter says to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer<A> {
    /// It has it, and gets its answers with this tuple.
    Taken(FlowKey<A>),
    /// It does not take it.
    Refused,
    /// Others use its tuples by now: there is nothing to take.
    Outdated,
}

impl Heir {
    pub(super) fn find() -> Self {
        let found = Conntrack::open();
        if let Err(error) = &found {
            tracing::warn!(%error, "netfilter cannot take connections over: those that are left are cut");
        }
        let mut heir = Self { conntrack: found.ok(), translates: Translates::default(), has_refused: false };
        heir.look_again();
        heir
    }

    /// Whoever serves beside us may have come only now.
    pub(super) fn look_again(&mut self) {
        if self.translates.v4 && self.translates.v6 {
            return;
        }
        match netfilter::translates() {
            Ok(translates) => self.translates = translates,
            Err(error) => tracing::debug!(%error, "cannot see what netfilter translates"),
        }
    }

    /// Whether it translates packets of the family.
    pub(super) fn translates<F: MapFamily>(&self) -> bool {
        if F::Addr::default().to_ip().is_ipv4() { self.translates.v4 } else { self.translates.v6 }
    }

    /// Gives it a connection, as the packets of it leave the node: where they pass the node's stack after our translation, netfilter may have
    /// translated them once more, by rules of others or because their port was taken. What it has noted of packets with these
    /// tuples makes room, if the connection `still_is`: the tuples of one that is over may belong to another by now, which must
    /// keep them.
    pub(super) fn take<A: Address>(
        &mut self,
        key: &FlowKey<A>,
        flow: &Flow<A>,
        seconds: u32,
        still_is: impl FnOnce() -> io::Result<bool>,
    ) -> io::Result<Answer<A>> {
        let Some(conntrack) = &mut self.conntrack else { return Ok(Answer::Refused) };
        let answers = onward(conntrack, flow, key.proto).unwrap_or_else(|| flow.other(key.proto));
        let whole =
            Flow { src: answers.dst, sport: answers.dport, dst: answers.src, dport: answers.sport, ..*flow };
        let mut result = conntrack.put(key, &whole, seconds);
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
            if !still_is()? {
                return Ok(Answer::Outdated);
            }
            result = conntrack.replace(key, &whole, seconds);
        }
        let Err(error) = result else { return Ok(Answer::Taken(answers)) };
        if !self.has_refused {
            self.has_refused = true;
            tracing::warn!(?key, %error, "netfilter does not take a connection over; of others nothing is said");
        }
        Ok(Answer::Refused)
    }

    /// Lets it give nobody else the tuple of these answers, because they are translated here. Whoever it has noted with that, keeps it.
    pub(super) fn reserve<A: Address>(&mut self, answers: &FlowKey<A>, seconds: u32) {
        if let Some(conntrack) = &mut self.conntrack {
            let packets = answers.reversed();
            // One that has no room for this has none for others either.
            let _ = conntrack.put(&packets, &Flow::plain(&packets), seconds);
        }
    }
}

/// What netfilter has made of the packets of a connection as we translate them: the tuple of the answers that it gets. None: they do
/// not come by there, or it has not seen any.
fn onward<A: Address>(conntrack: &mut Conntrack, flow: &Flow<A>, proto: Proto) -> Option<FlowKey<A>> {
    if flow.route != Route::STACK {
        return None;
    }
    conntrack.answers_to(&flow.other(proto).reversed()).ok().flatten()
}
