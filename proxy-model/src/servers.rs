//! Who still answers for a UDP Service port, and after which change flows must be looked at (items 101–104).
//!
//! UDP says no goodbye: a client that goes on sending would stay with a backend that is gone. Endpoints that serve
//! keep their flows, whatever traffic policy, topology and readiness say (item 103); knows no flows itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use proxy_common::{Family, Port, Proto, ServiceId};

use crate::endpoint::Candidates;
use crate::intent::{Intent, PortIntent};

/// Serving endpoints of a UDP Service port, sorted. Empty for every other protocol (item 105).
pub type Servers<F> = Arc<[(<F as Family>::Addr, Port)]>;

/// The endpoints that serve each UDP Service port now. Without the ports that nobody serves: flows of those are left
/// alone (item 102).
pub type Answering<F> = BTreeMap<ServiceId, Servers<F>>;

/// Service ports whose flows may lead to endpoints that are gone, each with the endpoints that serve it now. Never
/// without any: flows of a Service that nobody serves are left alone (item 102).
pub type Moved<F> = BTreeMap<ServiceId, Servers<F>>;

/// The endpoints that answer, draining ones included. One that is ready without serving, as
/// `publishNotReadyAddresses` makes them, does not count (item 101).
pub(crate) fn servers<F: Family>(candidates: &Candidates<'_, F>, proto: Proto) -> Servers<F> {
    if proto != Proto::UDP {
        return Arc::default();
    }
    let answer = candidates.iter().filter(|(_, candidate)| candidate.serves());
    answer.map(|(endpoint, _)| *endpoint).collect()
}

/// The ports of a Service whose flows must be looked at after a change; `ids` are those of its ports.
pub(crate) fn moved<F: Family>(
    old: Option<&Intent<F>>,
    new: &Intent<F>,
    ids: &[ServiceId],
) -> impl Iterator<Item = (ServiceId, Servers<F>)> {
    let before = move |port: &PortIntent<F>| {
        let mut ports = old.into_iter().flat_map(|old| &old.ports);
        ports.find(|known| (&known.name, known.proto) == (&port.name, port.proto)).map(|port| &*port.servers)
    };
    let ports = new.ports.iter().zip(ids);
    let moved = ports.filter(move |(port, _)| is_move(before(port).unwrap_or_default(), &port.servers));
    moved.map(|(port, id)| (*id, port.servers.clone()))
}

/// Somebody is gone, or nobody was known: then whoever was there before is not known either, and flows that began
/// in between are looked at as soon as there is somebody they can go to (items 102, 104). Servers that only join
/// leave every flow where it is.
fn is_move<T: Ord>(before: &[T], after: &[T]) -> bool {
    let is_gone = |server: &T| after.binary_search(server).is_err();
    !after.is_empty() && (before.is_empty() || before.iter().any(is_gone))
}

#[cfg(test)]
mod tests {
    use super::is_move;

    #[test]
    fn flows_move_when_a_server_is_gone_and_somebody_is_left() {
        let cases: [(&[u8], &[u8], bool); 8] = [
            (&[], &[], false),
            (&[], &[1], true),
            (&[1], &[], false),
            (&[1], &[1], false),
            (&[1], &[1, 2], false),
            (&[1, 2], &[1], true),
            (&[1, 2], &[2, 3], true),
            (&[1], &[2], true),
        ];
        for (before, after, moves) in cases {
            assert_eq!(is_move(before, after), moves, "{before:?} to {after:?}");
        }
    }
}
