//! The claim of a pod: the template that asks for its rails, and the check of what was allocated.
//!
//! Identity comes from the claim and its namespace, never from a label: the template's opaque configuration names the
//! network with its UID, and a claim that asks for less than the network's guarantee, or for other rails, is refused.

mod check;
mod refused;
mod template;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use check::{RailAllocation, check, consumer, network_of, network_of_template};
pub use refused::ClaimRefused;
pub use template::{same_template, template};

/// The opaque configuration in a claim for Railhead's driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum ClaimConfig {
    /// Which network the claim's pod joins.
    #[serde(rename_all = "camelCase")]
    NetworkClaim {
        /// `railhead.dev/v1alpha1`.
        api_version: String,
        /// Name of the TrainingNetwork in the claim's namespace.
        network: String,
        /// Its UID.
        #[serde(rename = "networkUID")]
        network_uid: String,
    },
}
