//! One exchange with a lab server on a socket that never blocks: connect, say a line, read the answer. A state machine
//! driven by readiness and time; it does not wait.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use sluice_lab::wire::{Answer, Dialect, Failure, Outcome, Probe, Protocol, UdpStyle};
use socket2::Socket;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not connected: never tried, or refused at once.
    Fresh,
    Connecting,
    Waiting,
}

/// An exchange under way, or (after it) the open socket on which the next one can be made.
pub(crate) struct Attempt {
    socket: Socket,
    probe: Probe,
    stage: Stage,
    started: Instant,
    deadline: Instant,
    tries_left: u32,
    said: String,
    line: Vec<u8>,
}

impl Attempt {
    /// Opens a fresh socket and makes the first move.
    pub(crate) fn start(probe: &Probe, now: Instant) -> Result<Self, Failure> {
        let mut attempt = Self::open(probe, now)?;
        attempt.begin(now)?;
        Ok(attempt)
    }

    /// Opens a fresh socket and does nothing with it.
    pub(crate) fn open(probe: &Probe, now: Instant) -> Result<Self, Failure> {
        let socket = crate::socket::client(probe).map_err(|error| Failure::from(&error))?;
        Ok(Self {
            socket,
            probe: probe.clone(),
            stage: Stage::Fresh,
            started: now,
            deadline: now + probe.timeout,
            tries_left: probe.tries,
            said: String::new(),
            line: Vec::new(),
        })
    }

    /// Makes the first move.
    pub(crate) fn begin(&mut self, now: Instant) -> Result<(), Failure> {
        match self.ask(now) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                self.stage = Stage::Connecting;
                Ok(())
            }
            other => other.map_err(|error| Failure::from(&error)),
        }
    }

    /// Asks again on the same socket. A datagram socket that was refused when it connected tries that again too.
    pub(crate) fn again(&mut self, now: Instant, timeout: Duration, tries: u32) -> Result<(), Failure> {
        self.probe.timeout = timeout;
        self.tries_left = tries;
        self.started = now;
        self.drain();
        let udp = self.probe.protocol == Protocol::Udp;
        let asked = match self.ask(now) {
            // An ICMP error that came in since the last exchange is handed to the next call; it says nothing of this one.
            Err(_) if udp && self.stage != Stage::Fresh => self.ask(now),
            other => other,
        };
        let Err(error) = asked else { return Ok(()) };
        match self.on_error(&error) {
            None => Ok(()),
            Some(_) => Err(Failure::from(&error)),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn interest(&self) -> PollFlags {
        match self.stage {
            Stage::Connecting => PollFlags::OUT,
            // Nothing can become ready; errors are reported all the same, and there are none.
            Stage::Fresh => PollFlags::empty(),
            Stage::Waiting => PollFlags::IN,
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// What `getpeername` says; `None` for unconnected sockets.
    pub(crate) fn peer_name(&self) -> Option<SocketAddr> {
        self.socket.peer_addr().ok()?.as_socket()
    }

    /// What `getsockname` says.
    pub(crate) fn own_name(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    /// The socket is ready. `Some` ends the exchange.
    pub(crate) fn on_ready(&mut self, now: Instant) -> Option<Outcome> {
        if self.stage == Stage::Fresh {
            // A socket that is not connected polls as hung up.
            return None;
        }
        if self.stage == Stage::Connecting {
            match self.socket.take_error() {
                Ok(Some(error)) | Err(error) => return Some(Outcome::Failed(Failure::from(&error))),
                Ok(None) => self.stage = Stage::Waiting,
            }
            return match self.ask(now) {
                Ok(()) => None,
                Err(error) => self.on_error(&error),
            };
        }
        match self.receive() {
            Ok(outcome) => outcome,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => self.on_error(&error),
        }
    }

    /// The time of this try is over. `Some` ends the exchange.
    pub(crate) fn on_deadline(&mut self, now: Instant) -> Option<Outcome> {
        if self.tries_left <= 1 || self.stage == Stage::Connecting {
            return Some(Outcome::Failed(Failure::Timeout));
        }
        self.tries_left -= 1;
        match self.ask(now) {
            Ok(()) => None,
            Err(error) => self.on_error(&error),
        }
    }

    /// A kept UDP flow that may ask more often survives a refusal: the sender of a datagram learns of it later and tries
    /// again. If the kernel has closed the socket under it (a proxy that sends clients of a gone backend elsewhere does so),
    /// it connects again. Everything else ends here.
    fn on_error(&mut self, error: &io::Error) -> Option<Outcome> {
        if self.probe.protocol == Protocol::Udp && self.tries_left > 2 {
            if error.kind() != io::ErrorKind::ConnectionRefused {
                self.stage = Stage::Fresh;
            }
            // The next try is made at the deadline of this one, so that a refused flow does not spin.
            return None;
        }
        Some(Outcome::Failed(Failure::from(error)))
    }

    fn ask(&mut self, now: Instant) -> io::Result<()> {
        static NONCE: AtomicU64 = AtomicU64::new(1);
        if self.said.is_empty() || self.probe.protocol != Protocol::Icmp {
            self.said = match self.probe.dialect {
                Dialect::Lab => NONCE.fetch_add(1, Ordering::Relaxed).to_string(),
                Dialect::Netexec => crate::netexec::question(self.probe.protocol).to_owned(),
            };
        }
        self.deadline = now + self.probe.timeout;
        let unconnected = self.probe.protocol == Protocol::Udp && self.probe.udp == UdpStyle::Unconnected;
        if self.stage == Stage::Fresh && !unconnected {
            self.socket.connect(&self.probe.to.into())?;
        }
        self.stage = Stage::Waiting;
        match (self.probe.protocol, self.probe.udp) {
            (Protocol::Icmp, _) => {
                let kind: u8 = if self.probe.to.is_ipv4() { 8 } else { 128 };
                let mut packet = vec![kind, 0, 0, 0, 0, 0, 0, 1];
                packet.extend_from_slice(self.said.as_bytes());
                self.socket.send(&packet)?;
            }
            (Protocol::Udp, UdpStyle::Unconnected) => {
                self.socket.send_to(self.said.as_bytes(), &self.probe.to.into())?;
            }
            (Protocol::Udp, UdpStyle::Connected) => {
                self.socket.send(self.said.as_bytes())?;
            }
            (Protocol::Tcp | Protocol::Sctp, _) => {
                self.line.clear();
                (&self.socket).write_all(format!("{}\n", self.said).as_bytes())?;
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Option<Outcome>> {
        match self.probe.protocol {
            Protocol::Tcp | Protocol::Sctp => self.receive_line(),
            Protocol::Udp | Protocol::Icmp => self.receive_datagram(),
        }
    }

    fn receive_line(&mut self) -> io::Result<Option<Outcome>> {
        let mut buffer = [0; 1024];
        let length = (&self.socket).read(&mut buffer)?;
        if length == 0 && self.probe.dialect == Dialect::Netexec && !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            return Ok(self.judge(&line));
        }
        if length == 0 {
            return Ok(Some(Outcome::Failed(Failure::Closed)));
        }
        self.line.extend_from_slice(&buffer[..length]);
        // netexec ends its answer by closing the connection.
        if self.line.last() != Some(&b'\n') || self.probe.dialect == Dialect::Netexec {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.line);
        Ok(self.judge(&line))
    }

    fn receive_datagram(&mut self) -> io::Result<Option<Outcome>> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
        let (length, from) = self.socket.recv_from(&mut buffer)?;
        // SAFETY: `recv_from` has initialised the first `length` bytes (documented by socket2).
        let datagram: Vec<u8> = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
        if self.probe.protocol == Protocol::Icmp {
            let answered = datagram.get(8..) == Some(self.said.as_bytes());
            return Ok(answered.then(|| self.echoed()));
        }
        let from = from.as_socket();
        if self.probe.udp == UdpStyle::Unconnected && from != Some(self.probe.to) {
            return Ok(Some(Outcome::Failed(Failure::Misdirected)));
        }
        Ok(self.judge(&datagram))
    }

    /// The answer to another line than the last one is a late one, and is passed over.
    fn judge(&self, bytes: &[u8]) -> Option<Outcome> {
        if self.probe.dialect == Dialect::Netexec {
            let local = self.socket.local_addr().ok().and_then(|address| address.as_socket());
            let peer = local.unwrap_or(self.probe.to);
            return Some(crate::netexec::answer(self.probe.protocol, bytes, peer));
        }
        match serde_json::from_slice::<Answer>(bytes) {
            Ok(answer) if answer.echo == self.said => Some(Outcome::Answered(answer)),
            Ok(_) => None,
            Err(_) => Some(Outcome::Failed(Failure::Garbled)),
        }
    }

    fn echoed(&self) -> Outcome {
        let local = self.socket.local_addr().ok().and_then(|address| address.as_socket());
        Outcome::Answered(Answer {
            at: self.probe.to.ip().to_string(),
            name: String::new(),
            peer: local.unwrap_or(self.probe.to),
            count: 1,
            echo: self.said.clone(),
        })
    }

    /// Throws away what arrived for earlier tries of a datagram flow.
    fn drain(&self) {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
        while self.probe.protocol == Protocol::Udp && self.socket.recv(&mut buffer).is_ok() {}
    }
}
