//! What a lab and the probe processes in its namespaces say to each other: one JSON value per line over a Unix socket,
//! and the one line that a probe server answers to every connection or datagram. Knows no namespaces and no sockets.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::tally::Tally;

/// Transport of a probe or a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// Connect, send a line, read a line.
    Tcp,
    /// Send a datagram, wait for one.
    Udp,
    /// As TCP, in a one-to-one SCTP socket; only where the kernel has SCTP.
    Sctp,
    /// An echo request; the port is ignored.
    Icmp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Icmp => "ICMP",
        })
    }
}

/// How a UDP client uses its socket: the two ways pass different cgroup hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UdpStyle {
    /// `connect`, then `send` and `recv`.
    #[default]
    Connected,
    /// `sendto` and `recvfrom`; an answer from any other address than the one asked counts as `misdirected`.
    Unconnected,
}

/// What a client says, and which answer it expects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// A line with a number, answered by a lab server with an [`Answer`].
    #[default]
    Lab,
    /// What `agnhost netexec` answers with its host name: `GET /hostname` over TCP, `hostname` in a datagram. The answer says
    /// neither the server's address, so `at` is its name, nor the client's, so `peer` is the client's own view.
    Netexec,
}

/// A socket that a server opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listen {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The address it is bound to, and under which it names itself in its answers.
    pub at: SocketAddr,
}

/// One line of a probe batch: `count` attempts to one destination, each from a fresh socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Transport.
    pub protocol: Protocol,
    /// Destination.
    pub to: SocketAddr,
    /// Number of attempts.
    pub count: u32,
    /// How many of them may be under way at once; 1 where a pause is given.
    pub concurrency: u32,
    /// Time allowed for one try.
    pub timeout: Duration,
    /// Tries per attempt (UDP and ICMP send again on the same socket; TCP has one).
    pub tries: u32,
    /// Time between the start of one attempt and the next.
    pub pause: Duration,
    /// UDP only.
    pub udp: UdpStyle,
    /// Whom it speaks to; TCP and UDP only.
    #[serde(default)]
    pub dialect: Dialect,
    /// Local address to bind; `None` leaves it to the kernel.
    pub from: Option<IpAddr>,
    /// `SO_MARK`, which chooses the routing table of an outside client.
    pub mark: Option<u32>,
}

impl Probe {
    /// One attempt with a second of patience; the fields are public for what differs.
    #[must_use]
    pub fn new(protocol: Protocol, to: SocketAddr) -> Self {
        let (timeout, tries) = match protocol {
            Protocol::Tcp | Protocol::Sctp => (Duration::from_secs(1), 1),
            Protocol::Udp | Protocol::Icmp => (Duration::from_millis(500), 2),
        };
        Self {
            protocol,
            to,
            count: 1,
            concurrency: 1,
            timeout,
            tries,
            pause: Duration::ZERO,
            udp: UdpStyle::Connected,
            dialect: Dialect::Lab,
            from: None,
            mark: None,
        }
    }

    /// `count` attempts, at most 32 at once.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.count = count;
        self.concurrency = count.clamp(1, 32);
        self
    }
}

/// The line that a server answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The server's own address and port, brackets around IPv6.
    pub at: String,
    /// Name of the pod, node or outside client that answered.
    pub name: String,
    /// The client as the server saw it.
    pub peer: SocketAddr,
    /// Connections (or datagrams) this listener has had, this one included.
    pub count: u64,
    /// The line that is being answered, so that a late answer is not taken for a new one.
    pub echo: String,
}

/// Why an attempt got no answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum Failure {
    /// `ECONNREFUSED`: a reset to the SYN, an ICMP port unreachable, or a cgroup hook that says so.
    Refused,
    /// Nothing at all until the time-out.
    Timeout,
    /// The connection came up and ended without an answer.
    Closed,
    /// An answer arrived from an address that was not asked.
    Misdirected,
    /// Bytes arrived that are no answer of a lab server.
    Garbled,
    /// Another error, by its symbolic name where it is a usual one.
    Errno(String),
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        match text.as_str() {
            "refused" => Self::Refused,
            "timeout" => Self::Timeout,
            "closed" => Self::Closed,
            "misdirected" => Self::Misdirected,
            "garbled" => Self::Garbled,
            _ => Self::Errno(text),
        }
    }
}

impl From<Failure> for String {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused => "refused".to_owned(),
            Failure::Timeout => "timeout".to_owned(),
            Failure::Closed => "closed".to_owned(),
            Failure::Misdirected => "misdirected".to_owned(),
            Failure::Garbled => "garbled".to_owned(),
            Failure::Errno(name) => name,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(self.clone()))
    }
}

impl From<&std::io::Error> for Failure {
    fn from(error: &std::io::Error) -> Self {
        let Some(errno) = error.raw_os_error() else {
            return Self::Errno(error.to_string());
        };
        let name = match errno {
            libc::ECONNREFUSED => return Self::Refused,
            libc::ETIMEDOUT => return Self::Timeout,
            libc::ECONNRESET | libc::EPIPE => return Self::Closed,
            libc::EPERM => "EPERM",
            libc::EACCES => "EACCES",
            libc::EHOSTUNREACH => "EHOSTUNREACH",
            libc::ENETUNREACH => "ENETUNREACH",
            libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
            libc::EADDRINUSE => "EADDRINUSE",
            libc::EPROTONOSUPPORT => "EPROTONOSUPPORT",
            _ => return Self::Errno(format!("errno {errno}")),
        };
        Self::Errno(name.to_owned())
    }
}

/// What one attempt came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A lab server answered.
    Answered(Answer),
    /// Nobody did.
    Failed(Failure),
}

/// What a load has come to so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Connections answered, by server, and failed, by kind.
    pub tally: Tally,
    /// Longest time from the start of an attempt to its answer.
    pub slowest: Duration,
    /// Answered attempts that took a second or more: for most of them a kernel had to send something again.
    #[serde(default)]
    pub late: u32,
    /// The first failures, as `offset since the start: kind, from address`.
    pub first_failures: Vec<String>,
    /// When the last attempt began that a server answered, by the server's name.
    #[serde(default)]
    pub last: BTreeMap<String, SystemTime>,
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// Headers; names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body, as text.
    pub body: String,
}

/// What a lab asks of a probe process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// Are you there?
    Hello,
    /// Serve exactly these sockets under this name; others are closed with their connections.
    Listen {
        /// Name put into the answers.
        name: String,
        /// All sockets.
        sockets: Vec<Listen>,
    },
    /// Run all probes at once.
    Probe {
        /// The batch.
        probes: Vec<Probe>,
    },
    /// Open a flow, exchange one message and keep it. An older flow of that name is closed.
    Open {
        /// Name of the flow.
        id: String,
        /// Count and concurrency are ignored.
        probe: Probe,
    },
    /// Exchange another message on an open flow.
    Use {
        /// Name of the flow.
        id: String,
        /// Time allowed for one try.
        timeout: Duration,
        /// How often a UDP flow asks.
        tries: u32,
    },
    /// Close one flow.
    Close {
        /// Name of the flow.
        id: String,
    },
    /// Close every flow and every listener, end every load.
    Reset,
    /// HTTP GET.
    Get {
        /// `http://address:port/path`.
        url: String,
        /// Time allowed in all.
        timeout: Duration,
    },
    /// Start a load: new connections without an end. `probe.count` is ignored.
    LoadStart {
        /// Name of the load.
        id: String,
        /// Destination, concurrency and pause of each of the concurrent lines.
        probe: Probe,
    },
    /// Read a load.
    LoadRead {
        /// Name of the load.
        id: String,
    },
    /// End a load and read it.
    LoadStop {
        /// Name of the load.
        id: String,
    },
}

/// What a probe process answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Response {
    /// Nothing to say.
    Done,
    /// One tally per probe, in order.
    Tallies {
        /// The tallies.
        tallies: Vec<Tally>,
    },
    /// Result of one exchange on a flow.
    Exchange {
        /// The outcome.
        outcome: Outcome,
    },
    /// An HTTP answer.
    Http {
        /// The answer.
        answer: HttpAnswer,
    },
    /// No HTTP answer.
    NoHttp {
        /// Why.
        failure: Failure,
    },
    /// State of a load.
    Load {
        /// The report.
        report: LoadReport,
    },
    /// The request could not be served at all.
    Error {
        /// What went wrong.
        message: String,
    },
}
