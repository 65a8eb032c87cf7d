//! The API servers of one cluster, and which of them is asked: the one that answered last, until it does not. Their
//! addresses are given, or learned from the Service that stands for them and remembered across restarts, because nothing
//! serves that Service on a node that has just started. Knows nothing of objects but the slices of that one Service.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use http::{Request, Response, Uri};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::client::Body;
use kube::{Client, Config};

use super::Error;

/// The Service that the API servers keep for themselves, and its namespace.
const SERVICE: (&str, &str) = ("default", "kubernetes");
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// A server that does not take a connection by then is left for the next.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where API servers are, from a flag and from what was remembered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// As given, in the order of preference; empty: what the kubeconfig or the pod's environment says.
    pub given: Vec<Uri>,
    /// Where learned addresses are kept; `None`: none are learned.
    pub memory: Option<PathBuf>,
}

/// The servers, shared by all watches.
#[derive(Clone)]
pub(super) struct Servers {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    given: Vec<Uri>,
    memory: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    servers: Vec<Server>,
    /// Who is asked.
    at: usize,
    /// Addresses by the slice that has them.
    slices: BTreeMap<String, Vec<Uri>>,
}

struct Server {
    uri: Uri,
    client: Client,
}

impl Servers {
    /// Those that are given, or else the one of `config`, then those that were remembered.
    ///
    /// # Errors
    /// [`Error::Client`] when certificates or keys make no sense.
    pub(super) fn new(mut config: Config, known: Known) -> Result<Self, Error> {
        let Known { given, memory } = known;
        let given = if given.is_empty() { vec![config.cluster_url.clone()] } else { given };
        let remembered = memory.as_deref().map(recall).unwrap_or_default();
        if given.len() > 1 || memory.is_some() {
            config.connect_timeout = Some(PATIENCE);
        }
        let all = in_order(&given, &remembered);
        let servers: Result<Vec<Server>, _> = all.into_iter().map(|uri| server(&config, uri)).collect();
        let state = State { servers: servers?, at: 0, slices: BTreeMap::new() };
        Ok(Self { shared: Arc::new(Shared { config, given, memory, state: Mutex::new(state) }) })
    }

    /// A client that asks whoever is asked at the time of each request.
    pub(super) fn client(&self) -> Client {
        let servers = self.clone();
        let send = move |request: Request<Body>| {
            let servers = servers.clone();
            async move { servers.send(request).await }
        };
        Client::new(tower::service_fn(send), self.shared.config.default_namespace.clone())
    }

    async fn send(&self, request: Request<Body>) -> kube::Result<Response<Body>> {
        let (uri, client) = {
            let state = self.state();
            let server = &state.servers[state.at];
            (server.uri.clone(), server.client.clone())
        };
        let answer = client.send(request).await;
        // Whatever a server says is an answer; the watches try again by themselves, and then ask the next.
        if answer.is_err() {
            self.leave(&uri);
        }
        answer
    }

    /// That server did not answer: the next is asked from now on, unless somebody has moved on already.
    fn leave(&self, uri: &Uri) {
        let mut state = self.state();
        if state.servers.len() > 1 && state.servers[state.at].uri == *uri {
            state.at = (state.at + 1) % state.servers.len();
            let next = &state.servers[state.at].uri;
            tracing::info!(%uri, %next, "this API server does not answer: asking the next");
        }
    }

    /// Takes in a slice that exists, if it is of the API servers' own Service.
    pub(super) fn look_at(&self, slice: &EndpointSlice) {
        let Some(memory) = &self.shared.memory else { return };
        let labels = slice.metadata.labels.as_ref();
        let of = labels.and_then(|labels| labels.get(SERVICE_LABEL)).map(String::as_str);
        if (slice.metadata.namespace.as_deref(), of) != (Some(SERVICE.0), Some(SERVICE.1)) {
            return;
        }
        let name = slice.metadata.name.clone().unwrap_or_default();
        let mut state = self.state();
        state.slices.insert(name, addresses(slice));
        let mut learned: Vec<Uri> = state.slices.values().flatten().cloned().collect();
        learned.sort_by_key(Uri::to_string);
        // Without any, the last ones are better than none: the server that says so has answered.
        if learned.is_empty() {
            return;
        }
        self.renew(&mut state, &in_order(&self.shared.given, &learned));
        if recall(memory) != learned
            && let Err(error) = remember(memory, &learned)
        {
            tracing::warn!(%error, path = %memory.display(), "the API servers' addresses cannot be remembered");
        }
    }

    /// Makes `all` the servers; whoever is asked stays so, if it is still there.
    fn renew(&self, state: &mut State, all: &[Uri]) {
        if state.servers.iter().map(|server| &server.uri).eq(all) {
            return;
        }
        let asked = state.servers[state.at].uri.clone();
        let mut before: Vec<Server> = std::mem::take(&mut state.servers);
        for uri in all {
            let kept = before.iter().position(|server| server.uri == *uri).map(|at| before.swap_remove(at));
            match kept.map_or_else(|| server(&self.shared.config, uri.clone()), Ok) {
                Ok(server) => state.servers.push(server),
                Err(error) => tracing::warn!(%uri, %error, "this API server cannot be asked"),
            }
        }
        if state.servers.is_empty() {
            state.servers = before;
        }
        state.at = state.servers.iter().position(|server| server.uri == asked).unwrap_or(0);
        let all = state.servers.iter().map(|server| server.uri.to_string()).collect::<Vec<_>>().join(" ");
        tracing::info!(servers = all, "the API servers are");
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn server(config: &Config, uri: Uri) -> Result<Server, Error> {
    let mut config = config.clone();
    config.cluster_url = uri.clone();
    Ok(Server { uri, client: Client::try_from(config).map_err(Error::Client)? })
}

/// What is given, then what was learned beyond it.
fn in_order(given: &[Uri], learned: &[Uri]) -> Vec<Uri> {
    let beyond = learned.iter().filter(|uri| !given.contains(uri));
    given.iter().chain(beyond).cloned().collect()
}

/// Addresses of the servers in a slice that may be asked.
fn addresses(slice: &EndpointSlice) -> Vec<Uri> {
    let ports = slice.ports.iter().flatten();
    let ports: Vec<u16> = ports
        .filter(|port| port.name.as_deref().unwrap_or("https") == "https")
        .filter_map(|port| u16::try_from(port.port?).ok())
        .collect();
    let is_ready = |endpoint: &&k8s_openapi::api::discovery::v1::Endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
    };
    let ips = slice.endpoints.iter().filter(is_ready).flat_map(|endpoint| &endpoint.addresses);
    let ips: Vec<std::net::IpAddr> = ips.filter_map(|text| text.parse().ok()).collect();
    let uri = |ip, port| format!("https://{}", std::net::SocketAddr::new(ip, port)).parse().ok();
    ips.iter().flat_map(|ip| ports.iter().filter_map(move |port| uri(*ip, *port))).collect()
}

/// What was remembered; nothing if there is nothing, or nothing that can be read.
fn recall(path: &Path) -> Vec<Uri> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// Replaces the file as a whole: half of it would be half of the servers.
fn remember(path: &Path, servers: &[Uri]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let fresh = path.with_extension("new");
    fs::write(&fresh, servers.iter().map(|uri| format!("{uri}\n")).collect::<String>())?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests;
