//! Tells what takes long: a spinner with the last line of output on a terminal, one line per task elsewhere.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, IsTerminal as _},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::child;

/// Lines of output that a failure shows.
const TAIL: usize = 40;

/// Runs a command as a task named `label`; its output is shown only if it fails.
pub(crate) fn run(label: &str, command: &mut Command) -> Result<()> {
    let text = child::line(command);
    let bar = bar(label);
    let start = Instant::now();
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {text}"))?;
    let (sender, lines) = mpsc::channel();
    let out = process.stdout.take().map(BufReader::new);
    let err = process.stderr.take().map(BufReader::new);
    let readers = [out.map(|out| follow(out, sender.clone())), err.map(|err| follow(err, sender))];
    let mut tail = VecDeque::new();
    for line in lines {
        bar.set_message(line.trim().to_owned());
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }
    for reader in readers.into_iter().flatten() {
        // A reader ends with its pipe; it has nothing to say.
        drop(reader.join());
    }
    let status = process.wait().with_context(|| format!("cannot wait for {text}"))?;
    bar.finish_and_clear();
    if !status.success() {
        let tail = tail.into_iter().collect::<Vec<_>>().join("\n");
        bail!("{label}: `{text}` failed ({status}):\n{tail}");
    }
    eprintln!("  {label}: done in {}", seconds(start.elapsed()));
    Ok(())
}

/// `12.3 s`.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn follow<R: std::io::Read + Send + 'static>(
    reader: BufReader<R>,
    sender: mpsc::Sender<String>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    })
}

fn bar(label: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("  {label} …");
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("  {spinner} {prefix} [{elapsed}] {wide_msg:.dim}");
    let bar = ProgressBar::new_spinner().with_prefix(label.to_owned());
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
