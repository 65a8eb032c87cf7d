//! Where the kernel would send a packet: one question to its routing tables. Changes nothing.
#![expect(clippy::wildcard_enum_match_arm, reason = "the enums of netlink grow with the kernel")]

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_route::{link::LinkAttribute, route::RouteAttribute},
};

use super::{error::Error, topology::IfIndex};

/// A device that packets take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way {
    /// Its index.
    pub device: IfIndex,
    /// Its name.
    pub name: String,
    /// Its own Ethernet address; zeroes where it has none.
    pub address: [u8; 6],
}

/// Asks.
#[derive(Debug, Clone)]
pub struct Ways {
    handle: Handle,
}

impl Ways {
    /// Opens netlink in the calling thread's namespace, in the current runtime.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn open() -> Result<Self, Error> {
        let failed = |source| Error::Netlink { verb: "ask for routes", source };
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The device by which packets to `ip` leave; `None` where there is no route.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub async fn to(&self, ip: IpAddr) -> Result<Option<Way>, Error> {
        let query = match ip {
            IpAddr::V4(ip) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ip, 32).build(),
            IpAddr::V6(ip) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(ip, 128).build(),
        };
        let found = match self.handle.route().get(query).execute().try_next().await {
            Ok(route) => route,
            // The kernel says it with ENETUNREACH, EHOSTUNREACH or the error of an unreachable route.
            Err(rtnetlink::Error::NetlinkError(_)) => None,
            Err(error) => {
                return Err(Error::Netlink { verb: "ask for a route", source: io::Error::other(error) });
            }
        };
        let index = found.and_then(|route| {
            route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(IfIndex(*index)),
                _ => None,
            })
        });
        match index {
            Some(index) => self.device(index).await.map(Some),
            None => Ok(None),
        }
    }

    /// What is known of a device.
    ///
    /// # Errors
    /// [`Error::Netlink`], also when there is no such device.
    pub async fn device(&self, device: IfIndex) -> Result<Way, Error> {
        let failed = |error| Error::Netlink { verb: "ask for a device", source: io::Error::other(error) };
        let mut links = self.handle.link().get().match_index(device.0).execute();
        let link = links.try_next().await.map_err(failed)?;
        let mut way = Way { device, name: format!("device {}", device.0), address: [0; 6] };
        for attribute in link.map(|link| link.attributes).unwrap_or_default() {
            match attribute {
                LinkAttribute::IfName(name) => way.name = name,
                LinkAttribute::Address(bytes) => way.address = bytes.try_into().unwrap_or_default(),
                _ => {}
            }
        }
        Ok(way)
    }
}
