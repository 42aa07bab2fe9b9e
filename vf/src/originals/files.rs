//! The folder of records: one file per VF and per port.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use railhead_host::{PciAddress, read_state_file};
use railhead_plan::Versioned;
use railhead_store as store;
use serde::{Deserialize, Serialize};

use super::{Originals, OriginalsError};

impl Originals {
    /// Forgets every VF: nothing of Railhead is left on the node.
    pub fn forget_all_vfs_but(&self, kept: &[PciAddress]) -> Result<(), OriginalsError> {
        for vf in self.recorded_vfs()?.iter().filter(|vf| !kept.contains(vf)) {
            self.forget_vf(vf)?;
        }
        Ok(())
    }

    /// Removes records of earlier boots. One that cannot be removed keeps no other; the first is the error.
    pub fn forget_earlier_boots(&self) -> Result<(), OriginalsError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Boot {
            boot_id: String,
        }
        let mut failed = Ok(());
        for name in self.names()? {
            let path = self.file(&name);
            let bytes = match read_state_file(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.is_absent() || error.is_lasting() => continue,
                Err(error) => {
                    failed = failed.and(Err(OriginalsError::File(store::ReadError::File(error))));
                    continue;
                }
            };
            // Of whatever version. What a power cut left of one is of an earlier boot too.
            if !serde_json::from_slice(&bytes).is_ok_and(|boot: Boot| boot.boot_id == self.boot_id) {
                failed = failed.and(store::remove(&path).map_err(OriginalsError::from));
            }
        }
        failed
    }

    /// The VFs of which there are records, also of earlier boots.
    pub(super) fn recorded_vfs(&self) -> Result<Vec<PciAddress>, OriginalsError> {
        let names = self.names()?;
        let vfs = names
            .iter()
            .filter_map(|name| name.strip_prefix("function-")?.parse().ok());
        Ok(vfs.collect())
    }

    /// Names of the records.
    pub(super) fn names(&self) -> Result<Vec<String>, OriginalsError> {
        store::names(&self.folder()).map_err(|source| OriginalsError::Read {
            path: self.folder(),
            source,
        })
    }

    /// A record that cannot be read, now or later, counts as absent once that was said: it is of a release too far away, or what a power
    /// cut left of an earlier boot's, or the disk has lost it, or somebody put something else in its place. The next one is
    /// written over it.
    pub(super) fn read<T: Versioned>(&self, name: &str) -> Result<Option<T>, OriginalsError> {
        match store::read(&self.file(name)) {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) if error.is_damaged() => {
                say_once(&error.to_string());
                Ok(None)
            }
            Err(error) => Err(OriginalsError::File(error)),
        }
    }

    pub(super) fn write<T: Versioned + Serialize>(&self, name: &str, record: &T) -> Result<(), OriginalsError> {
        create_private(&self.folder())?;
        Ok(store::write(&self.file(name), record)?)
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), OriginalsError> {
        Ok(store::remove(&self.file(name))?)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.json"))
    }
}

/// Records are read at every look at the ports.
fn say_once(error: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(error.to_owned())
    {
        tracing::warn!(
            error,
            "a record of how a VF or a port was cannot be read and counts for nothing"
        );
    }
}

/// Makes a folder that only root may enter.
fn create_private(folder: &Path) -> Result<(), OriginalsError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| OriginalsError::Read {
            path: folder.to_owned(),
            source,
        })
}
