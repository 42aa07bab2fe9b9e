//! Rates that PFs still owe their VFs: some drivers set none while their link is down, so it is tried again.

use std::{collections::BTreeSet, time::Duration};

use railhead_host::{FileLock, LockError, PciAddress};
use railhead_plan::Layout;
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

/// Gives VFs that no plan names the rates that their PFs owe them. Returns those that are owed theirs still.
///
/// The caller holds the node's lock: a VF that a pod gets meanwhile would lose the pod's rate.
pub fn settle(
    host: &mut Host,
    originals: &Originals,
    layout: &Layout,
    taken: &BTreeSet<PciAddress>,
) -> Result<Vec<VfOriginal>, OwedError> {
    let mut left = Vec::new();
    for original in originals.owed()? {
        let vf = &original.pci_address;
        if taken.contains(vf) {
            continue;
        }
        let path = layout.function_lock(vf.as_str());
        let _lock =
            FileLock::take(&path, FUNCTION_LOCK).map_err(|source| OwedError::Lock { vf: vf.clone(), source })?;
        // Somebody on the host took it since: it would be cut off for a rate.
        let uses = host.uses(vf)?;
        if !uses.is_empty() {
            tracing::warn!(%vf, ?uses, "the host uses a VF whose rate is owed; it is left alone");
            left.push(original);
            continue;
        }
        let owed = restore(host, &original)?;
        originals.owe_rate(&original, owed)?;
        if owed {
            left.push(original);
        } else {
            tracing::info!(%vf, "the PF has given the VF its rate back");
        }
    }
    Ok(left)
}
