//! What only sysfs tells: SR-IOV ports and their functions, drivers, GID tables, character devices.
//!
//! Everything is read below a root, so that tests can show a tree of their own. Whatever names a folder is validated
//! before it becomes part of a path.

mod error;
mod function;
mod gid;
mod link;
mod physical_function;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use error::SysfsError;
pub use gid::Gid;
pub use link::FunctionLink;
pub use physical_function::{PhysicalFunction, VirtualFunction};

use crate::PciAddress;

/// A sysfs tree, normally `/sys`.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

impl Sysfs {
    /// The tree below `root` (`Layout::sysfs`).
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn pci_devices(&self) -> PathBuf {
        self.root.join("bus/pci/devices")
    }

    fn pci_device(&self, function: &PciAddress) -> PathBuf {
        self.pci_devices().join(function.as_str())
    }
}

/// The content of a file without the white space around it; `None` when the file or its value does not exist.
fn read(path: &Path) -> Result<Option<String>, SysfsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if has_no_value(&error) => Ok(None),
        Err(source) => Err(SysfsError::read(path, source)),
    }
}

/// Attributes that a device does not have are absent, or there and refuse to be read: a speed of a link that is down, a
/// GID of an empty slot (EINVAL), a port name that the driver does not know (EOPNOTSUPP).
fn has_no_value(error: &io::Error) -> bool {
    use nix::errno::Errno;
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error().is_some_and(|code| {
            [Errno::EINVAL, Errno::EOPNOTSUPP, Errno::ENODEV, Errno::ENOTDIR].contains(&Errno::from_raw(code))
        })
}

/// A number in a file, decimal.
fn read_number<T: std::str::FromStr>(path: &Path) -> Result<Option<T>, SysfsError> {
    match read(path)? {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| SysfsError::Unexpected {
            path: path.to_owned(),
            text: text.chars().take(64).collect(),
        }),
    }
}

/// The names in a folder, sorted; empty when it does not exist.
fn names(path: &Path) -> Result<Vec<String>, SysfsError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if has_no_value(&error) => return Ok(Vec::new()),
        Err(source) => return Err(SysfsError::read(path, source)),
    };
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| SysfsError::read(path, source))?;
    names.sort();
    Ok(names)
}

/// The last part of what a link points to.
fn link_target(path: &Path) -> Option<String> {
    fs::read_link(path)
        .ok()?
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
}

fn write(path: &Path, value: &str) -> Result<(), SysfsError> {
    fs::write(path, value).map_err(|source| SysfsError::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}
