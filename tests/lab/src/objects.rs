//! Kubernetes objects as a manifests folder: one file per object, each change one atomic rename or removal, so that the agent
//! sees the same sequence of events as from a watch. Knows of objects only what names them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// It is new.
    Create,
    /// The whole object replaces the old one.
    Update,
    /// Kind and name are all that counts.
    Delete,
}

/// Kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ObjectKey {
    /// Kind.
    pub kind: String,
    /// Namespace; empty for objects of the cluster.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// The key of an object.
    ///
    /// # Errors
    /// It has no kind or no name.
    pub fn of(object: &Value) -> Result<Self> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            kind: text("/kind").context("an object without kind")?,
            namespace: text("/metadata/namespace").unwrap_or_default(),
            name: text("/metadata/name").context("an object without metadata.name")?,
        })
    }

    fn file_name(&self) -> String {
        let part = |text: &str| text.replace(['/', ':'], "_");
        format!("{}.{}.{}.json", part(&self.kind).to_lowercase(), part(&self.namespace), part(&self.name))
    }
}

/// A folder of manifests.
#[derive(Clone, Debug)]
pub struct ManifestDir {
    path: PathBuf,
}

impl ManifestDir {
    /// Makes the folder if it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path: path.to_owned() })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates or replaces an object.
    ///
    /// # Errors
    /// It has no name, or the folder is not writable.
    pub fn put(&self, object: &Value) -> Result<()> {
        let name = ObjectKey::of(object)?.file_name();
        let (new, file) = (self.path.join(format!(".{name}.new")), self.path.join(&name));
        fs::write(&new, serde_json::to_vec_pretty(object)?)
            .and_then(|()| fs::rename(&new, &file))
            .with_context(|| format!("writing {}", file.display()))
    }

    /// Applies one change.
    ///
    /// # Errors
    /// As [`ManifestDir::put`]. Deleting what is not there is no error.
    pub fn apply(&self, op: Op, object: &Value) -> Result<()> {
        match op {
            Op::Create | Op::Update => self.put(object),
            Op::Delete => {
                let file = self.path.join(ObjectKey::of(object)?.file_name());
                match fs::remove_file(&file) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(error).with_context(|| format!("removing {}", file.display()))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// Removes every object but those in `keep`.
    ///
    /// # Errors
    /// The folder is not writable.
    pub fn retain(&self, keep: &BTreeSet<ObjectKey>) -> Result<()> {
        let keep: BTreeSet<String> = keep.iter().map(ObjectKey::file_name).collect();
        for entry in fs::read_dir(&self.path).with_context(|| format!("reading {}", self.path.display()))? {
            let entry = entry?;
            if !keep.contains(entry.file_name().to_string_lossy().as_ref()) {
                fs::remove_file(entry.path())
                    .with_context(|| format!("removing {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_folder_holds_one_file_per_object_and_follows_changes() {
        let path = std::env::temp_dir().join(format!("sluice-lab-objects-{}", std::process::id()));
        let dir = ManifestDir::open(&path).unwrap();
        let object = |name: &str| json!({"kind": "Service", "metadata": {"name": name, "namespace": "demo"}});
        let files = || -> BTreeSet<String> {
            fs::read_dir(&path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        dir.apply(Op::Create, &object("a")).unwrap();
        dir.apply(Op::Create, &object("b")).unwrap();
        dir.apply(Op::Update, &object("b")).unwrap();
        assert_eq!(
            files(),
            BTreeSet::from(["service.demo.a.json".to_owned(), "service.demo.b.json".to_owned()])
        );
        dir.apply(Op::Delete, &object("a")).unwrap();
        dir.apply(Op::Delete, &object("a")).unwrap();
        assert_eq!(files(), BTreeSet::from(["service.demo.b.json".to_owned()]));
        dir.retain(&BTreeSet::new()).unwrap();
        assert_eq!(files(), BTreeSet::new());
        fs::remove_dir(&path).unwrap();
    }

    #[test]
    fn an_object_without_a_name_is_refused() {
        assert_eq!(
            ObjectKey::of(&json!({"kind": "Pod"})).unwrap_err().to_string(),
            "an object without metadata.name"
        );
    }
}
