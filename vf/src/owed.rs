//! Rates that PFs still owe their VFs: some drivers set none while their link is down, so it is tried again.

use std::{collections::BTreeSet, time::Duration};

use railhead_host::{FileLock, LockError, PciAddress};
use thiserror::Error;

use crate::{Host, HostError, Originals, OriginalsError, RestoreError, VfOriginal, restore};

/// How long a CNI operation may hold a VF.
const FUNCTION_LOCK: Duration = Duration::from_secs(10);

/// Why a rate is owed still. It is tried again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OwedError {
    /// The records could not be read or written.
    #[error(transparent)]
    Originals(#[from] OriginalsError),
    /// The VF could not be looked at.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Somebody else works on the VF.
    #[error("VF {vf}: {source}")]
    Lock {
        /// PCI address.
        vf: PciAddress,
        /// What happened.
        #[source]
        source: LockError,
    },
    /// The VF could not be given back.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

/// Gives VFs that no plan names the rates that their PFs owe them. Returns those that are owed theirs still. One VF's trouble keeps
/// no other from its rate; the first is the error.
///
/// `planned` says which VFs plans name at the moment; while it cannot tell, nothing is done. It is asked again under each VF's
/// lock, under which a pod's Prepare programs the VF: a VF that a pod has by then would lose the pod's rate. The node's lock
/// is not needed, so that nobody waits for a port that takes long to answer.
pub fn settle(
    host: &mut Host,
    originals: &Originals,
    planned: impl Fn() -> Option<BTreeSet<PciAddress>>,
) -> Result<Vec<VfOriginal>, OwedError> {
    let owed = originals.owed()?;
    if owed.is_empty() {
        return Ok(owed);
    }
    let Some(taken) = planned() else { return Ok(owed) };
    let is_free = |vf: &PciAddress| planned().is_some_and(|taken| !taken.contains(vf));
    let mut left = Vec::new();
    let mut failed = Ok(());
    for original in owed {
        if taken.contains(&original.pci_address) {
            continue;
        }
        match settle_one(host, originals, &original.pci_address, is_free) {
            Ok(still) => left.extend(still),
            Err(error) => {
                left.push(original);
                failed = failed.and(Err(error));
            }
        }
    }
    failed.map(|()| left)
}

/// The record, if the VF is owed its rate still.
fn settle_one(
    host: &mut Host,
    originals: &Originals,
    vf: &PciAddress,
    is_free: impl Fn(&PciAddress) -> bool,
) -> Result<Option<VfOriginal>, OwedError> {
    let path = host.layout.function_lock(vf.as_str());
    let _lock = FileLock::take(&path, FUNCTION_LOCK).map_err(|source| OwedError::Lock { vf: vf.clone(), source })?;
    // As it is now: somebody may have given it its rate since, or the VF to a pod.
    let Some(original) = originals.vf(vf)?.filter(|original| original.rate_owed) else {
        return Ok(None);
    };
    if !is_free(vf) {
        return Ok(None);
    }
    // Somebody on the host took it since: it would be cut off for a rate.
    let uses = host.uses(vf)?;
    if !uses.is_empty() {
        tracing::warn!(%vf, ?uses, "the host uses a VF whose rate is owed; it is left alone");
        return Ok(Some(original));
    }
    if restore(host, &original)? {
        return Ok(Some(original));
    }
    tracing::info!(%vf, "the PF has given the VF its rate back");
    Ok(None)
}
