//! An API server that misbehaves on demand: lists and watches over loopback HTTP, with a world that is changed under the watcher's
//! eyes or while the server is away, and with a [`Conduct`] for each kind of object. What a real one does is tested with a
//! real one (`cluster`); this one does what a real one does only on its worst days, and when told to.
//!
//! ```text
//! test ─► ApiServer ─► store (objects, log of changes) ─► answer (HTTP) ─► door in a namespace ─► agent
//!              └────────► conduct of each kind ───────────────┘
//! ```
//!
//! It knows labels and fields as far as the agent selects by them, and nothing of what objects mean.

mod answer;
mod resource;
mod selector;
mod store;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sluice_lab::netns;
use tokio::runtime::{Builder, Runtime};

pub use self::resource::Resource;
use self::store::{Shared, Word};

/// How long open connections may take to end when the server goes away.
const ENDING: Duration = Duration::from_secs(10);

/// From where the server is reached at `127.0.0.1`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Door {
    /// The namespace of this process.
    Here,
    /// A network namespace, by its name.
    Inside(String),
}

/// How requests for a kind are answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduct {
    /// As a real server would.
    Answers,
    /// They are taken, and nothing is said until the conduct is another one.
    Holds,
    /// With this status.
    Refuses(u16),
    /// With the first half of the list, after which the connection breaks.
    BreaksOff,
    /// Object by object, with such a pause after each.
    Drips(Duration),
}

/// Whether a list may be asked for as the beginning of a watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Streaming {
    /// `sendInitialEvents` is understood.
    Offered,
    /// It is called invalid.
    Unknown,
}

/// The server. Its world outlives its absences.
#[derive(Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
    doors: Vec<Door>,
    port: u16,
    runtime: Option<Runtime>,
}

impl ApiServer {
    /// A server with an empty world, reached through each of these doors at one port.
    ///
    /// # Errors
    /// A namespace cannot be entered, or the port is taken there.
    pub fn start(doors: &[Door], streaming: Streaming) -> Result<Self> {
        let mut server =
            Self { shared: Shared::new(streaming), doors: doors.to_vec(), port: 0, runtime: None };
        server.appear()?;
        Ok(server)
    }

    /// Is there again, with whatever the world is by now. No place in the history is lost.
    ///
    /// # Errors
    /// As [`ApiServer::start`].
    pub fn appear(&mut self) -> Result<()> {
        if self.runtime.is_some() {
            return Ok(());
        }
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        for door in &self.doors {
            let listener = door.open(self.port)?;
            self.port = listener.local_addr()?.port();
            let _inside = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener)?;
            runtime.spawn(axum::serve(listener, answer::routes(self.shared.clone())).into_future());
        }
        self.runtime = Some(runtime);
        Ok(())
    }

    /// Goes away: connections break, new ones are refused.
    pub fn vanish(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(ENDING);
            self.shared.nobody_follows();
        }
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Writes down how it is reached.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path) -> Result<()> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": format!("http://{}", self.address())}}],
            "users": [{"name": "agent", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "agent"}}],
            "current-context": "fake",
        });
        std::fs::write(path, config.to_string()).with_context(|| format!("writing {}", path.display()))
    }

    /// Creates or replaces an object.
    ///
    /// # Errors
    /// It has no name, or its kind is not one of [`Resource`].
    pub fn put(&self, object: &Value) -> Result<()> {
        self.shared.put(object)
    }

    /// Deletes an object; one that is not there is gone.
    ///
    /// # Errors
    /// As [`ApiServer::put`].
    pub fn delete(&self, object: &Value) -> Result<()> {
        self.shared.delete(object)
    }

    /// From now on, requests for this kind are answered so. Watches that are open go on.
    pub fn conduct(&self, resource: Resource, conduct: Conduct) {
        self.shared.conduct(resource, conduct);
    }

    /// Says a line to all watches of the kind that are open, and to none after them. It may be anything.
    pub fn say(&self, resource: Resource, line: &str) {
        self.shared.say(resource, Word::Line(format!("{line}\n").into()));
    }

    /// Says bytes to all watches of the kind that are open, without an end of line, and breaks the connections.
    pub fn break_off(&self, resource: Resource, beginning: &str) {
        self.shared.say(resource, Word::Line(beginning.into()));
        self.shared.say(resource, Word::Break);
    }

    /// Ends all watches of the kind that are open, as a real server does after some minutes.
    pub fn end_watches(&self, resource: Resource) {
        self.shared.say(resource, Word::End);
    }

    /// Tells the watches of the kind that asked for bookmarks where they are.
    pub fn bookmark(&self, resource: Resource) {
        self.shared.say(resource, Word::Bookmark);
    }

    /// Forgets the history: whoever wants to go on from an earlier place is told that it is gone (410).
    pub fn forget(&self) {
        self.shared.forget();
    }

    /// Tells the watches of the kind that are open that their place in the history is gone, and forgets it.
    pub fn expire(&self, resource: Resource) {
        self.forget();
        self.say(resource, &store::gone().to_string());
        self.end_watches(resource);
    }

    /// Watches of the kind that are open.
    #[must_use]
    pub fn watches(&self, resource: Resource) -> usize {
        self.shared.followers(resource).len()
    }

    /// Waits until a watch of the kind is open and every one has been told all there is.
    ///
    /// # Errors
    /// It takes longer than that.
    pub fn settled(&self, resource: Resource, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let (behind, end) = (self.shared.followers(resource), self.shared.end());
            if !behind.is_empty() && behind.iter().all(|at| *at >= end) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("watches of {} are at {behind:?} of {end}", resource.plural());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What was asked for so far: `list services`, `stream services` (a list as the beginning of a watch), `watch services`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked()
    }

    /// Events that were posted so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.shared.events()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Door {
    fn open(&self, port: u16) -> Result<TcpListener> {
        let bind = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .with_context(|| format!("listening at 127.0.0.1:{port}"))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        match self {
            Self::Here => bind(),
            Self::Inside(name) => netns::inside(name, bind),
        }
    }
}
