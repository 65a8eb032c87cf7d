//! `proxyctl capture`: the packets at our hooks, the driver's among them, as they came and as they were left, with the reason
//! and the verdict of each: lines to read, or a file for tcpdump and Wireshark. Costs nothing when it does not run, and ends by
//! itself.

mod choice;
mod pcapng;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use self::choice::Choice;
use self::pcapng::File;
use super::explain::ProtoArg;
use super::monitor::Clock;
use super::output::{Format, printable};
use super::reader::Reader;
use super::status::device_name;
use super::trace::Tuple;
use crate::kernel::hook::Hook;
use crate::kernel::tap::{Bytes, Event, Tap, Tapped};
use crate::observe::maps::outcome;

/// Time between two looks at what has come.
const LOOK: Duration = Duration::from_millis(20);

/// What `proxyctl capture` keeps, and where.
#[derive(Args, Debug, Clone)]
pub struct CaptureArgs {
    /// Into this file, as pcapng; `-` is standard output. Without it each packet is a line
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Only at this hook: from_pod, to_pod, from_wire, to_wire, early_wire
    #[arg(long, value_name = "HOOK")]
    pub hook: Option<String>,
    /// Only with this address at an end
    #[arg(long, value_name = "IP")]
    pub host: Option<IpAddr>,
    /// Only with this port at an end
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Only of this protocol
    #[arg(long, value_enum)]
    pub proto: Option<ProtoArg>,
    /// Only to or from a frontend or a backend of this Service, as they are now
    #[arg(long, value_name = "NS/NAME[:PORT]")]
    pub service: Option<String>,
    /// Only what ends with this reason, as `proxyctl counter list` has them
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    /// Only what is dropped or rejected
    #[arg(long)]
    pub drops: bool,
    /// Ends after so many packets
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub count: u64,
    /// Ends after so long
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
}

/// A packet, for people and programs.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Line {
    time: String,
    hook: &'static str,
    device: String,
    reason: Option<&'static str>,
    outcome: Option<&'static str>,
    /// What the program told the kernel to do.
    action: String,
    length: u32,
    before: Option<Ends>,
    after: Option<Ends>,
}

/// What a packet says of itself.
#[derive(Serialize, Debug, PartialEq, Eq)]
struct Ends {
    protocol: String,
    source: String,
    destination: String,
}

/// Where packets go.
enum Sink {
    Lines(Format),
    File(File<BufWriter<Box<dyn Write>>>),
}

/// Keeps packets until there are enough.
pub(super) fn run(reader: &Reader, args: &CaptureArgs, format: Format) -> anyhow::Result<String> {
    let choice = Choice::of(args, reader)?;
    let clock = Clock::now();
    let mut tap = Tap::open(&reader.pinned.pins, |hook| choice.takes_hook(hook)).context(
        "packets cannot be tapped (run as root on the node, with CAP_SYS_ADMIN; the kernel must take tracing programs, which one \
         that is locked down may not, and on arm64 be of Linux 6.4 or newer)",
    )?;
    let sink = match &args.write {
        None => Sink::Lines(format),
        Some(path) => {
            Sink::File(File::begin(BufWriter::new(open(path)?)).context("the file cannot be begun")?)
        }
    };
    let mut capture =
        Capture { sink, clock, names: BTreeMap::new(), left: args.count, missed: 0, failed: None };
    let end = Instant::now() + Duration::from_secs(args.seconds);
    eprintln!("proxyctl: capturing up to {} packets for up to {} s", args.count, args.seconds);
    while capture.left > 0 && capture.failed.is_none() && Instant::now() < end {
        // Broken off or not, what was written is to be seen.
        let _ = tap.read(|event| capture.take(event, &choice));
        capture.flush();
        thread::sleep(LOOK);
    }
    drop(tap);
    capture.finish(args.count)
}

fn open(path: &PathBuf) -> anyhow::Result<Box<dyn Write>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdout()));
    }
    let file = fs::File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(Box::new(file))
}

struct Capture {
    sink: Sink,
    clock: Clock,
    /// Devices' names; a device may go.
    names: BTreeMap<u32, String>,
    left: u64,
    missed: u64,
    failed: Option<io::Error>,
}

impl Capture {
    fn take(&mut self, event: Event, choice: &Choice) -> ControlFlow<()> {
        match event {
            Event::Missed(count) => self.missed += count,
            Event::Packet(packet) if choice.takes(&packet) => {
                self.failed = self.keep(&packet).err();
                self.left -= 1;
            }
            Event::Packet(_) => {}
        }
        if self.left == 0 || self.failed.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn keep(&mut self, packet: &Tapped) -> io::Result<()> {
        let index = packet.device.0;
        let name = || device_name(index).unwrap_or_else(|| format!("device {index}"));
        let device = self.names.entry(index).or_insert_with(name);
        let clock = &self.clock;
        match &mut self.sink {
            Sink::Lines(format) => {
                let line = Line::of(packet, clock.text(packet.at), device);
                io::stdout().write_all(line.text(*format).as_bytes())
            }
            Sink::File(file) => {
                let mut write = |form: &Bytes, comment: &str| {
                    file.packet(index, || device.clone(), clock.nanos(form.at), form, comment)
                };
                if let Some(before) = changed(packet) {
                    write(before, &format!("{}, as it came", packet.hook))?;
                }
                write(&packet.after, &comment(packet))
            }
        }
    }

    fn flush(&mut self) {
        let flushed = match &mut self.sink {
            Sink::Lines(_) => io::stdout().flush(),
            Sink::File(file) => file.flush(),
        };
        self.failed = self.failed.take().or(flushed.err());
    }

    fn finish(self, count: u64) -> anyhow::Result<String> {
        if self.missed > 0 {
            eprintln!("proxyctl: {} packets came faster than they were read, and are missing", self.missed);
        }
        match self.failed {
            // A reader that has seen enough (`proxyctl capture | head`) is no failure.
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                bail!("packets cannot be written: {error}")
            }
            Some(_) | None => {
                eprintln!("proxyctl: {} packets captured", count - self.left);
                Ok(String::new())
            }
        }
    }
}

/// The packet as it came, if the program has made another of it.
fn changed(packet: &Tapped) -> Option<&Bytes> {
    packet.before.as_ref().filter(|before| before.bytes != packet.after.bytes)
}

/// `from_pod: translate service-new, next`.
fn comment(packet: &Tapped) -> String {
    let reason = packet.reason.map(|reason| format!(" {} {},", outcome(reason.outcome()), reason.text()));
    format!("{}:{} {}", packet.hook, reason.unwrap_or_default(), action(packet.hook, packet.code))
}

/// What a program has told the kernel, by the kernel's names.
fn action(hook: Hook, code: i32) -> String {
    let known = match (hook, code) {
        (Hook::EarlyWire, 1) => "drop",
        (Hook::EarlyWire, 2) => "pass",
        (Hook::EarlyWire, 3) => "tx",
        (Hook::EarlyWire, 4) | (_, 7) => "redirect",
        (_, -1) => "next",
        (_, 0) => "ok",
        (_, 2) => "shot",
        _ => return format!("action {code}"),
    };
    known.to_owned()
}

impl Ends {
    fn of(form: &Bytes) -> Option<Self> {
        let Tuple { src, dst, proto } = Tuple::of(&form.bytes)?;
        Some(Self { protocol: proto.to_string(), source: src.to_string(), destination: dst.to_string() })
    }
}

impl Line {
    fn of(packet: &Tapped, time: String, device: &str) -> Self {
        Self {
            time,
            hook: packet.hook.name(),
            device: device.to_owned(),
            reason: packet.reason.map(proxy_common::Reason::text),
            outcome: packet.reason.map(|reason| outcome(reason.outcome())),
            action: action(packet.hook, packet.code),
            length: packet.after.length,
            before: packet.before.as_ref().and_then(Ends::of),
            after: Ends::of(&packet.after),
        }
    }

    fn text(&self, format: Format) -> String {
        match format {
            Format::Json => serde_json::to_string(self).map_or_else(|_| String::new(), |line| line + "\n"),
            Format::Yaml => {
                serde_norway::to_string(self).map_or_else(|_| String::new(), |text| format!("---\n{text}"))
            }
            Format::Table | Format::Wide => {
                let ends = |ends: &Ends| format!("{} -> {}", ends.source, ends.destination);
                let proto =
                    self.after.as_ref().or(self.before.as_ref()).map_or("?", |ends| ends.protocol.as_str());
                let way = match (&self.before, &self.after) {
                    (Some(before), Some(after)) if before != after => {
                        format!("{} => {}", ends(before), ends(after))
                    }
                    (_, Some(after)) => ends(after),
                    (Some(before), None) => ends(before),
                    (None, None) => "not IP".to_owned(),
                };
                let Self { time, hook, device, action, length, .. } = self;
                let reason = [self.outcome, self.reason].map(|word| word.unwrap_or("-")).join(" ");
                let device = printable(device);
                format!("{time} {hook} {device} {proto} {way}, {length} bytes: {reason}, {action}\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::{Proto, Reason};

    use super::*;
    use crate::kernel::topology::IfIndex;

    fn form(dst: &str) -> Bytes {
        let tuple =
            Tuple { src: "10.244.0.9:4000".parse().unwrap(), dst: dst.parse().unwrap(), proto: Proto::TCP };
        let bytes = tuple.frame([2; 6]);
        Bytes { at: 1, length: bytes.len() as u32, bytes }
    }

    #[test]
    fn a_packet_is_a_line_with_what_became_of_it() {
        let packet = Tapped {
            at: 1,
            hook: Hook::FromPod,
            device: IfIndex(3),
            code: 7,
            reason: Some(Reason::ServiceNew),
            before: Some(form("10.96.0.1:80")),
            after: form("10.244.0.5:8080"),
        };
        let line = Line::of(&packet, "TIME".into(), "pod\x1b1");
        assert_eq!(
            line.text(Format::Table),
            "TIME from_pod pod\\u{1b}1 TCP 10.244.0.9:4000 -> 10.96.0.1:80 => 10.244.0.9:4000 -> 10.244.0.5:8080, 54 bytes: \
             translate service-new, redirect\n"
        );
        assert_eq!(comment(&packet), "from_pod: translate service-new, redirect");
        assert!(changed(&packet).is_some());
        let same = Tapped {
            hook: Hook::EarlyWire,
            code: 1,
            reason: None,
            before: Some(packet.after.clone()),
            ..packet
        };
        assert_eq!(comment(&same), "early_wire: drop");
        assert_eq!(changed(&same), None);
        let json: serde_json::Value =
            serde_json::from_str(&Line::of(&same, "T".into(), "d").text(Format::Json)).unwrap();
        assert_eq!(json["after"]["destination"], "10.244.0.5:8080");
    }
}
