//! The small process that sits in every namespace of a lab. It serves, probes, keeps flows open and makes load, all by
//! request of the lab over a Unix socket. For people: `lab-probe serve` and `lab-probe get`.
//!
//! It knows nothing of Kubernetes, of the lab's topology or of what a right answer would be.

mod attempt;
mod batch;
mod control;
mod http;
mod load;
mod netexec;
mod serve;
mod socket;

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, getrlimit, pidfd_open, setrlimit};
use sluice_lab::wire::{Listen, Probe, Protocol, UdpStyle};

const USAGE: &str = "\
lab-probe serve [--name NAME] tcp|udp|sctp/ADDRESS:PORT...   answer every connection and datagram with one line of JSON
lab-probe get [--count N] [--unconnected] tcp|udp|sctp|icmp/ADDRESS:PORT...   connect, and say who answered
lab-probe daemon [--owner PID]                               serve requests on the Unix socket that is standard input";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab-probe: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let Some((verb, rest)) = arguments.split_first() else { bail!("which verb?\n{USAGE}") };
    raise_open_files();
    match verb.as_str() {
        "daemon" => daemon(rest),
        "serve" => serve(rest),
        "get" => get(rest),
        "-h" | "--help" | "help" => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("no such verb: {other}\n{USAGE}"),
    }
}

fn daemon(arguments: &[String]) -> Result<ExitCode> {
    if let [flag, owner] = arguments {
        if flag != "--owner" {
            bail!("no such flag: {flag}\n{USAGE}");
        }
        let owner = owner
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .with_context(|| format!("not a process id: {owner}"))?;
        end_with(owner)?;
    }
    // The listener is made by the lab before this process exists, so that nobody has to wait for it.
    let listener = UnixListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    control::run(&listener)?;
    Ok(ExitCode::SUCCESS)
}

/// Ends this process when the owner of the lab does: a lab that was killed leaves no servers behind.
fn end_with(owner: Pid) -> Result<()> {
    let watched = pidfd_open(owner, PidfdFlags::empty()).context("the owner of the lab is gone")?;
    std::thread::Builder::new().name("owner".to_owned()).spawn(move || {
        let mut fds = [PollFd::new(&watched, PollFlags::IN)];
        while poll(&mut fds, None).is_err() {}
        std::process::exit(0);
    })?;
    Ok(())
}

fn serve(arguments: &[String]) -> Result<ExitCode> {
    let mut name = String::new();
    let mut sockets = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--name" {
            name.clone_from(arguments.next().context("--name needs a value")?);
            continue;
        }
        let (protocol, at) = endpoint(argument)?;
        sockets.push(Listen { protocol, at });
    }
    let server = serve::Server::start()?;
    server.listen(name, sockets)?;
    loop {
        std::thread::park();
    }
}

fn get(arguments: &[String]) -> Result<ExitCode> {
    let (mut count, mut style, mut probes) = (1, UdpStyle::Connected, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--unconnected" => style = UdpStyle::Unconnected,
            "--count" | "-n" => {
                count =
                    arguments.next().and_then(|text| text.parse().ok()).context("--count needs a number")?;
            }
            _ => {
                let (protocol, to) = endpoint(argument)?;
                probes.push(Probe::new(protocol, to));
            }
        }
    }
    let probes: Vec<Probe> =
        probes.into_iter().map(|probe| Probe { udp: style, ..probe.times(count) }).collect();
    let tallies = batch::tallies(&probes);
    for (probe, tally) in probes.iter().zip(&tallies) {
        println!("{} {}: {tally}", probe.protocol, probe.to);
    }
    let failures: u32 = tallies.iter().map(sluice_lab::Tally::failures).sum();
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn endpoint(text: &str) -> Result<(Protocol, SocketAddr)> {
    let (protocol, address) = text.split_once('/').unwrap_or(("tcp", text));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        "icmp" => Protocol::Icmp,
        other => bail!("no such protocol: {other}\n{USAGE}"),
    };
    let address = match address.parse() {
        Ok(address) => address,
        Err(_) if protocol == Protocol::Icmp => {
            SocketAddr::new(address.parse().context("not an address")?, 0)
        }
        Err(_) => bail!("{address} is not ADDRESS:PORT"),
    };
    Ok((protocol, address))
}

/// Large batches open hundreds of sockets; the soft limit is often 1024. Failing to raise it only makes them slower.
fn raise_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
