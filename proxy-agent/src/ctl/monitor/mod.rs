//! `proxyctl monitor`: what becomes of packets and new connections while it runs, as the programs tell it, with the names
//! that the agent wrote down. The programs tell it to nobody while nobody listens.

mod notice;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;
use proxy_common::Reason;
use proxy_common::policy::Notice;
use proxy_common::reason::Outcome;
use tokio::signal::unix::{SignalKind, signal};
use zerocopy::FromBytes as _;

pub(super) use self::notice::Clock;
use self::notice::Told;
use super::counter;
use super::output::Format;
use super::policy::names::Names;
use super::reader::Reader;
use crate::kernel::ring::Next;
use crate::kernel::watch::Watch;

/// Time between two looks at what was told.
const LOOK: Duration = Duration::from_millis(50);
/// Looks between two of the names that were written down.
const LOOKS_PER_NAMES: u32 = 20;

/// What `proxyctl monitor` shows.
#[derive(Args, Debug, Clone)]
pub struct MonitorArgs {
    /// Only what is dropped or rejected
    #[arg(long)]
    pub drops: bool,
    /// Only what this policy decided, or whose pods it isolates
    #[arg(long, value_name = "[NS/]NAME")]
    pub policy: Option<String>,
    /// Only what comes from or goes to this pod or address
    #[arg(long, value_name = "NS/NAME|IP")]
    pub pod: Option<String>,
    /// Only this reason, as `proxyctl counter list` has them
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    /// Ends after so many
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// Which notices are shown.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Filter {
    drops: bool,
    policy: Option<String>,
    pod: Option<String>,
    reason: Option<Reason>,
}

impl Filter {
    fn of(args: &MonitorArgs) -> anyhow::Result<Self> {
        let MonitorArgs { drops, policy, pod, reason, limit: _ } = args;
        let reason = reason.as_deref().map(counter::reason).transpose()?;
        Ok(Self { drops: *drops, policy: policy.clone(), pod: pod.clone(), reason })
    }

    fn takes(&self, told: &Told) -> bool {
        let is_drop = matches!(told.outcome(), Some(Outcome::Drop | Outcome::Reject));
        (!self.drops || is_drop)
            && self.reason.is_none_or(|reason| told.is_for(reason))
            && self.pod.as_ref().is_none_or(|pod| told.is_of(pod))
            && self.policy.as_ref().is_none_or(|policy| told.is_by(policy))
    }
}

/// Shows notices until somebody has seen enough.
pub(super) fn run(reader: &Reader, args: &MonitorArgs, format: Format) -> anyhow::Result<()> {
    let filter = Filter::of(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clock = Clock::now();
    let context = "proxyctl monitor must be able to write maps (run as root)";
    let watch = Watch::begin(&reader.pinned.pins, reader.record.dir()).context(context)?;
    let mut monitor = Monitor {
        filter,
        format,
        clock,
        names: Names::of(reader.record.policy_names()),
        left: args.limit.unwrap_or(u64::MAX),
    };
    runtime.block_on(monitor.follow(reader, watch))
}

/// What is shown, and how much of it is left to show.
struct Monitor {
    filter: Filter,
    format: Format,
    clock: Clock,
    names: Names,
    left: u64,
}

impl Monitor {
    async fn follow(&mut self, reader: &Reader, mut watch: Watch) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut look = tokio::time::interval(LOOK);
        let mut looks = 0_u32;
        while self.left > 0 {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = look.tick() => {}
            }
            watch.renew();
            if looks.is_multiple_of(LOOKS_PER_NAMES) {
                self.names = Names::of(reader.record.policy_names());
            }
            looks = looks.wrapping_add(1);
            if let Err(error) = self.read(&mut watch) {
                // A reader that has seen enough (`proxyctl monitor | head`) is no failure.
                let enough = error.kind() == io::ErrorKind::BrokenPipe;
                return if enough { Ok(()) } else { Err(error.into()) };
            }
        }
        Ok(())
    }

    /// Shows what there is.
    fn read(&mut self, watch: &mut Watch) -> io::Result<()> {
        let mut out = io::stdout().lock();
        while self.left > 0 {
            match watch.ring.read() {
                Next::Nothing => break,
                Next::Missed => {
                    eprintln!("proxyctl: some notices came faster than they were read, and are missing")
                }
                Next::Record(bytes) => {
                    let Ok((notice, _)) = Notice::read_from_prefix(&bytes) else { continue };
                    if let Some(line) = self.line(&notice) {
                        out.write_all(line.as_bytes())?;
                        self.left -= 1;
                    }
                }
            }
        }
        out.flush()
    }

    /// The notice as it is shown, if it is. What was told to somebody before is not.
    fn line(&self, notice: &Notice) -> Option<String> {
        if self.clock.is_before(notice.at) {
            return None;
        }
        let told = Told::of(notice, &self.names, &self.clock);
        self.filter.takes(&told).then(|| told.line(self.format))
    }
}

/// The time of day, for the clock.
fn time_of_day() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
