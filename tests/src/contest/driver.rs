//! Both ends of a load as processes in places of a lab. Knows what they are asked, not why.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};
use sluice_lab::Place;
use sluice_load::order::{Order, Report};

/// Where all else is while something is measured; see [`measured`].
pub const ELSEWHERE: usize = 0;
/// Both ends before everything else: what others do on the machine then takes little of the processor.
const NICE: &str = "--nice=-20";

/// The processor on which both ends run: not the one where all else is, unless there is no other.
#[must_use]
pub fn measured() -> usize {
    usize::from(available_parallelism().is_ok_and(|processors| processors.get() > 1))
}

/// A server or a client. Dropping it kills it.
#[derive(Debug)]
struct Process {
    name: String,
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts it and waits until it is ready.
    fn start(place: &Place, arguments: &[&str]) -> Result<Self> {
        let mut command = place.command(&program()?.to_string_lossy())?;
        command.args(arguments).arg(NICE).arg(format!("--cpu={}", measured()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().context("starting sluice-load")?;
        let output = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        let name = format!("sluice-load {} at {}", arguments.join(" "), place.name);
        let mut process = Self { name, child, output };
        let said = process.line()?;
        ensure!(said.trim() == "READY", "{} said {said:?}", process.name);
        Ok(process)
    }

    fn pid(&self) -> Result<i32> {
        i32::try_from(self.child.id()).context("process id")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let length =
            self.output.read_line(&mut line).with_context(|| format!("listening to {}", self.name))?;
        ensure!(length > 0, "{} has ended", self.name);
        Ok(line)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The servers of a pod: TCP and UDP on one address and port, a process for each.
#[derive(Debug)]
pub struct Server(Vec<Process>);

impl Server {
    /// Starts them.
    ///
    /// # Errors
    /// They do not listen.
    pub fn start(place: &Place, at: SocketAddr) -> Result<Self> {
        let start = |protocol| Process::start(place, &["serve", protocol, &at.to_string()]);
        Ok(Self(vec![start("tcp")?, start("udp")?]))
    }

    /// Their processes.
    ///
    /// # Errors
    /// None of note.
    pub fn pids(&self) -> Result<Vec<i32>> {
        self.0.iter().map(Process::pid).collect()
    }
}

/// A client that waits for orders.
#[derive(Debug)]
pub struct Driver {
    process: Process,
    input: ChildStdin,
}

impl Driver {
    /// Starts one.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn start(place: &Place) -> Result<Self> {
        let mut process = Process::start(place, &["drive"])?;
        let input = process.child.stdin.take().context("standard input is a pipe")?;
        Ok(Self { process, input })
    }

    /// Has an order carried out.
    ///
    /// # Errors
    /// The client has ended, or answers something else.
    pub fn ask(&mut self, order: &Order) -> Result<Report> {
        self.begin(order)?;
        self.answer()
    }

    /// Begins to carry out an order.
    ///
    /// # Errors
    /// The client has ended.
    pub fn begin(&mut self, order: &Order) -> Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.write(&line)
    }

    /// Ends the order that was begun, and says what came of it.
    ///
    /// # Errors
    /// As [`Driver::ask`].
    pub fn end(&mut self) -> Result<Report> {
        self.write(b"\n")?;
        self.answer()
    }

    /// Waits until the order that was begun has ended by itself.
    ///
    /// # Errors
    /// As [`Driver::ask`].
    pub fn answer(&mut self) -> Result<Report> {
        let line = self.process.line()?;
        serde_json::from_str(&line).with_context(|| format!("what {} answered", self.process.name))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.input
            .write_all(bytes)
            .and_then(|()| self.input.flush())
            .with_context(|| format!("asking {}", self.process.name))
    }
}

/// Built beside the running program.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding the running program")?;
    let beside =
        own.ancestors().skip(1).take(2).map(|dir| dir.join("sluice-load")).find(|path| path.is_file());
    beside.with_context(|| {
        format!("there is no sluice-load beside {}; cargo build -p sluice-load", own.display())
    })
}
