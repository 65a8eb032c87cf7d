//! Follows the node's devices, addresses and default routes through rtnetlink, and the addresses at the other ends of
//! veth pairs, and publishes a [`Topology`] whenever one of them changes. When messages were lost, or a change may have taken routes along without a
//! word, everything is read anew. Knows what messages mean, not what follows from them.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enums of netlink grow with the kernel; one or two arms matter"
)]

use std::{io, net::IpAddr, time::Duration};

use futures_util::{StreamExt, TryStreamExt, future::FutureExt, stream::FusedStream};
use rtnetlink::{
    Handle, MulticastGroup, RouteMessageBuilder,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
        link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage},
        route::{RouteAttribute, RouteHeader, RouteMessage, RouteType},
    },
};
use std::net::{Ipv4Addr, Ipv6Addr};
use tokio::sync::watch;

use super::{
    error::Error,
    pods::{Addresses, Bell},
    topology::{Assigned, Device, DeviceKind, IfIndex, Peer, Standing, Topology, Version},
};

const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// Pause before netlink is opened again after it broke.
const REOPEN: Duration = Duration::from_secs(1);

/// Reads the network of the calling thread's namespace and follows it from then on, in a task of the current
/// runtime. The task ends when every receiver is gone.
///
/// # Errors
/// [`Error::Netlink`] when the first reading fails.
pub async fn follow() -> Result<watch::Receiver<Topology>, Error> {
    let mut feed = Feed::open().await?;
    let (publish, receive) = watch::channel(feed.seen.clone());
    tokio::spawn(async move {
        loop {
            let broken = feed.run(&publish).await;
            if publish.is_closed() {
                return;
            }
            tracing::warn!(error = %broken, "netlink broke off, opening it again");
            let removals = feed.seen.removals;
            feed = loop {
                tokio::time::sleep(REOPEN).await;
                match Feed::open().await {
                    Ok(mut feed) => {
                        feed.seen.removals += removals;
                        break feed;
                    }
                    Err(error) => tracing::warn!(error = %error, "netlink cannot be opened"),
                }
            };
            feed.publish(&publish);
        }
    });
    Ok(receive)
}

impl Stale {
    /// What two changes leave.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Peer(one), Self::Peer(two)) if one != two => Self::Peers,
            (one, two) => one.max(two),
        }
    }
}

type Messages = Box<dyn FusedStream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send + Unpin>;

struct Feed {
    handle: Handle,
    messages: Messages,
    across: Addresses,
    bell: Bell,
    seen: Topology,
    /// Addresses seen so far: the place of the next one in the kernel's list.
    order: u32,
}

/// What a message leaves to be done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stale {
    Nothing,
    /// The other end of one device.
    Peer(IfIndex),
    /// The other ends of all.
    Peers,
    /// Default routes, and the other ends of all.
    Routes,
    Everything,
}

impl Feed {
    /// Subscribes first and reads then: a change in between is seen twice and not never.
    async fn open() -> Result<Self, Error> {
        let failed = |source| Error::Netlink { verb: "follow the node's devices", source };
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&GROUPS).map_err(failed)?;
        tokio::spawn(connection);
        let messages = Box::new(messages.map(|(message, _)| message).fuse());
        let (across, bell) = (Addresses::open()?, Bell::open()?);
        let mut feed = Self { handle, messages, across, bell, seen: Topology::default(), order: 0 };
        feed.read_all().await?;
        Ok(feed)
    }

    async fn run(&mut self, publish: &watch::Sender<Topology>) -> io::Error {
        loop {
            let mut stale = tokio::select! {
                message = self.messages.next() => match message {
                    Some(message) => self.note(message),
                    None => return io::ErrorKind::BrokenPipe.into(),
                },
                rung = self.bell.rung() => match rung {
                    Ok(()) => Stale::Peers,
                    Err(error) => return error,
                },
                () = publish.closed() => return io::ErrorKind::BrokenPipe.into(),
            };
            // What has arrived together is one change.
            while let Some(Some(message)) = self.messages.next().now_or_never() {
                stale = stale.with(self.note(message));
            }
            // A device that is new gets its programs before anybody asks who is behind it.
            self.publish(publish);
            if let Err(error) = self.read(stale).await {
                return io::Error::other(error);
            }
            self.publish(publish);
        }
    }

    async fn read(&mut self, stale: Stale) -> Result<(), Error> {
        match stale {
            Stale::Nothing => {}
            Stale::Peer(index) => self.read_peers(|at| at == index).await,
            Stale::Peers => self.read_peers(|_| true).await,
            Stale::Routes => {
                self.read_routes().await?;
                self.read_peers(|_| true).await;
            }
            Stale::Everything => self.read_all().await?,
        }
        Ok(())
    }

    /// Reads what the other ends of these devices have for addresses.
    async fn read_peers(&mut self, asked: impl Fn(IfIndex) -> bool) {
        let peers = self.seen.devices.iter().filter_map(|(index, device)| Some((*index, device.peer?)));
        let peers: Vec<(IfIndex, Peer)> = peers.filter(|(index, _)| asked(*index)).collect();
        for (index, peer) in peers {
            let addresses = self.across.of(peer).await.into_iter().collect();
            self.seen.across.insert(index, addresses);
        }
        let devices = &self.seen.devices;
        self.seen.across.retain(|index, _| devices.get(index).is_some_and(|device| device.peer.is_some()));
    }

    fn publish(&self, publish: &watch::Sender<Topology>) {
        publish.send_if_modified(|last| {
            let changed = *last != self.seen;
            if changed {
                last.clone_from(&self.seen);
            }
            changed
        });
    }

    fn note(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) -> Stale {
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => self.link(&link),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                // A bridge also says farewell to its ports with this message, in its own family.
                if link.header.interface_family != rtnetlink::packet_route::AddressFamily::Unspec {
                    return Stale::Nothing;
                }
                let index = IfIndex(link.header.index);
                self.seen.devices.remove(&index);
                self.seen.removals += 1;
                self.seen.addresses.retain(|(_, of), _| *of != index);
                self.seen.defaults.retain(|(_, via)| *via != index);
                self.seen.across.remove(&index);
                Stale::Nothing
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) => {
                self.assign(&message);
                Stale::Nothing
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) => {
                if let Some(gone) = address(&message) {
                    self.seen.addresses.remove(&gone);
                }
                Stale::Nothing
            }
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
            ) => {
                if is_default(&route) {
                    Stale::Routes
                } else {
                    Stale::Nothing
                }
            }
            NetlinkPayload::Overrun(_) => Stale::Everything,
            _ => Stale::Nothing,
        }
    }

    fn link(&mut self, link: &LinkMessage) -> Stale {
        let index = IfIndex(link.header.index);
        let mut stale = Stale::Nothing;
        if let Some(device) = device(link) {
            let peer = device.peer;
            let before = self.seen.devices.insert(index, device);
            if peer != before.and_then(|before| before.peer) {
                stale = Stale::Peer(index);
            }
        }
        // The kernel drops the IPv4 routes of a device that goes down without a message about each.
        if self.seen.defaults.iter().any(|(_, via)| *via == index) { Stale::Routes } else { stale }
    }

    /// An address is new, or its standing has changed: its place in the kernel's list stays.
    fn assign(&mut self, message: &AddressMessage) {
        let Some(key) = address(message) else { return };
        self.order += 1;
        let order = self.seen.addresses.get(&key).map_or(self.order, |known| known.order);
        let prefix = message.header.prefix_len;
        self.seen.addresses.insert(key, Assigned { prefix, order, standing: standing(message) });
    }

    async fn read_all(&mut self) -> Result<(), Error> {
        let failed =
            |error| Error::Netlink { verb: "list the node's devices", source: io::Error::other(error) };
        let links: Vec<_> = self.handle.link().get().execute().try_collect().await.map_err(failed)?;
        let addresses: Vec<_> = self.handle.address().get().execute().try_collect().await.map_err(failed)?;
        // Messages were lost, or there are none yet: whatever is here may be another device of the same number.
        self.seen = Topology { removals: self.seen.removals + 1, ..Topology::default() };
        for link in &links {
            self.link(link);
        }
        addresses.iter().for_each(|message| self.assign(message));
        self.read_routes().await?;
        self.read_peers(|_| true).await;
        Ok(())
    }

    async fn read_routes(&mut self) -> Result<(), Error> {
        let failed =
            |error| Error::Netlink { verb: "list the node's routes", source: io::Error::other(error) };
        let mut found = Vec::new();
        let four = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let six = RouteMessageBuilder::<Ipv6Addr>::new().build();
        for (version, query) in [(Version::V4, four), (Version::V6, six)] {
            let mut routes = self.handle.route().get(query).execute();
            while let Some(route) = routes.try_next().await.map_err(failed)? {
                if is_default(&route) {
                    found.extend(outgoing(&route).map(|index| (version, index)));
                }
            }
        }
        self.seen.defaults = found.into_iter().collect();
        Ok(())
    }
}

fn device(link: &LinkMessage) -> Option<Device> {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let is = |kind: &InfoKind| {
        link.attributes.iter().any(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => {
                infos.iter().any(|info| matches!(info, LinkInfo::Kind(of) if of == kind))
            }
            _ => false,
        })
    };
    // Present only when the peer is in another namespace. Messages of a bridge about its ports carry no kind.
    let across = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkNetNsId(namespace) => Some(*namespace),
        _ => None,
    });
    let end = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    });
    let kind = if link.header.flags.contains(LinkFlags::Loopback) {
        DeviceKind::Loopback
    } else if is(&InfoKind::Veth) && across.is_some() {
        DeviceKind::VethAcross
    } else if is(&InfoKind::Bridge) {
        DeviceKind::Bridge
    } else if OVERLAYS.iter().any(is) {
        DeviceKind::Overlay
    } else if link.header.link_layer_type != LinkLayerType::Ether {
        DeviceKind::Bare
    } else {
        DeviceKind::Other
    };
    let master = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(IfIndex(*index)),
        _ => None,
    });
    let of_bridge = link.header.interface_family != rtnetlink::packet_route::AddressFamily::Unspec;
    let peer = match (kind, across, end) {
        (DeviceKind::VethAcross, Some(namespace), Some(index)) => Some(Peer { namespace, index }),
        _ => None,
    };
    (!of_bridge).then_some(Device { name, kind, master, peer })
}

/// Tunnels whose frames have an Ethernet header.
const OVERLAYS: [InfoKind; 4] = [InfoKind::Vxlan, InfoKind::Geneve, InfoKind::GreTap, InfoKind::GreTap6];

fn standing(message: &AddressMessage) -> Standing {
    let flags = message.header.flags;
    let is_unproven = flags.intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed)
        && !flags.contains(AddressHeaderFlags::Optimistic);
    if is_unproven || message.header.scope != AddressScope::Universe {
        Standing::Unfit
    } else if flags.intersects(AddressHeaderFlags::Secondary | AddressHeaderFlags::Deprecated) {
        Standing::Spare
    } else {
        Standing::Primary
    }
}

fn address(message: &AddressMessage) -> Option<(IpAddr, IfIndex)> {
    // On a point-to-point device `Address` is the peer's and `Local` ours; IPv6 often has `Address` alone.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    });
    Some((local.or(address)?, IfIndex(message.header.index)))
}

fn is_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0
        && route.header.table == RouteHeader::RT_TABLE_MAIN
        && route.header.kind == RouteType::Unicast
}

fn outgoing(route: &RouteMessage) -> impl Iterator<Item = IfIndex> + '_ {
    route.attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => vec![IfIndex(*index)],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| IfIndex(hop.interface_index)).collect(),
        _ => Vec::new(),
    })
}
