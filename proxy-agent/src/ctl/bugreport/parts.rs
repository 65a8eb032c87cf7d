//! What goes into the archive: what the other commands say, and what the kernel says of itself.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::Part;
use crate::ctl::output::Format;
use crate::ctl::reader::Reader;
use crate::ctl::{
    CheckArgs, DropsArgs, FlowArgs, backend, check, counter, drops, flow, map, policy, service, status,
};
use crate::kernel::order;

const PATIENCE: Duration = Duration::from_secs(5);
/// More than any page of an agent has.
const LARGEST: u64 = 64 << 20;
const HEALTHZ: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 10_256);

/// Settings of the node's network that decide what becomes of a packet.
const SETTINGS: [&str; 9] = [
    "core/bpf_jit_enable",
    "ipv4/ip_forward",
    "ipv4/conf/all/rp_filter",
    "ipv4/conf/all/accept_local",
    "ipv4/conf/all/route_localnet",
    "ipv4/ip_local_port_range",
    "ipv6/conf/all/forwarding",
    "bridge/bridge-nf-call-iptables",
    "netfilter/nf_conntrack_max",
];

/// Everything that can be had.
pub(super) fn collect(bpf_root: &Path, metrics: SocketAddr) -> Vec<Part> {
    let mut parts = vec![part("check.json", check(bpf_root)), part("kernel.txt", Ok(kernel()))];
    match Reader::open(bpf_root) {
        Ok(reader) => parts.extend(of_maps(&reader)),
        Err(error) => parts.push(part("maps.txt", Err(error))),
    }
    for (name, path) in [
        ("metrics.txt", "/metrics"),
        ("configz.json", "/configz"),
        ("flagz.txt", "/flagz"),
        ("statusz.txt", "/statusz"),
    ] {
        parts.push(part(name, page(metrics, path)));
    }
    parts
}

fn part(name: &'static str, text: anyhow::Result<String>) -> Part {
    Part { name, text: text.unwrap_or_else(|error| format!("not to be had: {error:#}\n")) }
}

fn check(bpf_root: &Path) -> anyhow::Result<String> {
    Format::Json.one(&check::page(bpf_root, &CheckArgs { service: None, healthz: HEALTHZ }))
}

fn of_maps(reader: &Reader) -> Vec<Part> {
    let json = Format::Json;
    let all = DropsArgs { watch: None, limit: None, all: true };
    vec![
        part("status.json", status::read(reader).and_then(|page| json.one(&page))),
        part("drops.json", drops::run(reader, &all, json)),
        part("services.json", service::list(reader).and_then(|rows| json.rows(&rows))),
        part("backends.json", backend::list(reader, None).and_then(|rows| json.rows(&rows))),
        part("flows.json", flow::list(reader, &FlowArgs::default()).and_then(|rows| json.rows(&rows))),
        part("policies.json", policy::list(reader).and_then(|rows| json.rows(&rows))),
        part("counters.json", counter::list(reader).and_then(|rows| json.rows(&rows))),
        part("maps.json", map::list(reader).and_then(|rows| json.rows(&rows))),
    ]
}

fn kernel() -> String {
    let uname = rustix::system::uname();
    let words = [uname.sysname(), uname.release(), uname.version(), uname.machine()];
    let mut text = words.map(|word| word.to_string_lossy().into_owned()).join(" ") + "\n\n";
    for name in SETTINGS {
        let value = fs::read_to_string(Path::new("/proc/sys/net").join(name));
        let value = value.map_or_else(|_| "absent".to_owned(), |value| value.trim().to_owned());
        text.push_str(&format!("net.{} = {value}\n", name.replace('/', ".")));
    }
    text.push_str("\nprograms of everybody:\n");
    for (id, name) in order::names() {
        text.push_str(&format!("{id} {name}\n"));
    }
    let devices = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut names: Vec<_> = devices.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    text.push_str(&format!("\ndevices: {}\n", names.join(" ")));
    text
}

/// A page of the agent's, without its head.
fn page(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or(("", &answer));
    let line = head.lines().next().unwrap_or_default();
    anyhow::ensure!(line.split(' ').nth(1) == Some("200"), "http://{address}{path} answers {line:?}");
    Ok(body.to_owned())
}
