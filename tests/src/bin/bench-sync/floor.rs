//! What a change takes at least, with nobody who decodes, plans or writes: a message over loopback to a thread that rests on
//! the agent's processor, until what it leaves is seen. How long a processor takes to wake is the machine's, and not the agent's.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tests::sync::view;

use crate::{AGENT, HERE, pin};

/// A message is this long: one that would be a slice's event is decoded by nobody here.
const MESSAGE: [u8; 64] = [0x5a; 64];
/// How long a message may take before it is a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// A thread that rests until it is told something, and then says so. It ends with this.
pub(crate) struct Floor {
    stream: TcpStream,
    seen: Arc<AtomicU64>,
    told: u64,
}

impl Floor {
    /// Starts it on the agent's processor.
    ///
    /// # Errors
    /// There is no loopback, or no such processor.
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
        let stream = TcpStream::connect(listener.local_addr()?).context("connecting")?;
        stream.set_nodelay(true)?;
        let (mut other, _) = listener.accept()?;
        let seen = Arc::new(AtomicU64::new(0));
        let shown = seen.clone();
        // A thread runs where the one runs that starts it.
        pin(&[AGENT])?;
        let started = std::thread::Builder::new().spawn(move || {
            let mut message = MESSAGE;
            while other.read_exact(&mut message).is_ok() {
                shown.fetch_add(1, Ordering::Release);
            }
        });
        pin(&[HERE])?;
        started.context("a thread")?;
        Ok(Self { stream, seen, told: 0 })
    }

    /// Tells it something; microseconds until that is seen, looked at as the map is.
    ///
    /// # Errors
    /// It says nothing.
    pub(crate) fn once(&mut self) -> Result<f64> {
        self.told += 1;
        let began = Instant::now();
        self.stream.write_all(&MESSAGE).context("telling a thread")?;
        loop {
            let seen = self.seen.load(Ordering::Acquire);
            let at = Instant::now();
            if seen == self.told {
                return Ok(at.duration_since(began).as_secs_f64() * 1e6);
            }
            if at.duration_since(began) > PATIENCE {
                bail!("a thread was told something and said nothing");
            }
            std::thread::sleep(view::PAUSE);
        }
    }
}
