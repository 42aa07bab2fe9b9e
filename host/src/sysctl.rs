//! Sysctls of one interface inside a network namespace. `/proc/sys/net` shows the namespace of the thread that looks.

use std::{fs, io, path::PathBuf};

use thiserror::Error;

use crate::{InterfaceName, Netns, NetnsError};

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

/// Writes `/proc/sys/net/ipv4/conf/<interface>/<name>` for every pair, in one visit of the namespace.
pub fn write_interface_sysctl(
    netns: &Netns,
    interface: &InterfaceName,
    values: &[(&str, &str)],
) -> Result<(), SysctlError> {
    let files = values
        .iter()
        .map(|(name, value)| Ok((file(interface, name)?, *value)))
        .collect::<Result<Vec<_>, _>>()?;
    netns
        .run(|| {
            files.into_iter().try_for_each(|(path, value)| {
                fs::write(&path, value).map_err(|source| SysctlError::File {
                    verb: "write",
                    path,
                    source,
                })
            })
        })
        .map_err(SysctlError::Netns)?
}

/// Reads `/proc/sys/net/ipv4/conf/<interface>/<name>`.
pub fn read_interface_sysctl(netns: &Netns, interface: &InterfaceName, name: &str) -> Result<String, SysctlError> {
    let path = file(interface, name)?;
    netns
        .run(|| match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(source) => Err(SysctlError::File {
                verb: "read",
                path,
                source,
            }),
        })
        .map_err(SysctlError::Netns)?
}

fn file(interface: &InterfaceName, name: &str) -> Result<PathBuf, SysctlError> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
        return Err(SysctlError::Name(name.to_owned()));
    }
    Ok(PathBuf::from(format!("/proc/sys/net/ipv4/conf/{interface}/{name}")))
}
