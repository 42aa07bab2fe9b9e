//! Pods with a network's label: why they wait, and what they got, as events where people look first.

mod decide;
mod free;

pub(crate) use free::Free;

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt as _, runtime::controller::Action};
use railhead_crds::names::{self, NETWORK_LABEL};
use railhead_service::events::Recorder;
use thiserror::Error;
use tokio::sync::watch;

use crate::{
    controller::Category,
    known::Pod,
    world::{World, label},
};

/// In one `kubectl apply` the pods may come before their network.
const GRACE: Duration = Duration::from_secs(3);
/// How often a waiting pod is looked at when nothing changes.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the controller works with.
pub(crate) struct Context {
    pub(crate) world: World,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) free: watch::Receiver<Option<Arc<Free>>>,
}

/// Nothing can fail here; events are not retried.
#[derive(Debug, Error)]
pub(crate) enum PodError {}

impl Category for PodError {
    fn category(&self) -> &'static str {
        match *self {}
    }

    fn is_conflict(&self) -> bool {
        match *self {}
    }
}

pub(crate) async fn reconcile(pod: Arc<Pod>, context: Arc<Context>) -> Result<Action, PodError> {
    if has_ended(&pod) || has_started(&pod) {
        return Ok(Action::await_change());
    }
    let (Some(namespace), Some(wanted)) = (pod.namespace(), label(&*pod, NETWORK_LABEL)) else {
        return Ok(Action::await_change());
    };
    let world = &context.world;
    let network = world.network(&namespace, wanted);
    if network.is_none() && age(&pod) < GRACE {
        return Ok(Action::requeue(GRACE));
    }
    let slice = network.as_ref().and_then(|network| {
        let name = names::slice(wanted, &network.uid()?);
        world.slice(&namespace, &name)
    });
    let others = if network.is_none() {
        world
            .networks
            .state_filter(|network| network.metadata.namespace.as_deref() == Some(&namespace))
    } else {
        Vec::new()
    };
    let free = context.free.borrow().clone();
    let news = decide::news(&decide::Seen {
        pod: &pod,
        network: network.as_deref(),
        others: &others,
        slice: slice.as_deref(),
        free: free.as_deref(),
    });
    for news in news {
        context.recorder.publish(&*pod, &news).await;
    }
    Ok(Action::requeue(PATIENCE))
}

fn age(pod: &Pod) -> Duration {
    let created = pod.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Duration::try_from(Timestamp::now().duration_since(created)).unwrap_or_default()
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

pub(crate) fn has_started(pod: &Pod) -> bool {
    phase(pod) == Some("Running")
}

/// Whether all its containers have ended for good.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), Some("Succeeded" | "Failed"))
}

/// Whether the pod waits for a node.
pub(crate) fn is_waiting(pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
    node.is_none() && !has_ended(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether the scheduler has looked for a node and found none.
pub(crate) fn is_unschedulable(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut turned_away = conditions
        .filter(|condition| condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("Unschedulable"));
    is_waiting(pod) && turned_away.next().is_some()
}
