//! The folder of records: one file per VF and per port.

use std::{fs, io, path::Path};

use railhead_host::{PciAddress, read_state_file, remove_durably, write_durably};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Originals, OriginalsError};

impl Originals {
    /// Forgets every VF: nothing of Railhead is left on the node.
    pub fn forget_all_vfs_but(&self, kept: &[PciAddress]) -> Result<(), OriginalsError> {
        for vf in self.recorded_vfs()?.iter().filter(|vf| !kept.contains(vf)) {
            self.forget_vf(vf)?;
        }
        Ok(())
    }

    /// Removes records of earlier boots.
    pub fn forget_earlier_boots(&self) -> Result<(), OriginalsError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Boot {
            boot_id: String,
        }
        for name in self.names()? {
            let boot: Option<Boot> = self.read(&name)?;
            if boot.is_some_and(|boot| boot.boot_id != self.boot_id) {
                remove_durably(&self.folder().join(&name))?;
            }
        }
        Ok(())
    }

    /// The VFs of which there are records, also of earlier boots.
    pub(super) fn recorded_vfs(&self) -> Result<Vec<PciAddress>, OriginalsError> {
        let names = self.names()?;
        let vfs = names.iter().filter_map(|name| {
            let vf = name.strip_prefix("function-")?.strip_suffix(".json")?;
            vf.parse().ok()
        });
        Ok(vfs.collect())
    }

    pub(super) fn names(&self) -> Result<Vec<String>, OriginalsError> {
        let error = |source| OriginalsError::Read {
            path: self.folder(),
            source,
        };
        let entries = match fs::read_dir(self.folder()) {
            Ok(entries) => entries,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(error(source)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(error)?.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".json") && !name.starts_with('.') {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    }

    /// A record that cannot be decoded counts as absent: it was written whole, so it is of a release too far away, or somebody
    /// put something else in its place.
    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, OriginalsError> {
        let path = self.folder().join(name);
        match read_state_file(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.is_absent() || error.is_foreign() => Ok(None),
            Err(error) => Err(OriginalsError::File(error)),
        }
    }

    pub(super) fn write<T: Serialize>(
        &self,
        name: &str,
        pci_address: &PciAddress,
        record: &T,
    ) -> Result<(), OriginalsError> {
        let bytes = serde_json::to_vec_pretty(record).map_err(|source| OriginalsError::Encode {
            pci_address: pci_address.clone(),
            source,
        })?;
        create_private(&self.folder())?;
        Ok(write_durably(&self.folder().join(name), &bytes, 0o600)?)
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), OriginalsError> {
        Ok(remove_durably(&self.folder().join(name))?)
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
