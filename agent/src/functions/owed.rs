//! Rates that ports still owe their functions: some drivers set none while their link is down, so it is tried again.

use std::{collections::BTreeSet, time::Duration};

use railhead_host::{FunctionLock, LockError, PciAddress};
use railhead_plan::Layout;
use thiserror::Error;

use super::{FunctionOriginal, Host, Originals, OriginalsError, RestoreError, restore};

/// How long a CNI operation may hold a function.
const FUNCTION_LOCK: Duration = Duration::from_secs(10);

/// Why a rate is owed still. It is tried again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OwedError {
    /// The records could not be read or written.
    #[error(transparent)]
    Originals(#[from] OriginalsError),
    /// Somebody else works on the function.
    #[error("function {function}: {source}")]
    Lock {
        /// PCI address.
        function: PciAddress,
        /// What happened.
        #[source]
        source: LockError,
    },
    /// The function could not be given back.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

/// Gives functions that no plan names the rates that their ports owe them. Returns those that are owed theirs still.
///
/// The caller holds the node's lock: a function that a pod gets meanwhile would lose the pod's rate.
pub fn settle(
    host: &mut Host,
    originals: &Originals,
    layout: &Layout,
    taken: &BTreeSet<PciAddress>,
) -> Result<Vec<FunctionOriginal>, OwedError> {
    let mut left = Vec::new();
    for original in originals.owed()? {
        let function = &original.pci_address;
        if taken.contains(function) {
            continue;
        }
        let path = layout.function_lock(function.as_str());
        let _lock = FunctionLock::take(&path, FUNCTION_LOCK).map_err(|source| OwedError::Lock {
            function: function.clone(),
            source,
        })?;
        let owed = restore(host, &original)?;
        originals.owe_rate(&original, owed)?;
        if owed {
            left.push(original);
        } else {
            tracing::info!(%function, "the port has given the function its rate back");
        }
    }
    Ok(left)
}
