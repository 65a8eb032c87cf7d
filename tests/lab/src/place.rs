//! One node, pod or outside client of a running lab: where its processes run, and the client side of its probe process.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{in_cgroup, in_netns};
use crate::tally::Tally;
use crate::wire::{Failure, HttpAnswer, Listen, LoadReport, Outcome, Probe, Request, Response};

/// A batch may pause between attempts for a minute in all; an answer later than this means the probe is stuck.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a place is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceKind {
    /// A node.
    Node,
    /// A pod.
    Pod {
        /// Its node.
        node: String,
        /// Its device on the node.
        link: u32,
    },
    /// An outside client.
    Outside,
}

/// A place. Every request is one connection to its probe process, so requests of several threads run side by side.
#[derive(Clone, Debug)]
pub struct Place {
    /// Name as in the topology.
    pub name: String,
    /// Node, pod or outside client.
    pub kind: PlaceKind,
    /// Addresses, in the order of the topology.
    pub ips: Vec<IpAddr>,
    /// Name of the network namespace.
    pub netns: String,
    /// Folder of the cgroup that its processes run in.
    pub cgroup: PathBuf,
    /// Unix socket of its probe process.
    pub socket: PathBuf,
}

/// A request that was sent and is not answered yet.
#[must_use]
pub struct Pending {
    name: String,
    reader: BufReader<UnixStream>,
}

impl Pending {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The probe process is gone or refused the request.
    pub fn wait(mut self) -> Result<Response> {
        let mut line = String::new();
        let length = self
            .reader
            .read_line(&mut line)
            .with_context(|| format!("waiting for the probe of {}", self.name))?;
        if length == 0 {
            bail!("the probe of {} is gone", self.name);
        }
        let response =
            serde_json::from_str(&line).with_context(|| format!("reading the answer of {}", self.name))?;
        if let Response::Error { message } = response {
            bail!("{}: {message}", self.name);
        }
        Ok(response)
    }

    /// Waits for the tallies of a batch.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub fn tallies(self) -> Result<Vec<Tally>> {
        let response = self.wait()?;
        if let Response::Tallies { tallies } = response { Ok(tallies) } else { unexpected(&response) }
    }
}

impl Place {
    /// Sends a request without waiting for the answer, so that many places can work at once.
    ///
    /// # Errors
    /// The probe process cannot be reached.
    pub fn send(&self, request: &Request) -> Result<Pending> {
        let mut stream = UnixStream::connect(&self.socket)
            .with_context(|| format!("reaching the probe of {}", self.name))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        stream.write_all(&text).with_context(|| format!("asking the probe of {}", self.name))?;
        Ok(Pending { name: self.name.clone(), reader: BufReader::new(stream) })
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// The probe process is gone or refused the request.
    pub fn ask(&self, request: &Request) -> Result<Response> {
        self.send(request)?.wait()
    }

    /// Runs a batch of probes from here; one tally per probe.
    ///
    /// # Errors
    /// As [`Place::ask`].
    pub fn probe(&self, probes: &[Probe]) -> Result<Vec<Tally>> {
        self.send(&Request::Probe { probes: probes.to_vec() })?.tallies()
    }

    /// Serves exactly these sockets, under the name of the place.
    ///
    /// # Errors
    /// As [`Place::ask`]; names the sockets that could not be opened.
    pub fn listen(&self, sockets: &[Listen]) -> Result<()> {
        self.done(&Request::Listen { name: self.name.clone(), sockets: sockets.to_vec() })
    }

    /// Opens a flow: a socket that stays open after its first exchange.
    ///
    /// # Errors
    /// As [`Place::ask`].
    pub fn open(&self, id: &str, probe: &Probe) -> Result<Outcome> {
        self.exchange(&Request::Open { id: id.to_owned(), probe: probe.clone() })
    }

    /// Exchanges another message on an open flow; a UDP flow asks `tries` times.
    ///
    /// # Errors
    /// As [`Place::ask`].
    pub fn use_flow(&self, id: &str, timeout: Duration, tries: u32) -> Result<Outcome> {
        self.exchange(&Request::Use { id: id.to_owned(), timeout, tries })
    }

    /// Closes a flow.
    ///
    /// # Errors
    /// As [`Place::ask`].
    pub fn close(&self, id: &str) -> Result<()> {
        self.done(&Request::Close { id: id.to_owned() })
    }

    /// Closes all flows and listeners and ends all loads.
    ///
    /// # Errors
    /// As [`Place::ask`].
    pub fn reset(&self) -> Result<()> {
        self.done(&Request::Reset)
    }

    /// HTTP GET from here.
    ///
    /// # Errors
    /// As [`Place::ask`]; that nobody answers is the inner result.
    pub fn get(&self, url: &str, timeout: Duration) -> Result<Result<HttpAnswer, Failure>> {
        let response = self.ask(&Request::Get { url: url.to_owned(), timeout })?;
        if let Response::Http { answer } = response {
            return Ok(Ok(answer));
        }
        if let Response::NoHttp { failure } = response { Ok(Err(failure)) } else { unexpected(&response) }
    }

    /// Starts new connections without an end: `probe.concurrency` of them at once, each line pausing `probe.pause`.
    ///
    /// # Errors
    /// As [`Place::ask`].
    pub fn load(&self, id: &str, probe: &Probe) -> Result<Load> {
        self.done(&Request::LoadStart { id: id.to_owned(), probe: probe.clone() })?;
        Ok(Load { place: self.clone(), id: id.to_owned() })
    }

    /// A command that will run here: in the namespace and the cgroup, with the mounts of the caller.
    ///
    /// # Errors
    /// The place is gone.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(program);
        in_netns(&mut command, &crate::netns::path(&self.netns))?;
        in_cgroup(&mut command, &self.cgroup)?;
        Ok(command)
    }

    fn done(&self, request: &Request) -> Result<()> {
        let response = self.ask(request)?;
        if let Response::Done = response { Ok(()) } else { unexpected(&response) }
    }

    fn exchange(&self, request: &Request) -> Result<Outcome> {
        let response = self.ask(request)?;
        if let Response::Exchange { outcome } = response { Ok(outcome) } else { unexpected(&response) }
    }
}

/// A load that runs in a place.
#[derive(Debug)]
pub struct Load {
    place: Place,
    id: String,
}

impl Load {
    /// What it has come to so far.
    ///
    /// # Errors
    /// As [`Place::ask`].
    pub fn read(&self) -> Result<LoadReport> {
        self.report(&Request::LoadRead { id: self.id.clone() })
    }

    /// Ends it; attempts under way are waited for and counted.
    ///
    /// # Errors
    /// As [`Place::ask`].
    pub fn stop(self) -> Result<LoadReport> {
        self.report(&Request::LoadStop { id: self.id.clone() })
    }

    fn report(&self, request: &Request) -> Result<LoadReport> {
        let response = self.place.ask(request)?;
        if let Response::Load { report } = response { Ok(report) } else { unexpected(&response) }
    }
}

fn unexpected<T>(response: &Response) -> Result<T> {
    bail!("the probe answered something else than was asked: {response:?}")
}
