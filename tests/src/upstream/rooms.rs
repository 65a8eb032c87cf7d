//! The landlord: makes the rooms that kubelets ask for, pods of the lab with addresses of their node's ranges. It plays the CNI
//! plugin. One question and one answer per connection, a line of JSON each; see `tests/cluster/internal/node/room.go`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sluice_lab::{Lab, PodSpec, netns};

use super::spec::text;

/// Serves a unix socket from a thread of its own. Dropping it ends that; the rooms go with the lab.
pub(super) struct Landlord {
    socket: PathBuf,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Landlord {
    /// Starts it.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(super) fn start(lab: Arc<Lab>) -> Result<Self> {
        let socket = lab.id().state_dir().join("rooms.sock");
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("binding {}", socket.display()))?;
        let over = Arc::new(AtomicBool::new(false));
        let (desk, closing) = (Desk { lab, ranges: Mutex::default() }, Arc::clone(&over));
        let thread = std::thread::Builder::new()
            .name("landlord".to_owned())
            .spawn(move || serve(&listener, &desk, &closing))?;
        Ok(Self { socket, over, thread: Some(thread) })
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends it when the questions under way are answered.
    pub(super) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.over.store(true, Ordering::SeqCst);
        // Wakes the thread; it may have ended by itself.
        let _ = UnixStream::connect(&self.socket);
        if thread.join().is_err() {
            eprintln!("the landlord panicked");
        }
    }
}

impl Drop for Landlord {
    fn drop(&mut self) {
        self.end();
    }
}

fn serve(listener: &UnixListener, desk: &Desk, over: &AtomicBool) {
    std::thread::scope(|scope| {
        for connection in listener.incoming() {
            if over.load(Ordering::SeqCst) {
                return;
            }
            let Ok(connection) = connection else { continue };
            scope.spawn(move || {
                // A kubelet that does not wait for the answer asks again.
                let _ = answer(&connection, desk);
            });
        }
    });
}

fn answer(mut connection: &UnixStream, desk: &Desk) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(connection).read_line(&mut line)?;
    let answer = desk.ask(&line).unwrap_or_else(|error| json!({"error": format!("{error:#}")}));
    writeln!(connection, "{answer}")
}

struct Desk {
    lab: Arc<Lab>,
    ranges: Mutex<BTreeMap<String, Range>>,
}

/// The addresses of one node, by their last number: both families of a pod have the same.
#[derive(Default)]
struct Range {
    last: u8,
    lent: BTreeMap<u8, String>,
}

impl Range {
    /// The next free number after the last one lent: an address comes back as late as possible, as with the usual plugins.
    fn lend(&mut self, name: &str) -> Result<u8> {
        let after = (1..=u8::MAX).map(|step| self.last.wrapping_add(step));
        let free =
            after.into_iter().find(|number| (2..=250).contains(number) && !self.lent.contains_key(number));
        let number = free.context("no free address is left")?;
        self.last = number;
        self.lent.insert(number, name.to_owned());
        Ok(number)
    }
}

impl Desk {
    fn ask(&self, line: &str) -> Result<Value> {
        let question: Value = serde_json::from_str(line).context("a question that is no JSON")?;
        let (node, name) = (text(&question, "node")?, text(&question, "name")?);
        match text(&question, "verb")? {
            "add" => self.add(node, name),
            "remove" => self.remove(node, name),
            other => bail!("no verb: {other}"),
        }
    }

    fn add(&self, node: &str, name: &str) -> Result<Value> {
        let number = self.with_range(node, |range| range.lend(name))?;
        let ips = self.addresses(node, number)?;
        let spec = PodSpec { name: name.to_owned(), node: node.to_owned(), ips: ips.clone() };
        match self.lab.pod_add(&spec) {
            Ok(place) => Ok(json!({
                "name": name, "ips": ips, "netns": netns::path(&place.netns), "cgroup": place.cgroup,
            })),
            Err(error) => {
                self.with_range(node, |range| range.lent.remove(&number));
                Err(error)
            }
        }
    }

    fn remove(&self, node: &str, name: &str) -> Result<Value> {
        if self.with_range(node, |range| !range.lent.values().any(|lent| lent == name)) {
            return Ok(json!({}));
        }
        self.lab.pod_remove(name)?;
        self.with_range(node, |range| range.lent.retain(|_, lent| lent != name));
        Ok(json!({}))
    }

    fn with_range<T>(&self, node: &str, action: impl FnOnce(&mut Range) -> T) -> T {
        let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        action(ranges.entry(node.to_owned()).or_insert_with(|| Range { last: 1, lent: BTreeMap::new() }))
    }

    fn addresses(&self, node: &str, number: u8) -> Result<Vec<IpAddr>> {
        let topology = self.lab.topology();
        let spec = topology.nodes.iter().find(|spec| spec.name == node);
        let spec = spec.with_context(|| format!("the lab has no node {node}"))?;
        Ok(spec.pod_cidrs.iter().map(|cidr| nth(cidr.network(), number)).collect())
    }
}

fn nth(network: IpAddr, number: u8) -> IpAddr {
    match network {
        IpAddr::V4(first) => IpAddr::from((u32::from(first) + u32::from(number)).to_be_bytes()),
        IpAddr::V6(first) => IpAddr::from((u128::from(first) + u128::from(number)).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_round_before_one_is_lent_again() {
        let mut range = Range { last: 1, lent: BTreeMap::new() };
        assert_eq!((range.lend("a").unwrap(), range.lend("b").unwrap()), (2, 3));
        range.lent.remove(&2);
        assert_eq!(range.lend("c").unwrap(), 4);
        let rest: Vec<u8> = (0..246).map(|_| range.lend("x").unwrap()).collect();
        assert_eq!((rest.first(), rest.last()), (Some(&5), Some(&250)));
        assert_eq!(range.lend("d").unwrap(), 2);
        assert_eq!(range.lend("e").unwrap_err().to_string(), "no free address is left");
    }
}
