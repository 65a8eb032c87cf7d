//! An API server that only answers watches that begin with a list (`sendInitialEvents`), from text that was made before:
//! whoever reads it waits for nothing but itself. No TLS, no authentication, no selectors.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sluice_lab::netns;

use super::cluster::{self, Kind, Size, Verb};

/// Bytes in one chunk of an answer.
const CHUNK: usize = 1 << 16;

/// The server. It goes on until the process ends.
pub struct Api {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    services: Mutex<String>,
    slices: Mutex<String>,
    node: String,
    /// Who has been told the list, and what is to be told from then on.
    streams: Mutex<BTreeMap<&'static str, TcpStream>>,
    told: Condvar,
}

impl Api {
    /// Listens at the loopback address of a network namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn start(space: &str, node: &str, size: Size) -> Result<Self> {
        let listener =
            netns::inside(space, || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening"))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            services: Mutex::default(),
            slices: Mutex::default(),
            node: node_line(node),
            streams: Mutex::default(),
            told: Condvar::new(),
        });
        let api = Self { shared: shared.clone(), port };
        api.fill(size);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                // The error is the reader's end of the connection.
                std::thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Ok(api)
    }

    /// Makes the lists.
    fn fill(&self, size: Size) {
        let (mut services, mut slices) = (String::new(), String::new());
        for service in 0..size.services {
            let version = u64::from(service) + 10;
            cluster::service_line(&mut services, Verb::Added, service, version);
            cluster::slice_line(&mut slices, size, Verb::Added, service, 0, version);
        }
        *held(&self.shared.services) = services;
        *held(&self.shared.slices) = slices;
    }

    /// Writes a kubeconfig that names this server.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn kubeconfig(&self, folder: &Path) -> Result<PathBuf> {
        let file = folder.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- {{name: c, cluster: {{server: 'http://127.0.0.1:{}'}}}}\nusers:\n- {{name: u, user: {{}}}}\ncontexts:\n- {{name: c, context: {{cluster: c, user: u}}}}\n",
            self.port
        );
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        Ok(file)
    }

    /// Forgets who listens: the next [`Api::await_listener`] waits for a new one.
    pub fn forget(&self) {
        held(&self.shared.streams).clear();
    }

    /// Waits until somebody has been told the lists of Services and slices.
    ///
    /// # Errors
    /// Nobody came.
    pub fn await_listener(&self, patience: Duration) -> Result<()> {
        let streams = held(&self.shared.streams);
        let lacks = |streams: &mut BTreeMap<&str, TcpStream>| streams.len() < 2;
        let (streams, _) = self
            .shared
            .told
            .wait_timeout_while(streams, patience, lacks)
            .unwrap_or_else(PoisonError::into_inner);
        if streams.len() < 2 {
            bail!("nobody asked for the Services and the slices");
        }
        Ok(())
    }

    /// Tells lines of a watch to who listens.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn tell(&self, kind: Kind, lines: &str) -> Result<()> {
        let name = match kind {
            Kind::Service => "services",
            Kind::Slice => "endpointslices",
        };
        let mut streams = held(&self.shared.streams);
        let stream = streams.get_mut(name).with_context(|| format!("nobody watches {name}"))?;
        chunk(stream, lines.as_bytes()).with_context(|| format!("telling {name}"))
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn node_line(node: &str) -> String {
    format!(
        "{{\"type\":\"ADDED\",\"object\":{{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{{\"name\":\"{node}\",\"resourceVersion\":\"1\"}},\"spec\":{{}},\"status\":{{\"addresses\":[{{\"type\":\"InternalIP\",\"address\":\"172.18.0.11\"}}]}}}}}}\n"
    )
}

/// Answers what is asked on one connection until it ends.
fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.try_clone()?);
    loop {
        let mut request = String::new();
        if lines.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut header = String::new();
        while lines.read_line(&mut header)? > 2 {
            header.clear();
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        let resource = path.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        match resource {
            "services" => return list(stream, shared, "services", ("Service", "v1")),
            "endpointslices" => {
                return list(stream, shared, "endpointslices", ("EndpointSlice", "discovery.k8s.io/v1"));
            }
            "nodes" => {
                head(&mut stream)?;
                chunk(&mut stream, shared.node.as_bytes())?;
                chunk(&mut stream, cluster::end_of_list("Node", "v1", 1).as_bytes())?;
                return stay(lines);
            }
            "networkpolicies" => {
                head(&mut stream)?;
                let end = cluster::end_of_list("NetworkPolicy", "networking.k8s.io/v1", 1);
                chunk(&mut stream, end.as_bytes())?;
                return stay(lines);
            }
            "version" => {
                let body = r#"{"major":"1","minor":"34","gitVersion":"v1.34.0","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#;
                answer(&mut stream, "200 OK", body)?;
            }
            _ => answer(
                &mut stream,
                "404 Not Found",
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"not found","reason":"NotFound","code":404}"#,
            )?,
        }
    }
}

/// Tells a list, and hands the connection to [`Api::tell`].
fn list(
    mut stream: TcpStream,
    shared: &Shared,
    name: &'static str,
    (kind, api_version): (&str, &str),
) -> io::Result<()> {
    head(&mut stream)?;
    let text = if name == "services" { held(&shared.services) } else { held(&shared.slices) };
    for part in text.as_bytes().chunks(CHUNK) {
        chunk(&mut stream, part)?;
    }
    chunk(&mut stream, cluster::end_of_list(kind, api_version, 1_000_000).as_bytes())?;
    held(&shared.streams).insert(name, stream);
    shared.told.notify_all();
    Ok(())
}

/// Until the reader goes.
fn stay(mut lines: BufReader<TcpStream>) -> io::Result<()> {
    lines.read_line(&mut String::new()).map(drop)
}

fn head(stream: &mut TcpStream) -> io::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
}

fn chunk(stream: &mut TcpStream, part: &[u8]) -> io::Result<()> {
    let mut whole = format!("{:x}\r\n", part.len()).into_bytes();
    whole.extend_from_slice(part);
    whole.extend_from_slice(b"\r\n");
    stream.write_all(&whole)
}

fn answer(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
