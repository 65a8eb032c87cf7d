//! Files under the run directory for people, `proxyctl` and the next agent: whose each id is, and what the last
//! start found. bpffs holds no files, so they lie beside it. Replaced atomically; absent ones cost names, not traffic.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use proxy_common::ServiceId;
use proxy_model::ServiceName;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::roll;
use crate::observe::policy_names::{self, PolicyNames};
use crate::observe::report::Report;

/// Where the run directories of all roots are.
pub const RUN_ROOT: &str = "/run/sluice";

/// The run directory of one `--bpf-root`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    dir: PathBuf,
}

/// What the agent did to the maps since it started.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The maps were there already, with frontends in them.
    pub adopted: bool,
    /// When the agent started, seconds since 1970.
    pub at: u64,
    /// Frontends that were found and that the first plan left as they were.
    pub kept: usize,
    /// Frontends that the first plan wrote.
    pub written: usize,
    /// Frontends that the first plan deleted.
    pub deleted: usize,
    /// Frontends written since.
    pub written_since: usize,
    /// Frontends deleted since.
    pub deleted_since: usize,
    /// Process of the agent that wrote this.
    pub pid: u32,
    /// Links that were found and got new programs without a gap.
    pub links_replaced: usize,
    /// Links that were made anew.
    pub links_created: usize,
    /// Uplinks whose driver was asked to run a program, and the mode in which it does, or why it does not.
    #[serde(default)]
    pub xdp: BTreeMap<String, String>,
    /// What audits have put right, by the names of maps, and `links` and `pins`.
    #[serde(default)]
    pub repairs: BTreeMap<String, usize>,
    /// What the programs were loaded with ([`super::rehearsal::constants`]).
    #[serde(default)]
    pub constants: String,
}

#[derive(Deserialize)]
struct Names {
    services: BTreeMap<u32, String>,
}

impl Record {
    /// The record of the agent on `bpf_root`, below `run_root`. Different roots never share one.
    #[must_use]
    pub fn of(run_root: &Path, bpf_root: &Path) -> Self {
        Self { dir: run_root.join(id(bpf_root)) }
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The names of ids, as far as they were written down and can be read.
    #[must_use]
    pub fn names(&self) -> BTreeMap<ServiceId, ServiceName> {
        let Some(names) = self.read::<Names>(roll::FILE) else { return BTreeMap::new() };
        let parse = |(id, name): (u32, String)| Some((ServiceId(id), name.parse().ok()?));
        names.services.into_iter().filter_map(parse).collect()
    }

    /// What the last start found, if it was written down.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.read("state.json")
    }

    /// Writes down what this start found.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn write_state(&self, state: &State) -> Result<(), Error> {
        self.write("state.json", state)
    }

    /// What the agent said of itself last.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        self.read("agent.json")
    }

    /// Writes down what the agent says of itself.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn write_report(&self, report: &Report) -> Result<(), Error> {
        self.write("agent.json", report)
    }

    /// What the ids of the policy maps stand for, as far as it was written down by an agent of this format.
    #[must_use]
    pub fn policy_names(&self) -> Option<PolicyNames> {
        self.read(policy_names::FILE).filter(|names: &PolicyNames| names.version == policy_names::VERSION)
    }

    /// Writes down what the ids of the policy maps stand for.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn write_policy_names(&self, names: &PolicyNames) -> Result<(), Error> {
        self.write(policy_names::FILE, names)
    }

    /// Removes the record; that it is not there is no error.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn remove(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::path("remove", &self.dir)(error))
            }
            _ => Ok(()),
        }
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.dir.join(name)).ok()?).ok()
    }

    fn write(&self, name: &str, content: &impl Serialize) -> Result<(), Error> {
        let path = self.dir.join(name);
        let draft = self.dir.join(format!(".{name}.new"));
        let put = || {
            make(&self.dir)?;
            let mut file = fs::File::create(&draft)?;
            serde_json::to_writer(io::BufWriter::new(&mut file), content)?;
            file.flush()?;
            fs::rename(&draft, &path)
        };
        put().map_err(Error::path("write", path))
    }
}

/// Makes a run directory, for root alone: names and addresses of a cluster are its operator's.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // One that an earlier version has made may be open to others.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

/// A directory name that is one to one with the root: its path with `-` for `/`, and `--` for `-`.
fn id(bpf_root: &Path) -> String {
    bpf_root.to_string_lossy().trim_matches('/').replace('-', "--").replace('/', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::roll::{Roll, Turn};

    #[test]
    fn different_roots_have_different_records() {
        let roots =
            ["/sys/fs/bpf/sluice", "/sys/fs/bpf-sluice", "/sys/fs/bpf--sluice", "/sys/fs/bpf/sluice-a"];
        let ids: std::collections::BTreeSet<_> = roots.iter().map(|root| id(Path::new(root))).collect();
        assert_eq!(ids.len(), roots.len());
        assert_eq!(id(Path::new("/sys/fs/bpf/sluice/")), id(Path::new("/sys/fs/bpf/sluice")));
    }

    #[test]
    fn names_and_state_are_read_back_and_broken_files_are_as_if_absent() {
        let run = std::env::temp_dir().join(format!("sluice-record-{}", std::process::id()));
        let record = Record::of(&run, Path::new("/sys/fs/bpf/x"));
        assert_eq!((record.names(), record.state()), (BTreeMap::new(), None));
        let names: BTreeMap<ServiceId, ServiceName> =
            BTreeMap::from([(ServiceId(7), "default/web:http/TCP/ipv4".parse().unwrap())]);
        let roll = Roll::begin(&record).unwrap();
        assert!(matches!(roll.write(names.iter().map(|(id, name)| (*id, name))).unwrap(), Turn::Whole));
        assert_eq!(fs::metadata(record.dir()).unwrap().permissions().mode() & 0o777, 0o700);
        let state = State { adopted: true, kept: 3, ..State::default() };
        record.write_state(&state).unwrap();
        assert_eq!((record.names(), record.state()), (names, Some(state)));
        fs::write(record.dir().join("names.json"), "{").unwrap();
        assert_eq!(record.names(), BTreeMap::new());
        record.remove().unwrap();
        record.remove().unwrap();
        let _ = fs::remove_dir(&run);
    }
}
