//! The ends of a connection as people write them: a pod, a Service, an address, or this node.

use std::net::{IpAddr, SocketAddr};

use anyhow::bail;
use proxy_common::{Port, Proto};
use proxy_model::ObjectKey;

use crate::ctl::policy::names::Names;
use crate::ctl::policy::tables::Tables;
use crate::ctl::reader::object_key;

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// `node`: this node itself.
    Node,
    /// An address, and a port if one was said.
    Address(IpAddr, Option<Port>),
    /// `pod/NAMESPACE/NAME`.
    Pod(ObjectKey),
    /// `svc/NAMESPACE/NAME[:PORT]`, the port by name or number.
    Service(ObjectKey, Option<String>),
    /// `NAMESPACE/NAME[:PORT]`: a pod, or else a Service.
    Named(ObjectKey, Option<String>),
}

impl End {
    /// Reads an end.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        if text == "node" {
            return Ok(Self::Node);
        }
        if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(Self::Address(ip, None));
        }
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self::Address(socket.ip(), Some(Port::new(socket.port()))));
        }
        let (name, port) = match text.split_once(':') {
            Some((_, "")) => bail!("{text:?} has a colon and no port behind it"),
            Some((name, port)) => (name, Some(port.to_owned())),
            None => (text, None),
        };
        match name.split('/').collect::<Vec<_>>()[..] {
            ["pod", namespace, name] if !namespace.is_empty() && !name.is_empty() && port.is_none() => {
                Ok(Self::Pod(ObjectKey::new(namespace, name)))
            }
            ["svc" | "service", namespace, name] if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self::Service(ObjectKey::new(namespace, name), port))
            }
            [_] | [_, _] => match object_key(name) {
                Ok(key) => Ok(Self::Named(key, port)),
                Err(_) => bail!("{}", expected(text)),
            },
            _ => bail!("{}", expected(text)),
        }
    }
}

fn expected(text: &str) -> String {
    format!(
        "{text:?} is none of NAMESPACE/NAME of a pod or Service, pod/NAMESPACE/NAME, svc/NAMESPACE/NAME[:PORT], an \
         address, or `node`"
    )
}

/// Somebody who sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sender {
    pub(super) address: IpAddr,
}

/// A place that is sent to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::ctl) struct Place {
    pub(in crate::ctl) address: IpAddr,
    pub(in crate::ctl) port: Port,
}

/// Where Services are found by name: places with their protocol, as the maps have them.
pub(super) trait Directory {
    /// Frontends of a Service, those of the port of that name or number if one is said.
    fn frontends(&self, service: &ObjectKey, port: Option<&str>, proto: Proto) -> anyhow::Result<Vec<Place>>;
}

/// The addresses of who sends.
pub(super) fn senders(end: &End, tables: &impl Tables, names: &Names) -> anyhow::Result<Vec<Sender>> {
    let addresses = match end {
        End::Node => own(tables, names)?,
        End::Address(_, Some(port)) => {
            bail!("--from takes no port ({port}): a client's port decides nothing")
        }
        End::Address(ip, None) => vec![*ip],
        End::Pod(key) | End::Named(key, None) => pod(key, names)?,
        End::Service(key, _) | End::Named(key, Some(_)) => {
            bail!("--from {key} is a Service: connections come from its pods, name one of them")
        }
    };
    Ok(addresses.into_iter().map(|address| Sender { address }).collect())
}

/// The places that are meant.
pub(super) fn places(
    end: &End,
    (port, proto): (Option<Port>, Proto),
    directory: &impl Directory,
    tables: &impl Tables,
    names: &Names,
) -> anyhow::Result<Vec<Place>> {
    let by_number = port.map(|port| port.to_string());
    let of_service = |key: &ObjectKey, said: Option<&str>| {
        let found = directory.frontends(key, said.or(by_number.as_deref()), proto)?;
        if found.is_empty() {
            let port = said.or(by_number.as_deref()).map(|port| format!(":{port}")).unwrap_or_default();
            bail!(
                "the maps have no frontend of Service {key}{port} for {proto}; `proxyctl service list` shows those that \
                 there are"
            );
        }
        Ok(found)
    };
    let addresses = match end {
        End::Service(key, said) => return of_service(key, said.as_deref()),
        End::Named(key, said) if said.is_some() || names.pod(&key.to_string()).is_none() => {
            return match of_service(key, said.as_deref()) {
                Err(_) if said.is_none() => bail!(
                    "neither a pod nor a Service {key} is known on this node; give an address, or ask where it is known"
                ),
                found => found,
            };
        }
        End::Named(key, _) | End::Pod(key) => pod(key, names)?,
        End::Node => own(tables, names)?,
        End::Address(ip, said) => {
            let port = said.or(port);
            return Ok(vec![Place { address: *ip, port: known(port, proto)? }]);
        }
    };
    let port = known(port, proto)?;
    Ok(addresses.into_iter().map(|address| Place { address, port }).collect())
}

/// The port, which only protocols without ports need not have.
fn known(port: Option<Port>, proto: Proto) -> anyhow::Result<Port> {
    match port {
        Some(port) if has_ports(proto) => Ok(port),
        Some(port) => bail!("{proto} has no ports: leave --port {port} out"),
        None if has_ports(proto) => bail!("--port is missing: {proto} is judged by its port"),
        None => Ok(Port::NONE),
    }
}

fn has_ports(proto: Proto) -> bool {
    [Proto::TCP, Proto::UDP, Proto::SCTP].contains(&proto)
}

fn pod(key: &ObjectKey, names: &Names) -> anyhow::Result<Vec<IpAddr>> {
    if names.node.is_none() {
        bail!("no agent has written names down: pod {key} is known by its address only, give that");
    }
    match names.pod(&key.to_string()) {
        Some(line) => Ok(line.addresses.clone()),
        None => bail!(
            "no pod {key} is known on this node; pods are known while a policy exists, and without hostNetwork: give its \
             address"
        ),
    }
}

fn own(tables: &impl Tables, names: &Names) -> anyhow::Result<Vec<IpAddr>> {
    let primary = tables.own_addresses()?;
    Ok(if primary.is_empty() { names.own_addresses().to_vec() } else { primary })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_as_people_write_them() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let key = || ObjectKey::new("shop", "web");
        for (text, end) in [
            ("node", End::Node),
            ("10.0.0.1", End::Address(ip("10.0.0.1"), None)),
            ("10.0.0.1:80", End::Address(ip("10.0.0.1"), Some(Port::new(80)))),
            ("fd00::1", End::Address(ip("fd00::1"), None)),
            ("[fd00::1]", End::Address(ip("fd00::1"), None)),
            ("[fd00::1]:80", End::Address(ip("fd00::1"), Some(Port::new(80)))),
            ("pod/shop/web", End::Pod(key())),
            ("svc/shop/web", End::Service(key(), None)),
            ("service/shop/web:http", End::Service(key(), Some("http".into()))),
            ("shop/web", End::Named(key(), None)),
            ("shop/web:80", End::Named(key(), Some("80".into()))),
            ("web", End::Named(ObjectKey::new("default", "web"), None)),
        ] {
            assert_eq!(End::parse(text).unwrap(), end, "{text}");
        }
        for bad in ["", "shop/", "/web", "pod/shop/web:80", "a/b/c", "svc//x", "shop/web:"] {
            assert!(End::parse(bad).is_err(), "{bad}");
        }
    }
}
