//! Services of another proxy (item 1). Only where they are counts: nobody may be refused there, because it is another's to
//! answer.

use std::collections::BTreeSet;

use proxy_common::Address;

use super::World;
use crate::fact::{Label, Prefix, Service};
use crate::family::Served;
use crate::settings::Settings;

/// Takes what does not count from a Service, if it is another proxy's. Headless ones have no say whosesoever they are (item 2).
pub(super) fn reduce(service: &mut Service, settings: &Settings) {
    if service.proxy_name == settings.service_proxy_name {
        return;
    }
    let mut addresses = std::mem::take(&mut service.cluster_ips);
    if service.headless_label == Label::Present {
        addresses.clear();
    }
    addresses.shrink_to_fit();
    *service = Service {
        created: service.created,
        kind: service.kind,
        cluster_ips: addresses,
        proxy_name: service.proxy_name.take(),
        headless_label: service.headless_label,
        ..Service::without_ports(service.key.clone())
    };
}

impl World {
    /// The label says that it is this proxy's (item 1).
    pub fn is_ours(&self, service: &Service) -> bool {
        service.proxy_name == self.settings.service_proxy_name
    }

    /// The ranges in which nobody but Services of ours is served (item 53): those of the settings and these. A proxy of a name
    /// has but some of the Services and cannot know where the others are.
    pub(crate) fn service_ranges(&self, more: &[Prefix]) -> Vec<Prefix> {
        match self.settings().service_proxy_name {
            Some(_) => Vec::new(),
            None => self.settings().service_cidrs.iter().chain(more).copied().collect(),
        }
    }

    /// Where Services of other proxies are.
    pub(crate) fn others_addresses<F: Served>(&self) -> BTreeSet<F::Addr> {
        let services = self.others.iter().filter_map(|key| self.services.get(key));
        services.flat_map(|service| &service.cluster_ips).filter_map(|ip| F::Addr::from_ip(*ip)).collect()
    }
}
