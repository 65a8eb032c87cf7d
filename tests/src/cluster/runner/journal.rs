//! What the runner did and when, for whoever reads the log of a failed test; and what went wrong, for the test itself.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result};

/// A log shared by the runner's tasks.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    troubles: Vec<String>,
}

impl Journal {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        Ok(Self { inner: Arc::new(Mutex::new(Inner { file, troubles: Vec::new() })) })
    }

    /// Notes something that is in order.
    pub(super) fn note(&self, what: &str) {
        self.write(what, |_| {});
    }

    /// Notes something that is not.
    pub(super) fn trouble(&self, what: &str) {
        self.write(what, |troubles| troubles.push(what.to_owned()));
    }

    /// All troubles so far.
    pub(super) fn troubles(&self) -> Vec<String> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).troubles.clone()
    }

    fn write(&self, what: &str, also: impl FnOnce(&mut Vec<String>)) {
        let at = humantime::format_rfc3339_micros(SystemTime::now());
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // The log is for people; a full disk is no reason to stop.
        let _ = writeln!(inner.file, "{at} {what}");
        also(&mut inner.troubles);
    }
}
