//! The pinned maps of one root with the names that the agent wrote down, opened for reading.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use anyhow::bail;
use proxy_common::maps::LAYOUT_VERSION;
use proxy_common::{Port, ServiceId};
use proxy_model::{ObjectKey, ServiceName};

use crate::kernel::pins::{self, Pinned, Pins};
use crate::kernel::record::{RUN_ROOT, Record};

/// Everything that is read.
pub(super) struct Reader {
    pub(super) pinned: Pinned,
    pub(super) record: Record,
    names: BTreeMap<ServiceId, ServiceName>,
}

impl Reader {
    /// Opens the maps.
    pub(super) fn open(bpf_root: &Path) -> anyhow::Result<Self> {
        let root = bpf_root.display();
        // A directory that may not be looked at is another matter: opening the maps says so.
        let maps = std::fs::metadata(Pins::below(bpf_root).maps_dir());
        if maps.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            let others: Vec<_> =
                Pins::below(bpf_root).others().iter().map(|pins| pins.version().to_string()).collect();
            if !others.is_empty() {
                bail!(
                    "the maps below {root} are of layout {}, and this proxyctl reads layout {LAYOUT_VERSION}: take the \
                     proxyctl of the agent that runs (in its pod: kubectl exec), or start an agent of this version, which \
                     takes them over",
                    others.join(", ")
                );
            }
            bail!(
                "nothing is pinned below {root}: no agent has run with this --bpf-root (give another one, or set \
                 SLUICE_BPF_ROOT; agents print theirs when they start)"
            );
        }
        let pinned = pins::open(bpf_root).map_err(|error| {
            let remedy = if is_forbidden(&error) { " (run as root, with CAP_BPF)" } else { "" };
            anyhow::Error::new(error).context(format!("the maps below {root} cannot be read{remedy}"))
        })?;
        let record = Record::of(Path::new(RUN_ROOT), bpf_root);
        let names = record.names();
        Ok(Self { pinned, record, names })
    }

    /// The name of an id, as far as it was written down.
    pub(super) fn name(&self, id: ServiceId) -> Option<&ServiceName> {
        self.names.get(&id)
    }

    /// `namespace/name:port`, or the number of a Service without a name.
    pub(super) fn label(&self, id: ServiceId) -> String {
        match self.name(id) {
            Some(ServiceName { service, port, .. }) if port.is_empty() => service.to_string(),
            Some(ServiceName { service, port, .. }) => format!("{service}:{port}"),
            None if id == ServiceId::NONE => "-".into(),
            None => format!("#{}", id.0),
        }
    }

    /// Tells whether an id is of the Service that was asked for.
    pub(super) fn only(&self, service: Option<&str>) -> anyhow::Result<Only<'_>> {
        let key = service.map(object_key).transpose()?;
        Ok(Only { reader: self, key })
    }
}

fn is_forbidden(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// A choice of one Service, or of all.
pub(super) struct Only<'a> {
    reader: &'a Reader,
    key: Option<ObjectKey>,
}

impl Only<'_> {
    /// The id is of the Service.
    pub(super) fn takes(&self, id: ServiceId) -> bool {
        self.key.as_ref().is_none_or(|key| self.reader.name(id).is_some_and(|name| name.service == *key))
    }
}

/// Reads `namespace/name`; a name alone is in `default`.
pub(super) fn object_key(text: &str) -> anyhow::Result<ObjectKey> {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        bail!("{text:?} is not NAMESPACE/NAME");
    }
    Ok(ObjectKey::new(namespace, name))
}

/// A Service that was asked for, and one of its ports if that was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    /// The Service.
    pub(super) service: ObjectKey,
    /// Name or number of a port.
    port: Option<String>,
}

impl Wanted {
    /// Reads `namespace/name` or `namespace/name:port`.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let (service, port) = match text.split_once(':') {
            Some((_, "")) => bail!("{text:?} is not NAMESPACE/NAME:PORT"),
            Some((service, port)) => (service, Some(port.to_owned())),
            None => (text, None),
        };
        Ok(Self { service: object_key(service)?, port })
    }

    /// A frontend with that number, of the port of that name, is of the port that was asked for.
    pub(super) fn takes(&self, name: &str, number: Port) -> bool {
        self.port.as_ref().is_none_or(|port| port == name || *port == number.number().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_asked_for_by_name_or_number() {
        let takes = |text: &str| {
            let wanted = Wanted::parse(text).unwrap();
            assert_eq!(wanted.service, ObjectKey::new("shop", "web"));
            [("http", 80), ("https", 443)].map(|(name, number)| wanted.takes(name, Port::new(number)))
        };
        assert_eq!(takes("shop/web"), [true, true]);
        assert_eq!(takes("shop/web:https"), [false, true]);
        assert_eq!(takes("shop/web:80"), [true, false]);
        assert!(Wanted::parse("shop/web:").is_err());
    }

    #[test]
    fn a_service_is_named_by_namespace_and_name() {
        assert_eq!(object_key("shop/web").unwrap(), ObjectKey::new("shop", "web"));
        assert_eq!(object_key("web").unwrap(), ObjectKey::new("default", "web"));
        for bad in ["", "/web", "shop/", "a/b/c"] {
            assert!(object_key(bad).is_err(), "{bad}");
        }
    }
}
