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
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

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

/// The kernel gives an attribute a page (`sysfs_emit`, fs/sysfs/file.c), which is 64 KiB at the most (arm64).
const PAGE: u64 = 1 << 16;

/// The content of a file without the white space around it; `None` when the file or its value does not exist. What is no
/// attribute is refused and never waited for: a FIFO, a link to somewhere else, a file of any other length, other bytes than
/// text.
fn read(path: &Path) -> Result<Option<String>, SysfsError> {
    let content = || -> io::Result<(bool, Vec<u8>)> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits() | OFlag::O_NOFOLLOW.bits())
            .open(path)?;
        let mut bytes = Vec::new();
        let is_file = file.metadata()?.is_file();
        if is_file {
            file.take(PAGE + 1).read_to_end(&mut bytes)?;
        }
        Ok((is_file && bytes.len() as u64 <= PAGE, bytes))
    };
    let unexpected = |bytes: &[u8]| SysfsError::Unexpected {
        path: path.to_owned(),
        text: String::from_utf8_lossy(bytes).chars().take(64).collect(),
    };
    match content() {
        Ok((true, bytes)) => match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Ok(Some(text.trim().to_owned())),
            Ok(text) => Err(unexpected(text.as_bytes())),
            Err(error) => Err(unexpected(error.as_bytes())),
        },
        Ok((false, bytes)) => Err(unexpected(&bytes)),
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
    let write = || -> io::Result<()> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(OFlag::O_NONBLOCK.bits() | OFlag::O_NOFOLLOW.bits())
            .open(path)?
            .write_all(value.as_bytes())
    };
    write().map_err(|source| SysfsError::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}
