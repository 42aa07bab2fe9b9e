//! What pods and killed processes left on VFs and ports, put back as it was found.
//!
//! Without the node's lock: a port may take seconds to answer, and a Prepare that chooses VFs would wait for it. Each VF is
//! given back under its own lock, once it is certain that no plan names it.

use railhead_vf as vf;

use crate::{agent::Agent, claims::plans};

/// Gives back rates that are owed, VFs that pods had and nobody gave back, and what keeps VFs from drivers. What does not work
/// yet is logged, and tried again by the next look at the ports.
pub fn take_back(agent: &Agent) {
    let mut host = match agent.host() {
        Ok(host) => host,
        Err(error) => {
            tracing::warn!(%error, "VFs that pods left are not looked at");
            return;
        }
    };
    let originals = agent.originals();
    // A plan that cannot be read may be of a pod whose sandbox is just made again.
    let planned = || plans::vfs_planned(&agent.layout, &agent.boot_id);
    if let Err(error) = vf::settle(&mut host, &originals, planned) {
        tracing::warn!(%error, "a rate is owed still");
    }
    if let Err(error) = originals.take_back(&mut host, planned) {
        tracing::warn!(%error, "a VF is not as it was found yet");
    }
    if let Err(error) = vf::put_autoprobe_back(&host) {
        tracing::warn!(%error, "a port whose VFs the kernel shall leave alone still gives them to drivers");
    }
}
