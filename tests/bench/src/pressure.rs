//! How much the processors were wanted by others while something was measured, from the kernel's pressure stall information.

use std::{fs, io, time::Instant};

use serde::{Deserialize, Serialize};

/// Parts of the time, in hundredths, in which something that could run waited for a processor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Over the ten seconds before the measurement began.
    pub before: f64,
    /// While it ran; what is measured waits for itself, too, where it has more threads than there are processors.
    pub during: f64,
}

/// Begun before a measurement.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    before: f64,
    /// Microseconds of waiting since boot.
    total: f64,
}

impl Watch {
    /// # Errors
    /// If the kernel has no pressure information.
    pub fn begin() -> io::Result<Self> {
        let (before, total) = read()?;
        Ok(Self { began: Instant::now(), before, total })
    }

    /// # Errors
    /// If the kernel has no pressure information.
    pub fn end(&self) -> io::Result<Pressure> {
        let (_, total) = read()?;
        let micros = self.began.elapsed().as_micros().max(1) as f64;
        Ok(Pressure { before: self.before, during: 100.0 * (total - self.total) / micros })
    }
}

fn read() -> io::Result<(f64, f64)> {
    parse(&fs::read_to_string("/proc/pressure/cpu")?)
        .ok_or_else(|| io::Error::other("/proc/pressure/cpu has no line `some avg10=… total=…`"))
}

fn parse(text: &str) -> Option<(f64, f64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name))?.parse().ok();
    Some((field("avg10=")?, field("total=")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_some_is_read() {
        let text = "some avg10=1.50 avg60=0.20 avg300=0.00 total=4711\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(parse(text), Some((1.5, 4711.0)));
        assert_eq!(parse("full avg10=0.00 total=0\n"), None);
    }
}
