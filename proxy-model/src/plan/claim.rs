//! Who claims which frontend, and who gets it.

use proxy_common::{Family, FrontendKey, Proto};

use super::name::ServiceName;
use crate::fact::{Name, ObjectKey};
use crate::family::Served;
use crate::intent::{Exposure, Intent, PortIntent};
use crate::sorted::Sorted;

/// A claim to a key. The order is the precedence: a cluster address before an external one before a node port
/// (item 69), then the older Service, then the lower name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Claim {
    pub(crate) what: Claimed,
    created: u64,
    pub(crate) service: ObjectKey,
    pub(crate) port: Name,
    pub(crate) proto: Proto,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Claimed {
    Wildcard,
    Frontend(Exposure),
}

impl Claim {
    pub(crate) fn name<F: Served>(&self) -> ServiceName {
        ServiceName {
            service: self.service.clone(),
            port: self.port.clone(),
            proto: self.proto,
            family: F::FAMILY,
        }
    }
}

/// The name of one of a Service's ports.
pub(crate) fn name_of<F: Served>(service: &ObjectKey, port: &PortIntent<F>) -> ServiceName {
    ServiceName { service: service.clone(), port: port.name.clone(), proto: port.proto, family: F::FAMILY }
}

/// Each key with one of the claims to it, the strongest first.
#[derive(Debug)]
pub(crate) struct Claims<F: Family>(Sorted<(FrontendKey<F::Addr>, Claim), ()>);

impl<F: Family> Claims<F> {
    pub(crate) fn new() -> Self {
        Self(Sorted::new())
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &FrontendKey<F::Addr>> {
        self.0.keys().map(|(key, _)| key)
    }

    /// The claims to a key, the strongest first.
    pub(crate) fn to(&self, key: &FrontendKey<F::Addr>) -> impl Iterator<Item = &Claim> {
        let claims = self.0.skip_while(move |(known, _)| known < key).map(|(pair, ())| pair);
        claims.take_while(move |(known, _)| known == key).map(|(_, claim)| claim)
    }

    pub(crate) fn insert(&mut self, key: FrontendKey<F::Addr>, claim: Claim) {
        self.0.insert((key, claim), ());
    }

    pub(crate) fn remove(&mut self, key: FrontendKey<F::Addr>, claim: Claim) {
        self.0.remove(&(key, claim));
    }
}

/// Everything that a Service claims.
pub(crate) fn claims<F: Family>(
    service: &ObjectKey,
    intent: &Intent<F>,
) -> Vec<(FrontendKey<F::Addr>, Claim)> {
    let claim = |what, port: &Name, proto| Claim {
        what,
        created: intent.created,
        service: service.clone(),
        port: port.clone(),
        proto,
    };
    let wildcard = intent
        .wildcard
        .map(|addr| (FrontendKey::wildcard(addr), claim(Claimed::Wildcard, &Name::default(), Proto::ANY)));
    let of_ports = intent.ports.iter().flat_map(|port| {
        port.frontends
            .iter()
            .map(move |(key, exposure)| (*key, claim(Claimed::Frontend(*exposure), &port.name, port.proto)))
    });
    wildcard.into_iter().chain(of_ports).collect()
}
