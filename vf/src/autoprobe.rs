//! Ports whose VFs the kernel leaves alone (`sriov_drivers_autoprobe` is 0), so that no driver of the host takes what is meant
//! for virtual machines.
//!
//! The kernel then refuses every probe of a VF, also a bind by name (`pci_device_can_probe`, drivers/pci/pci-driver.c): a VF
//! that is taken from its driver would not get it back. So the attribute is on for as long as one bind takes, by one process
//! at a time. A note of the port lies in `/run` meanwhile: if the process is killed, whoever works on VFs of the port next, or
//! the agent's next look at its ports, puts the administrator's value back.

use std::{fs, io, path::PathBuf, time::Duration};

use railhead_host::{FileLock, PciAddress};

use crate::{Host, HostError};

/// Longer than one bind takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the kernel refuses to give VFs of `pf` to drivers. One that gives them for the moment only refuses: so nobody is at it
/// while that is looked at, or the answer would be wrong by the time of the bind.
pub(crate) fn leaves_alone(host: &Host, pf: &PciAddress) -> Result<bool, HostError> {
    if host.sysfs.autoprobe(pf)?.is_none() {
        return Ok(false);
    }
    let _lock = lock(host, pf, PATIENCE)?;
    put_back(host, pf)?;
    is_off(host, pf)
}

fn is_off(host: &Host, pf: &PciAddress) -> Result<bool, HostError> {
    Ok(host.sysfs.autoprobe(pf)? == Some(false))
}

fn note(host: &Host, pf: &PciAddress) -> PathBuf {
    host.layout.autoprobe_notes().join(pf.as_str())
}

/// Runs `bind` while the kernel gives VFs of `pf` to drivers.
pub(crate) fn while_on<T>(
    host: &Host,
    pf: &PciAddress,
    bind: impl FnOnce() -> Result<T, HostError>,
) -> Result<T, HostError> {
    let _lock = lock(host, pf, PATIENCE)?;
    put_back(host, pf)?;
    if !is_off(host, pf)? {
        return bind();
    }
    let error = |source| HostError::Note { pf: pf.clone(), source };
    fs::create_dir_all(host.layout.autoprobe_notes()).map_err(error)?;
    fs::write(note(host, pf), "").map_err(error)?;
    host.sysfs.set_autoprobe(pf, true)?;
    let bound = bind();
    put_back(host, pf)?;
    bound
}

/// Puts back what processes that were killed have left on. For ports that nobody binds VFs of. One port's trouble keeps no other's
/// value from being put back; the first is the error.
pub fn put_autoprobe_back(host: &Host) -> Result<(), HostError> {
    let Ok(entries) = fs::read_dir(host.layout.autoprobe_notes()) else {
        return Ok(());
    };
    let mut failed = Ok(());
    for entry in entries.filter_map(Result::ok) {
        let Ok(pf) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        // Whoever holds the lock is at it and alive.
        if let Ok(_lock) = lock(host, &pf, Duration::ZERO) {
            failed = failed.and(put_back(host, &pf));
        }
    }
    failed
}

/// Ends what a note tells. Under the port's lock.
fn put_back(host: &Host, pf: &PciAddress) -> Result<(), HostError> {
    let note = note(host, pf);
    if !note.exists() {
        return Ok(());
    }
    // A port that went took its attribute along.
    if host.sysfs.exists(pf) {
        host.sysfs.set_autoprobe(pf, false)?;
    }
    match fs::remove_file(&note) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(HostError::Note { pf: pf.clone(), source }),
        _ => Ok(()),
    }
}

fn lock(host: &Host, pf: &PciAddress, patience: Duration) -> Result<FileLock, HostError> {
    let path = host.layout.autoprobe_lock(pf.as_str());
    FileLock::take(&path, patience).map_err(|source| HostError::Lock { pf: pf.clone(), source })
}
