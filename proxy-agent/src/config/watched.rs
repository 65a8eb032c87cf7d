//! The configuration file, and whether it still says what it said. As kube-proxy, the agent ends when it does not, and
//! whoever started it starts it again (item 143); the dataplane serves on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{File, FileError};

/// A file as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watched {
    path: PathBuf,
    text: String,
}

impl Watched {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let fault = |source| FileError::Read { path: path.to_owned(), source };
        Ok(Self { path: path.to_owned(), text: std::fs::read_to_string(path).map_err(fault)? })
    }

    /// What it says.
    pub(super) fn parse(&self) -> Result<File, FileError> {
        File::parse(&self.path, &self.text)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at it now and then until it says something else that can be followed. While it is away or makes no sense, what it said stays
    /// in force.
    pub async fn changed(self, look: Duration) {
        loop {
            tokio::time::sleep(look).await;
            let Ok(text) = tokio::fs::read_to_string(&self.path).await else { continue };
            if text == self.text {
                continue;
            }
            match File::parse(&self.path, &text) {
                Ok(_) => return,
                Err(error) => {
                    let error = crate::observe::causes(&error);
                    tracing::error!(error, "the configuration has changed and cannot be followed");
                }
            }
        }
    }
}
