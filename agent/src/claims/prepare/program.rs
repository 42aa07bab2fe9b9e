//! Programs the VFs of a plan through their ports.

use std::{collections::BTreeMap, sync::Arc};

use railhead_host::{FileLock, RdmaName};
use railhead_plan::{AttachmentPlan, RailPlan, RdmaPlan};
use railhead_vf as vf;

use super::PrepareError;
use crate::{agent::Agent, claims::plans, limits::FUNCTION_LOCK};

/// Programs all functions of a plan and writes the plan again where a port cannot enforce a minimum rate. Rails in
/// parallel: each driver answers in its own time.
///
/// The functions of a wired pod are left alone: they are not in this namespace, and ADD has read them back.
pub(super) async fn program(agent: &Arc<Agent>, mut plan: AttachmentPlan) -> Result<AttachmentPlan, PrepareError> {
    if agent.layout.record(&plan.pod.uid).exists() {
        return Ok(plan);
    }
    let tasks: Vec<_> = plan
        .rails
        .iter()
        .cloned()
        .map(|rail| {
            let agent = agent.clone();
            tokio::task::spawn_blocking(move || Ok((rail.rail, program_rail(&agent, &rail)?)))
        })
        .collect();
    let mut programmed = BTreeMap::new();
    let mut failed = None;
    // All of them end before anything is said: a failure is undone by the caller, and nothing may still be running then.
    for task in tasks {
        match task.await.map_err(|_| PrepareError::Panicked) {
            Ok(Ok((rail, as_is))) => {
                programmed.insert(rail, as_is);
            }
            Ok(Err(error)) | Err(error) => failed = failed.or(Some(error)),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    if say_what_is(&mut plan.rails, &programmed) {
        let (agent, changed) = (agent.clone(), plan.clone());
        tokio::task::spawn_blocking(move || plans::write(&agent.layout, &changed))
            .await
            .map_err(|_| PrepareError::Panicked)??;
    }
    Ok(plan)
}

/// What programming made of a function.
#[derive(Debug)]
struct Programmed {
    /// The port enforces the minimum rate.
    minimum: bool,
    /// The function's RDMA device: a driver that was bound again may have given it another name.
    rdma_device: Option<RdmaName>,
}

fn program_rail(agent: &Agent, rail: &RailPlan) -> Result<Programmed, PrepareError> {
    let path = agent.layout.function_lock(rail.vf.pci_address.as_str());
    let _lock = FileLock::take(&path, FUNCTION_LOCK).map_err(PrepareError::Lock)?;
    let mut host = agent.host()?;
    agent.originals().lend(&mut host, &rail.vf)?;
    let minimum = vf::program(&mut host, rail)?;
    let devices = host
        .sysfs
        .rdma_devices(&rail.vf.pci_address)
        .map_err(PrepareError::Sysfs)?;
    Ok(Programmed {
        minimum,
        rdma_device: devices.into_iter().next(),
    })
}

/// Sets the minimum rate to 0 where the port refused it, and the names that RDMA devices have now. Returns whether the plan
/// changed.
fn say_what_is(rails: &mut [RailPlan], programmed: &BTreeMap<u32, Programmed>) -> bool {
    let mut changed = false;
    for rail in rails {
        let Some(found) = programmed.get(&rail.rail) else {
            continue;
        };
        if rail.vf.min_rate_mbps > 0 && !found.minimum {
            rail.vf.min_rate_mbps = 0;
            changed = true;
        }
        if let (RdmaPlan::Function { device }, Some(now)) = (&mut rail.rdma, &found.rdma_device)
            && device != now
        {
            device.clone_from(now);
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_says_what_programming_made_of_the_functions() {
        let mut rails = plans::tests::plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]).rails;
        rails[0].vf.min_rate_mbps = 200;
        rails[1].vf.min_rate_mbps = 200;
        rails[0].rdma = RdmaPlan::Function {
            device: "mlx5_4".parse().unwrap(),
        };
        let found = |minimum, device: Option<&str>| Programmed {
            minimum,
            rdma_device: device.map(|device| device.parse().unwrap()),
        };
        let programmed = BTreeMap::from([(0, found(false, Some("mlx5_9"))), (1, found(true, None))]);
        assert!(say_what_is(&mut rails, &programmed));
        assert_eq!((rails[0].vf.min_rate_mbps, rails[1].vf.min_rate_mbps), (0, 200));
        assert!(matches!(&rails[0].rdma, RdmaPlan::Function { device } if device.as_str() == "mlx5_9"));
        assert!(!say_what_is(&mut rails, &programmed));
    }
}
