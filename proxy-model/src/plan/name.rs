//! Names of what is planned: which Service port in which family, and its stable number.

use std::fmt;
use std::str::FromStr;

use proxy_common::Proto;

use crate::fact::{Name, ObjectKey};
use crate::family::IpFamily;

/// The unit of planning: one port of one Service (item 5), in one family.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceName {
    /// The Service.
    pub service: ObjectKey,
    /// Port name; empty for a single unnamed port.
    pub port: Name,
    /// Protocol.
    pub proto: Proto,
    /// Family.
    pub family: IpFamily,
}

/// `namespace/name:port/TCP/ipv4`; [`ServiceName::from_str`] reads it back.
impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, port, proto, family } = self;
        write!(f, "{service}:{port}/{proto}/{family}")
    }
}

/// A text that is no [`ServiceName`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a Service port (namespace/name:port/PROTOCOL/family): {text:?}")]
pub struct NotAName {
    text: String,
}

impl FromStr for ServiceName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let parse = || {
            let mut parts = text.splitn(4, '/');
            let namespace = parts.next()?;
            let (name, port) = parts.next()?.split_once(':')?;
            let proto = parts.next()?;
            let family = parts.next()?;
            Some(Self {
                service: ObjectKey::new(namespace, name),
                port: port.into(),
                proto: [Proto::TCP, Proto::UDP, Proto::SCTP].into_iter().find(|p| p.name() == Some(proto))?,
                family: IpFamily::ALL.into_iter().find(|f| f.name() == family)?,
            })
        };
        parse().ok_or_else(|| NotAName { text: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_as_it_was_written() {
        for port in ["", "http"] {
            let name = ServiceName {
                service: ObjectKey::new("default", "web"),
                port: port.into(),
                proto: Proto::SCTP,
                family: IpFamily::Ipv6,
            };
            assert_eq!(name.to_string(), format!("default/web:{port}/SCTP/ipv6"));
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for text in
            ["", "default/web", "default/web:http/TCP", "default/web:http/ICMP/ipv4", "a/b:c/TCP/ipv5"]
        {
            assert_eq!(text.parse::<ServiceName>(), Err(NotAName { text: text.into() }));
        }
    }
}
