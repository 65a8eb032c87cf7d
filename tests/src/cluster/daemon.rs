//! A child process that serves until it is told to stop: ready when it has printed a line that starts with `READY`, told to
//! stop by the end of its standard input. So it ends with this process, however that ends.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a daemon may take to stop.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(5);

/// A running daemon. Dropping it stops it.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Option<Child>,
    log: PathBuf,
}

impl Daemon {
    /// Starts a command and waits until it is ready; what it prints goes to the log.
    ///
    /// # Errors
    /// It ended, or was not ready in time; with the end of its log.
    pub fn start(name: &str, mut command: Command, log: &Path, patience: Duration) -> Result<Self> {
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let file = open().with_context(|| format!("opening {}", log.display()))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file.try_clone()?);
        let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
        let output = child.stdout.take().context("standard output is a pipe")?;
        let (ready, is_ready) = channel();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || copy(output, file, &ready))?;
        let daemon = Self { name: name.to_owned(), child: Some(child), log: log.to_owned() };
        match is_ready.recv_timeout(patience) {
            Ok(()) => Ok(daemon),
            Err(RecvTimeoutError::Timeout) => {
                Err(daemon.obituary(&format!("is not ready after {patience:?}")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(daemon.obituary("ended")),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        kill_process(Pid::from_child(child), signal)
            .with_context(|| format!("sending {signal:?} to {}", self.name))
    }

    /// Tells it to stop and waits until it has.
    ///
    /// # Errors
    /// It does not stop (and is killed), or says by its exit code that something went wrong.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        drop(child.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        loop {
            match child.try_wait().with_context(|| format!("waiting for {}", self.name))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.obituary(&format!("ended with {status}"))),
                None if Instant::now() > deadline => {
                    child
                        .kill()
                        .and_then(|()| child.wait())
                        .with_context(|| format!("killing {}", self.name))?;
                    bail!("{} did not stop within {PATIENCE:?} and was killed", self.name);
                }
                None => std::thread::sleep(POLL),
            }
        }
    }

    fn obituary(&self, what: &str) -> anyhow::Error {
        anyhow!("{} {what}; {} ends:\n{}", self.name, self.log.display(), log_end(&self.log, 15))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

/// The last lines of a log.
#[must_use]
pub fn log_end(path: &Path, lines: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Reads until the end, so that the daemon never writes into a full or broken pipe.
fn copy(output: ChildStdout, mut log: File, ready: &Sender<()>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        // The log is for people; a full disk is no reason to stop the daemon.
        let _ = writeln!(log, "{line}");
        if line.starts_with("READY") {
            // Nobody listens any more when the start was given up.
            let _ = ready.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str, patience: Duration) -> Result<Daemon> {
        let log =
            std::env::temp_dir().join(format!("sluice-daemon-{}-{}.log", std::process::id(), script.len()));
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let result = Daemon::start("it", command, &log, patience);
        // Of an error, only the first line is stable.
        let _ = std::fs::remove_file(log);
        result
    }

    #[test]
    fn a_daemon_is_ready_by_its_word_and_stops_when_its_input_ends() {
        let daemon = start("echo READY at last; cat >/dev/null", PATIENCE).unwrap();
        daemon.stop().unwrap();
    }

    #[test]
    fn a_daemon_that_ends_or_says_nothing_is_an_error_with_the_reason() {
        let first =
            |result: Result<Daemon>| result.unwrap_err().to_string().split(';').next().unwrap().to_owned();
        assert_eq!(first(start("exit 3", PATIENCE)), "it ended");
        assert_eq!(first(start("cat", Duration::from_millis(50))), "it is not ready after 50ms");
    }
}
