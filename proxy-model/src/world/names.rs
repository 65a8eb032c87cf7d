//! One copy of each name that stands in many objects: namespaces, nodes, zones, ports. Every object comes with copies of its
//! own, and most of what ten thousand of them say is the same.

use std::collections::BTreeSet;

use crate::fact::{EndpointSlice, Name, ObjectKey, Service};

/// Names below which nobody looks for those that are not used any more.
const FEW: usize = 1_024;

/// The copies.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: BTreeSet<Name>,
    /// Size at which unused names are thrown away: twice what was in use then.
    full: usize,
}

impl Names {
    /// Puts the common copy in the place of this one.
    fn share(&mut self, name: &mut Name) {
        if let Some(known) = self.known.get(&**name) {
            *name = known.clone();
            return;
        }
        if self.known.len() >= self.full.max(FEW) {
            self.known.retain(|name| Name::strong_count(name) > 1);
            self.full = 2 * self.known.len();
        }
        self.known.insert(name.clone());
    }

    fn share_namespace(&mut self, key: &mut ObjectKey) {
        self.share(&mut key.namespace);
    }

    /// All but the name of the object itself.
    pub(super) fn of_service(&mut self, service: &mut Service) {
        self.share_namespace(&mut service.key);
        service.ports.iter_mut().for_each(|port| self.share(&mut port.name));
        service.proxy_name.iter_mut().for_each(|name| self.share(name));
    }

    /// All but the name of the object itself and that of its Service.
    pub(super) fn of_slice(&mut self, slice: &mut EndpointSlice) {
        self.share_namespace(&mut slice.key);
        slice.ports.iter_mut().filter_map(|port| port.name.as_mut()).for_each(|name| self.share(name));
        for endpoint in &mut slice.endpoints {
            let places = endpoint.node.iter_mut().chain(&mut endpoint.zone);
            let hints = endpoint.hint_zones.iter_mut().chain(&mut endpoint.hint_nodes);
            places.chain(hints).for_each(|name| self.share(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_copy_and_unused_ones_are_thrown_away() {
        let mut names = Names::default();
        let mut first: Name = "zone-a".into();
        let mut second: Name = String::from("zone-a").into();
        names.share(&mut first);
        names.share(&mut second);
        assert!(Name::ptr_eq(&first, &second));
        for number in 0..10 * FEW {
            names.share(&mut number.to_string().into());
        }
        assert!(names.known.len() <= FEW, "{}", names.known.len());
        assert!(names.known.contains("zone-a"));
    }
}
