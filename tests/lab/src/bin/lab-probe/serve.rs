//! The server half: listeners and their connections in one thread, one answer per line or datagram. Its set of sockets is
//! replaced as a whole by the control side.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context, Result, anyhow};
use rustix::event::{PollFd, PollFlags, poll};
use sluice_lab::wire::{Answer, Listen, Protocol};
use socket2::Socket;

/// A line longer than this is not of a lab client; its connection is closed.
const LONGEST_LINE: usize = 4096;

struct Wanted {
    name: String,
    sockets: Vec<Listen>,
    done: Sender<Vec<String>>,
}

/// Handle of the server thread.
pub(crate) struct Server {
    wanted: Sender<Wanted>,
    bell: UnixStream,
}

impl Server {
    /// Starts the thread, with nothing to serve yet.
    pub(crate) fn start() -> Result<Self> {
        let (bell, wake) = UnixStream::pair().context("making the server's wake-up socket")?;
        wake.set_nonblocking(true)?;
        let (wanted, orders) = channel();
        std::thread::Builder::new().name("serve".to_owned()).spawn(move || Room::new(wake, orders).run())?;
        Ok(Self { wanted, bell })
    }

    /// Serves exactly `sockets`. Sockets that are open already keep their connections and counters.
    ///
    /// # Errors
    /// Names every socket that could not be opened; the others are served all the same.
    pub(crate) fn listen(&self, name: String, sockets: Vec<Listen>) -> Result<()> {
        let (done, answer) = channel();
        self.wanted.send(Wanted { name, sockets, done }).map_err(|_| anyhow!("the server thread is gone"))?;
        (&self.bell).write_all(b"!").context("waking the server")?;
        let errors = answer.recv().context("the server thread is gone")?;
        if errors.is_empty() { Ok(()) } else { Err(anyhow!(errors.join("; "))) }
    }
}

struct Listener {
    spec: Listen,
    socket: Socket,
    count: u64,
}

struct Connection {
    spec: Listen,
    socket: Socket,
    line: Vec<u8>,
    peer: SocketAddr,
    count: u64,
}

struct Room {
    name: String,
    wake: UnixStream,
    orders: Receiver<Wanted>,
    listeners: Vec<Listener>,
    connections: Vec<Connection>,
}

impl Room {
    fn new(wake: UnixStream, orders: Receiver<Wanted>) -> Self {
        Self { name: String::new(), wake, orders, listeners: Vec::new(), connections: Vec::new() }
    }

    fn run(mut self) {
        loop {
            let ready = self.wait();
            if ready.first() == Some(&true) {
                let mut byte = [0; 64];
                if matches!((&self.wake).read(&mut byte), Ok(0)) {
                    return;
                }
            }
            let listeners = self.listeners.len();
            self.serve_connections(&ready[1 + listeners..]);
            self.serve_listeners(&ready[1..=listeners]);
            while let Ok(wanted) = self.orders.try_recv() {
                let errors = self.replace(wanted.name, wanted.sockets);
                // The control side may have gone away; then nobody is left to hear of it.
                let _ = wanted.done.send(errors);
            }
        }
    }

    /// Readiness of the bell, the listeners and the connections, in that order.
    fn wait(&self) -> Vec<bool> {
        let bell: BorrowedFd<'_> = self.wake.as_fd();
        let listeners = self.listeners.iter().map(|listener| listener.socket.as_fd());
        let connections = self.connections.iter().map(|connection| connection.socket.as_fd());
        let mut fds: Vec<PollFd<'_>> = std::iter::once(bell)
            .chain(listeners)
            .chain(connections)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        // An interrupted poll shows up as no events.
        let _ = poll(&mut fds, None);
        fds.iter().map(|fd| !fd.revents().is_empty()).collect()
    }

    fn replace(&mut self, name: String, sockets: Vec<Listen>) -> Vec<String> {
        self.name = name;
        self.listeners.retain(|listener| sockets.contains(&listener.spec));
        self.connections.retain(|connection| sockets.contains(&connection.spec));
        let mut errors = Vec::new();
        for spec in sockets {
            if self.listeners.iter().any(|listener| listener.spec == spec) {
                continue;
            }
            match crate::socket::server(&spec) {
                Ok(socket) => self.listeners.push(Listener { spec, socket, count: 0 }),
                Err(error) => errors.push(format!("cannot listen on {} {}: {error}", spec.protocol, spec.at)),
            }
        }
        errors
    }

    fn serve_listeners(&mut self, ready: &[bool]) {
        for (listener, _) in self.listeners.iter_mut().zip(ready).filter(|(_, ready)| **ready) {
            if listener.spec.protocol == Protocol::Udp {
                answer_datagrams(listener, &self.name);
                continue;
            }
            while let Ok((socket, peer)) = listener.socket.accept() {
                let Some(peer) = peer.as_socket() else { continue };
                if socket.set_nonblocking(true).is_err() {
                    continue;
                }
                listener.count += 1;
                let (spec, count) = (listener.spec, listener.count);
                self.connections.push(Connection { spec, socket, line: Vec::new(), peer, count });
            }
        }
    }

    fn serve_connections(&mut self, ready: &[bool]) {
        let mut ready = ready.iter();
        let name = &self.name;
        self.connections
            .retain_mut(|connection| ready.next() != Some(&true) || connection.answer(name).is_ok());
    }
}

impl Connection {
    /// Reads what is there and answers every full line. An error ends the connection.
    fn answer(&mut self, name: &str) -> io::Result<()> {
        let mut buffer = [0; 1024];
        match (&self.socket).read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => self.line.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            let text = answer_to(&line, name, self.spec, self.peer, self.count);
            (&self.socket).write_all(text.as_bytes())?;
        }
        if self.line.len() > LONGEST_LINE { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) }
    }
}

fn answer_datagrams(listener: &mut Listener, name: &str) {
    loop {
        let mut buffer = [std::mem::MaybeUninit::<u8>::uninit(); 2048];
        let (length, from) = match listener.socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // A queued ICMP error of an earlier answer; the next read goes on.
            Err(_) => continue,
        };
        let Some(peer) = from.as_socket() else { continue };
        // SAFETY: `recv_from` has initialised the first `length` bytes (documented by socket2).
        let line: Vec<u8> = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
        listener.count += 1;
        let text = answer_to(&line, name, listener.spec, peer, listener.count);
        // A client that is gone is no concern of the server.
        let _ = listener.socket.send_to(text.as_bytes(), &from);
    }
}

fn answer_to(line: &[u8], name: &str, spec: Listen, peer: SocketAddr, count: u64) -> String {
    let answer = Answer {
        at: spec.at.to_string(),
        name: name.to_owned(),
        peer,
        count,
        echo: String::from_utf8_lossy(line).trim().to_owned(),
    };
    // Strings, numbers and addresses always have a JSON form.
    serde_json::to_string(&answer).map_or_else(|_| "{}\n".to_owned(), |text| text + "\n")
}
