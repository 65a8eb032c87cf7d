//! Services by name, found in the frontends of the maps. They are read once: a batch asks thousands of times.

use proxy_common::{Address as _, Family, FrontendFlags, FrontendKey, Proto, V4, V6};
use proxy_model::{ObjectKey, ServiceName};

use super::end::{Directory, Place};
use crate::ctl::reader::Reader;
use crate::ctl::service::frontends;
use crate::kernel::{MapFamily, Maps};

/// Every frontend that has a name.
pub(in crate::ctl) struct Frontends(Vec<Entry>);

struct Entry {
    name: ServiceName,
    place: Place,
    proto: Proto,
    flags: FrontendFlags,
}

impl Frontends {
    /// Those of the maps.
    pub(in crate::ctl) fn read(reader: &Reader) -> anyhow::Result<Self> {
        let mut all = of_family::<V4>(reader, &reader.pinned.v4)?;
        all.extend(of_family::<V6>(reader, &reader.pinned.v6)?);
        all.sort_by_key(|entry| entry.place);
        Ok(Self(all))
    }
}

fn of_family<F: MapFamily>(reader: &Reader, maps: &Maps<F>) -> anyhow::Result<Vec<Entry>> {
    let entry = |key: FrontendKey<<F as Family>::Addr>, value: proxy_common::Frontend| {
        let name = reader.name(value.service)?.clone();
        let place = Place { address: key.addr.to_ip(), port: key.port };
        Some(Entry { name, place, proto: key.proto, flags: value.flags })
    };
    Ok(frontends(maps)?.into_iter().filter_map(|(key, value)| entry(key, value)).collect())
}

impl Directory for Frontends {
    fn frontends(&self, service: &ObjectKey, port: Option<&str>, proto: Proto) -> anyhow::Result<Vec<Place>> {
        let is_wanted = |entry: &&Entry| {
            let named = |port: &str| *entry.name.port == *port || entry.place.port.to_string() == port;
            entry.name.service == *service && entry.proto == proto && port.is_none_or(named)
        };
        let wanted: Vec<_> = self.0.iter().filter(is_wanted).collect();
        // A Service is asked for by its own addresses, if it has any.
        let own: Vec<_> =
            wanted.iter().filter(|entry| entry.flags.has(FrontendFlags::CLUSTER_IP)).copied().collect();
        let chosen = if own.is_empty() { wanted } else { own };
        Ok(chosen.into_iter().map(|entry| entry.place).collect())
    }
}
