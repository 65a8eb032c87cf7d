//! The control side of the daemon: requests in, one JSON value per line; a thread per connection, so that a long batch
//! holds nobody up.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use sluice_lab::wire::{Outcome, Probe, Request, Response};

use crate::attempt::Attempt;
use crate::load::Load;
use crate::serve::Server;

/// All that a daemon holds.
pub(crate) struct Daemon {
    server: Server,
    flows: Mutex<BTreeMap<String, Attempt>>,
    loads: Mutex<BTreeMap<String, Load>>,
}

/// Serves `listener` until the process is killed.
pub(crate) fn run(listener: &UnixListener) -> Result<()> {
    let daemon = Arc::new(Daemon {
        server: Server::start()?,
        flows: Mutex::new(BTreeMap::new()),
        loads: Mutex::new(BTreeMap::new()),
    });
    loop {
        let (stream, _) = listener.accept().context("accepting a control connection")?;
        let daemon = Arc::clone(&daemon);
        std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            // The lab at the other end sees a closed connection; there is nobody else to tell.
            let _ = daemon.serve(&stream);
        })?;
    }
}

impl Daemon {
    fn serve(&self, stream: &UnixStream) -> Result<()> {
        for line in BufReader::new(stream).lines() {
            let response = match serde_json::from_str(&line?) {
                Ok(request) => self
                    .handle(request)
                    .unwrap_or_else(|error| Response::Error { message: format!("{error:#}") }),
                Err(error) => Response::Error { message: format!("not a request: {error}") },
            };
            let mut text = serde_json::to_vec(&response)?;
            text.push(b'\n');
            let mut stream = stream;
            stream.write_all(&text)?;
        }
        Ok(())
    }

    fn handle(&self, request: Request) -> Result<Response> {
        match request {
            Request::Hello => Ok(Response::Done),
            Request::Listen { name, sockets } => {
                self.server.listen(name, sockets)?;
                Ok(Response::Done)
            }
            Request::Probe { probes } => Ok(Response::Tallies { tallies: crate::batch::tallies(&probes) }),
            Request::Open { id, probe } => Ok(Response::Exchange { outcome: self.open(id, &probe) }),
            Request::Use { id, timeout, tries } => {
                let mut flow =
                    lock(&self.flows).remove(&id).ok_or_else(|| anyhow!("no flow is called {id}"))?;
                let outcome = match flow.again(Instant::now(), timeout, tries) {
                    Ok(()) => crate::batch::finish(&mut flow),
                    Err(failure) => Outcome::Failed(failure),
                };
                lock(&self.flows).insert(id, flow);
                Ok(Response::Exchange { outcome })
            }
            Request::Close { id } => {
                lock(&self.flows).remove(&id);
                Ok(Response::Done)
            }
            Request::Reset => {
                lock(&self.flows).clear();
                lock(&self.loads).clear();
                self.server.listen(String::new(), Vec::new())?;
                Ok(Response::Done)
            }
            Request::Get { url, timeout } => Ok(match crate::http::get(&url, timeout) {
                Ok(answer) => Response::Http { answer },
                Err(failure) => Response::NoHttp { failure },
            }),
            Request::LoadStart { id, probe } => {
                let load = Load::start(probe)?;
                lock(&self.loads).insert(id, load);
                Ok(Response::Done)
            }
            Request::LoadRead { id } => {
                let loads = lock(&self.loads);
                let load = loads.get(&id).ok_or_else(|| anyhow!("no load is called {id}"))?;
                Ok(Response::Load { report: load.report() })
            }
            Request::LoadStop { id } => {
                let load = lock(&self.loads).remove(&id).ok_or_else(|| anyhow!("no load is called {id}"))?;
                Ok(Response::Load { report: load.stop() })
            }
        }
    }

    /// Opens a flow and keeps it, also when nobody answered: the socket stays in use.
    fn open(&self, id: String, probe: &Probe) -> Outcome {
        lock(&self.flows).remove(&id);
        let now = Instant::now();
        let mut flow = match Attempt::open(probe, now) {
            Ok(flow) => flow,
            Err(failure) => return Outcome::Failed(failure),
        };
        let outcome = match flow.begin(now) {
            Ok(()) => crate::batch::finish(&mut flow),
            Err(failure) => Outcome::Failed(failure),
        };
        lock(&self.flows).insert(id, flow);
        outcome
    }
}

/// A thread that panicked while it held the lock left a map of sockets behind, which is as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
