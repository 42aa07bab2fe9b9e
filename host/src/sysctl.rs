//! Sysctls of one interface inside a network namespace. `/proc/sys/net` shows the namespace of the thread that looks.

use std::{
    fmt::{self, Display},
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{InterfaceName, Netns, NetnsError};

/// A sysctl of an interface by its name in `/proc/sys/net/<family>/conf/<interface>`, for example `arp_ignore`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceSysctl<'a> {
    /// `net/ipv4`.
    Ipv4(&'a str),
    /// `net/ipv6`. A kernel without IPv6, or an interface whose MTU is too small for it, has none.
    Ipv6(&'a str),
}

/// Why a sysctl was not read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SysctlError {
    /// The namespace could not be visited.
    #[error(transparent)]
    Netns(NetnsError),
    /// Not a plain word such as `arp_ignore`.
    #[error("{0:?} is not the name of an interface sysctl")]
    Name(String),
    /// The file refused.
    #[error("{verb} {path}: {source}")]
    File {
        /// `read` or `write`.
        verb: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Display for InterfaceSysctl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Ipv4(name) | Self::Ipv6(name)) = self;
        f.write_str(name)
    }
}

impl InterfaceSysctl<'_> {
    fn file(self, interface: &InterfaceName) -> Result<PathBuf, SysctlError> {
        let (family, name) = match self {
            Self::Ipv4(name) => ("ipv4", name),
            Self::Ipv6(name) => ("ipv6", name),
        };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return Err(SysctlError::Name(name.to_owned()));
        }
        Ok(PathBuf::from(format!("/proc/sys/net/{family}/conf/{interface}/{name}")))
    }

    /// Whether the interface has no IPv6 at all, so that there is nothing to read or to write.
    fn is_without_ipv6(self, file: &Path, error: &io::Error) -> bool {
        matches!(self, Self::Ipv6(_))
            && error.kind() == io::ErrorKind::NotFound
            && file.parent().is_some_and(|folder| !folder.exists())
    }
}

/// Writes every pair in the namespace of the calling thread. Sysctls of IPv6 are passed over where there is no IPv6.
pub fn write_interface_sysctls(
    interface: &InterfaceName,
    values: &[(InterfaceSysctl<'_>, &str)],
) -> Result<(), SysctlError> {
    for (sysctl, value) in values {
        let path = sysctl.file(interface)?;
        // Without O_CREAT and O_TRUNC, which procfs has no use for.
        let written = OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(value.as_bytes()));
        match written {
            Err(error) if !sysctl.is_without_ipv6(&path, &error) => {
                return Err(SysctlError::File {
                    verb: "write",
                    path,
                    source: error,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads a sysctl; `None` for one of IPv6 where there is no IPv6.
pub fn read_interface_sysctl(
    netns: &Netns,
    interface: &InterfaceName,
    sysctl: InterfaceSysctl<'_>,
) -> Result<Option<String>, SysctlError> {
    let path = sysctl.file(interface)?;
    netns
        .run(|| match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if sysctl.is_without_ipv6(&path, &error) => Ok(None),
            Err(source) => Err(SysctlError::File {
                verb: "read",
                path,
                source,
            }),
        })
        .map_err(SysctlError::Netns)?
}
