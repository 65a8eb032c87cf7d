//! Netfilter's own table of connections: writes entries that translate as ours do, so that connections go on when our programs
//! go (`docs/decisions/0032-*`). Numbers are those of `linux/netfilter/nfnetlink_conntrack.h`.

use std::{io, net::IpAddr};

use proxy_common::{Address, Flow, FlowKey, Port, Proto};
use rustix::net::netlink;

use super::talk::{Talk, find, flags};

/// `NFNL_SUBSYS_CTNETLINK << 8`, and what is asked of it.
mod message {
    pub(super) const NEW: u16 = 1 << 8;
    pub(super) const GET: u16 = 1 << 8 | 1;
    pub(super) const DELETE: u16 = 1 << 8 | 2;
}

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED`: the last is so, and may not be said to be otherwise.
const ANSWERED: u32 = 2 | 4 | 8;
/// `IPS_SRC_NAT | IPS_DST_NAT`.
const MASQUERADED: u32 = 0x10 | 0x20;
/// `TCP_CONNTRACK_ESTABLISHED`.
const ESTABLISHED: u8 = 3;
/// `IP_CT_TCP_FLAG_BE_LIBERAL`, as value and as mask: nobody has followed the windows so far.
const LIBERAL: [u8; 2] = [8, 8];

/// A conversation about the table of the namespace that it was opened in.
#[derive(Debug)]
pub struct Conntrack {
    talk: Talk,
}

impl Conntrack {
    /// Opens one in the namespace of the calling thread.
    ///
    /// # Errors
    /// As the kernel gives them: without the subsystem, none is to be had.
    pub fn open() -> io::Result<Self> {
        Ok(Self { talk: Talk::open(netlink::NETFILTER)? })
    }

    /// Writes the connection of a forward entry, to be forgotten after so many seconds of silence.
    ///
    /// # Errors
    /// As the kernel gives them: `EEXIST` where one of the tuples is taken, `EOPNOTSUPP` or `EPROTO` where it cannot translate,
    /// `ENOMEM` where its table is full.
    pub fn put<A: Address>(&mut self, key: &FlowKey<A>, flow: &Flow<A>, seconds: u32) -> io::Result<()> {
        self.talk.ask(message::NEW, flags::CREATE, &request(key, flow, seconds), |_| {})
    }

    /// The same; what netfilter has noted of packets with the tuple of the client's or of the answers makes room.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn replace<A: Address>(&mut self, key: &FlowKey<A>, flow: &Flow<A>, seconds: u32) -> io::Result<()> {
        self.remove(key)?;
        self.remove(&flow.other(key.proto))?;
        self.put(key, flow, seconds)
    }

    /// The tuple of the answers to packets of this tuple, if they are those of a connection's client.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn answers_to<A: Address>(&mut self, key: &FlowKey<A>) -> io::Result<Option<FlowKey<A>>> {
        let mut body = header(key.src.to_ip());
        body.extend(tuple(1, key));
        let mut found = None;
        let each = |entry: &[u8]| {
            let entry = entry.get(4..).unwrap_or_default();
            if tuple_of(entry, 1) == Some(*key) {
                found = tuple_of(entry, 2);
            }
        };
        match self.talk.ask(message::GET, flags::ACK, &body, each) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(found),
        }
    }

    /// The tuples of the answers of every connection of a family that has another destination and another source by netfilter; of
    /// TCP, while it is established.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn masqueraded<A: Address>(&mut self) -> io::Result<Vec<FlowKey<A>>> {
        let mut found = Vec::new();
        let any = header(A::default().to_ip());
        self.talk.ask(message::GET, flags::DUMP, &any, |entry| found.extend(answers(entry)))?;
        Ok(found)
    }

    /// Forgets the connection that packets with this tuple belong to; says whether there was one.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn remove<A: Address>(&mut self, key: &FlowKey<A>) -> io::Result<bool> {
        let mut body = header(key.src.to_ip());
        body.extend(tuple(1, key));
        match self.talk.ask(message::DELETE, flags::ACK, &body, |_| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The tuple of the answers of a masqueraded connection.
fn answers<A: Address>(entry: &[u8]) -> Option<FlowKey<A>> {
    let entry = entry.get(4..)?;
    let status = u32::from_be_bytes(find(entry, 3)?.try_into().ok()?);
    if status & MASQUERADED != MASQUERADED {
        return None;
    }
    let reply: FlowKey<A> = tuple_of(entry, 2)?;
    let is_open = || find(find(find(entry, 4)?, 1)?, 1)?.first().map(|state| *state == ESTABLISHED);
    if reply.proto == Proto::TCP && is_open() != Some(true) {
        return None;
    }
    Some(reply)
}

/// One of the tuples of an entry.
fn tuple_of<A: Address>(entry: &[u8], kind: u16) -> Option<FlowKey<A>> {
    let tuple = find(entry, kind)?;
    let (ips, ports) = (find(tuple, 1)?, find(tuple, 2)?);
    let proto = Proto(*find(ports, 1)?.first()?);
    let ip = |four, six| -> Option<A> {
        let ip = match find(ips, four) {
            Some(bytes) => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
            None => IpAddr::from(<[u8; 16]>::try_from(find(ips, six)?).ok()?),
        };
        A::from_ip(ip)
    };
    let port = |kind| Some(Port::new(u16::from_be_bytes(find(ports, kind)?.try_into().ok()?)));
    Some(FlowKey::new(ip(1, 3)?, port(2)?, ip(2, 4)?, port(3)?, proto))
}

/// `nfgenmsg`.
fn header(ip: IpAddr) -> Vec<u8> {
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    vec![family as u8, 0, 0, 0]
}

/// The tuple of the client's packets and of answers to them as they are: the kernel works out itself what translation makes of
/// them.
fn request<A: Address>(key: &FlowKey<A>, flow: &Flow<A>, seconds: u32) -> Vec<u8> {
    let mut body = header(key.src.to_ip());
    body.extend(tuple(1, key));
    body.extend(tuple(2, &key.reversed()));
    body.extend(attribute(3, &ANSWERED.to_be_bytes()));
    if key.proto == Proto::TCP {
        let tcp = [attribute(1, &[ESTABLISHED]), attribute(4, &LIBERAL), attribute(5, &LIBERAL)].concat();
        body.extend(nest(4, &nest(1, &tcp)));
    }
    body.extend(nest(6, &range(flow.src.to_ip(), flow.sport)));
    body.extend(attribute(7, &seconds.to_be_bytes()));
    body.extend(nest(13, &range(flow.dst.to_ip(), flow.dport)));
    body
}

/// `CTA_TUPLE_*`.
fn tuple<A: Address>(kind: u16, key: &FlowKey<A>) -> Vec<u8> {
    let (src, dst) = if key.src.to_ip().is_ipv4() { (1, 2) } else { (3, 4) };
    let ips = [attribute(src, &octets(key.src.to_ip())), attribute(dst, &octets(key.dst.to_ip()))].concat();
    let Proto(proto) = key.proto;
    let ports = [
        attribute(1, &[proto]),
        attribute(2, &key.sport.number().to_be_bytes()),
        attribute(3, &key.dport.number().to_be_bytes()),
    ]
    .concat();
    nest(kind, &[nest(1, &ips), nest(2, &ports)].concat())
}

/// `CTA_NAT_*`: one address and one port.
fn range(ip: IpAddr, port: Port) -> Vec<u8> {
    let (least, most) = if ip.is_ipv4() { (1, 2) } else { (4, 5) };
    let port = port.number().to_be_bytes();
    let ports = nest(3, &[attribute(1, &port), attribute(2, &port)].concat());
    [attribute(least, &octets(ip)), attribute(most, &octets(ip)), ports].concat()
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn nest(kind: u16, inside: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, inside)
}

/// `nlattr`, its length and type in the machine's order, filled up to a multiple of four.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = 4 + value.len();
    let mut bytes = Vec::with_capacity(len.next_multiple_of(4));
    bytes.extend((len as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(len.next_multiple_of(4), 0);
    bytes
}
