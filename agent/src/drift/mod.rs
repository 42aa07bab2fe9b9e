//! Whether running pods still have the rails that they were given: every wired sandbox is compared with its record, as CHECK
//! does, when the kernel tells of a change and once a minute.
//!
//! What can be put right without harm (the PF's settings, routes, rules) is put right; the rest is told as a condition and an
//! event. Nobody is evicted: a job that runs on seven rails of eight decides itself what that is worth.

mod check;
mod kernel;
pub(crate) mod words;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use railhead_host::PciAddress;
use railhead_plan::AttachmentPlan;
use railhead_service::Pass;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{agent::Agent, claims::plans, limits::DRIFT_PASS};
use check::Checked;
use kernel::{Bells, Interest};

/// What differs of wired pods, by pod UID; a pod whose rails are as they were wired has no entry.
pub type Drift = BTreeMap<String, Vec<String>>;

/// How often is compared without being told to.
const PERIOD: Duration = Duration::from_mins(1);
/// How long after a change: one change seldom comes alone, and a link that goes up takes a moment.
const SETTLE: Duration = Duration::from_secs(1);
/// How long between two rounds at least, whatever the kernel tells.
const PAUSE: Duration = Duration::from_secs(5);
/// How many sandboxes are compared at the same time.
const AT_ONCE: usize = 4;

/// Runs until `stop`.
pub async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let interest = watch::Sender::new(Interest::default());
    let node = agent.clone();
    let bells = Bells {
        pods: changed.clone(),
        ports: Box::new(move || node.node_changed.notify_one()),
    };
    let listening = tokio::spawn(kernel::listen(bells, interest.subscribe(), stop.clone()));
    let pass = agent.passes.begin("drift", DRIFT_PASS);
    loop {
        let started = Instant::now();
        let seen = silent(&agent);
        round(&agent, &interest, &pass).await;
        pass.done();
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(PERIOD) => {}
            () = changed.notified() => {
                tokio::time::sleep(SETTLE).await;
                tokio::time::sleep_until(started + PAUSE).await;
            }
            () = signals_changed(&agent, &seen) => tokio::time::sleep_until(started + PAUSE).await,
        }
    }
    let _ = listening.await;
}

/// PCI addresses of the ports that have no signal.
fn silent(agent: &Agent) -> Vec<PciAddress> {
    let inventory = agent.inventory.borrow();
    let ports = inventory.iter().flat_map(|inventory| &inventory.ports);
    ports
        .filter(|port| !port.carrier)
        .map(|port| port.pci_address.clone())
        .collect()
}

/// Returns when other ports are without signal than `seen`.
async fn signals_changed(agent: &Agent, seen: &[PciAddress]) {
    let mut inventory = agent.inventory.subscribe();
    while silent(agent) == seen {
        if inventory.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// What a pod's rails suffer from ports without signal. Not every driver takes the VFs' signal away with the port's: with igb they keep
/// theirs, and CHECK sees nothing.
fn unplugged(plan: &AttachmentPlan, silent: &[PciAddress]) -> Vec<String> {
    let rails = plan
        .rails
        .iter()
        .filter(|rail| silent.contains(&rail.vf.pf_pci_address));
    rails
        .map(|rail| {
            format!(
                "{}: its port {} has no carrier; look at the cable",
                rail.name, rail.vf.pf_pci_address
            )
        })
        .collect()
}

/// Compares every wired sandbox once.
async fn round(agent: &Arc<Agent>, interest: &watch::Sender<Interest>, pass: &Pass) {
    let layout = agent.layout.clone();
    let plans = match tokio::task::spawn_blocking(move || plans::all(&layout)).await {
        Ok(Ok(plans)) => plans,
        Ok(Err(error)) => {
            tracing::warn!(%error, "attachments cannot be compared with their records");
            return;
        }
        Err(_) => return,
    };
    let plans: Vec<AttachmentPlan> = plans.into_iter().filter(|plan| plan.boot_id == agent.boot_id).collect();
    let inventory = agent.inventory.borrow().clone();
    let ports = inventory.iter().flat_map(|inventory| &inventory.ports);
    interest.send_replace(Interest::of(&plans, ports.map(|port| port.pci_address.to_string())));
    let known = agent.drift.borrow().clone();
    let found: Drift = futures::stream::iter(plans)
        .map(|plan| {
            let known = known.get(&plan.pod.uid).cloned();
            async move {
                let differences = differences(agent, &plan, known).await;
                pass.done();
                (plan.pod.uid.clone(), differences)
            }
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(|(uid, differences)| async { Some((uid, differences?)) })
        .collect()
        .await;
    if found != known {
        agent.drift.send_replace(found);
        agent.attachments_changed.notify_one();
    }
}

/// What differs of one pod; `None` when nothing does, or when it is not wired.
async fn differences(agent: &Agent, plan: &AttachmentPlan, known: Option<Vec<String>>) -> Option<Vec<String>> {
    let checked = check::sandbox(&agent.layout, &agent.cni_binary, plan).await?;
    let unplugged = unplugged(plan, &silent(agent));
    let checked = match checked {
        Checked::AsWired if !unplugged.is_empty() => Checked::Drifted(unplugged),
        Checked::Drifted(differences) => Checked::Drifted([unplugged, differences].concat()),
        other => other,
    };
    match checked {
        Checked::AsWired => None,
        Checked::Drifted(differences) => {
            if known.as_ref() != Some(&differences) {
                let pod = format!("{}/{}", plan.pod.namespace, plan.pod.name);
                tracing::warn!(pod, ?differences, "a pod's rails are not as they were wired");
            }
            Some(differences)
        }
        // What is not known has not got better.
        Checked::Unknown(why) => {
            tracing::debug!(pod = plan.pod.name, why, "a pod's rails could not be compared");
            known
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::plans::tests::plan;

    #[test]
    fn a_port_without_signal_is_named_on_its_rail_only() {
        let mut plan = plan("pod-1", "boot", ["0000:18:00.3", "0000:3b:00.3"]);
        plan.rails[1].vf.pf_pci_address = "0000:3b:00.0".parse().unwrap();
        assert!(unplugged(&plan, &[]).is_empty());
        assert!(unplugged(&plan, &["0000:86:00.0".parse().unwrap()]).is_empty());
        assert_eq!(
            unplugged(&plan, &["0000:3b:00.0".parse().unwrap()]),
            ["rail1: its port 0000:3b:00.0 has no carrier; look at the cable"]
        );
    }
}
