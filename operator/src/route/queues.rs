//! The queues of the controllers, and who is found in the stores to be put into them.

use std::{collections::HashSet, sync::Arc};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
use kube::{
    Resource,
    runtime::reflector::{ObjectRef, Store},
};
use railhead_crds::{Fabric, NetworkQuota, NetworkSlice, QosClass, TrainingNetwork, reasons::Reason};
use railhead_planner::bandwidth;
use tokio::sync::watch;

use super::Asked;
use crate::{
    conditions,
    freed::Freed,
    known::Pod,
    observe::Named,
    pod::{Free, is_unschedulable},
    world::World,
};

/// The router's ends of the queues.
pub(crate) struct Queues {
    fabrics: UnboundedSender<ObjectRef<Fabric>>,
    classes: UnboundedSender<ObjectRef<QosClass>>,
    networks: UnboundedSender<ObjectRef<TrainingNetwork>>,
    quotas: UnboundedSender<ObjectRef<NetworkQuota>>,
    slices: UnboundedSender<ObjectRef<NetworkSlice>>,
    pods: UnboundedSender<ObjectRef<Pod>>,
    templates: UnboundedSender<ObjectRef<ResourceClaimTemplate>>,
    freed: UnboundedSender<Freed>,
    free: watch::Sender<Option<Arc<Free>>>,
}

/// The controllers' ends of the queues.
pub(crate) struct Inboxes {
    pub(crate) fabrics: UnboundedReceiver<ObjectRef<Fabric>>,
    pub(crate) classes: UnboundedReceiver<ObjectRef<QosClass>>,
    pub(crate) networks: UnboundedReceiver<ObjectRef<TrainingNetwork>>,
    pub(crate) quotas: UnboundedReceiver<ObjectRef<NetworkQuota>>,
    pub(crate) slices: UnboundedReceiver<ObjectRef<NetworkSlice>>,
    pub(crate) pods: UnboundedReceiver<ObjectRef<Pod>>,
    pub(crate) templates: UnboundedReceiver<ObjectRef<ResourceClaimTemplate>>,
    pub(crate) freed: UnboundedReceiver<Freed>,
    /// What is left on all ports, since it was counted first.
    pub(crate) free: watch::Receiver<Option<Arc<Free>>>,
}

/// Both ends.
pub(crate) fn queues() -> (Queues, Inboxes) {
    let (fabrics, fabrics_in) = unbounded();
    let (classes, classes_in) = unbounded();
    let (networks, networks_in) = unbounded();
    let (quotas, quotas_in) = unbounded();
    let (slices, slices_in) = unbounded();
    let (pods, pods_in) = unbounded();
    let (templates, templates_in) = unbounded();
    let (freed, indices) = unbounded();
    let (free, free_in) = watch::channel(None);
    (
        Queues {
            fabrics,
            classes,
            networks,
            quotas,
            slices,
            pods,
            templates,
            freed,
            free,
        },
        Inboxes {
            fabrics: fabrics_in,
            classes: classes_in,
            networks: networks_in,
            quotas: quotas_in,
            slices: slices_in,
            pods: pods_in,
            templates: templates_in,
            freed: indices,
            free: free_in,
        },
    )
}

impl Queues {
    pub(super) fn all_fabrics(&self, world: &World) {
        send_all(&self.fabrics, &world.fabrics, |_| true);
    }

    pub(super) fn all_quotas(&self, world: &World) {
        send_all(&self.quotas, &world.quotas, |_| true);
    }

    pub(super) fn freed(&self, freed: Freed) {
        let _ = self.freed.unbounded_send(freed);
    }

    pub(super) fn waiting_networks(&self, world: &World) {
        send_all(&self.networks, &world.networks, waits);
    }

    pub(super) fn everything(&self, world: &World) {
        self.all_fabrics(world);
        send_all(&self.classes, &world.classes, |_| true);
        send_all(&self.networks, &world.networks, |_| true);
        self.all_quotas(world);
        send_all(&self.slices, &world.slices, |_| true);
        send_all(&self.pods, &world.pods, |_| true);
        send_all(&self.templates, &world.templates, |_| true);
    }

    pub(super) fn send(&self, world: &World, asked: &Asked) {
        for fabric in &asked.fabrics {
            let _ = self.fabrics.unbounded_send(ObjectRef::new(fabric));
        }
        if asked.classes {
            send_all(&self.classes, &world.classes, |_| true);
        }
        if asked.waiting_networks {
            self.waiting_networks(world);
        } else if asked.room || !asked.waiting_in.is_empty() {
            send_all(&self.networks, &world.networks, |network| {
                let namespace = network.metadata.namespace.as_deref().unwrap_or_default();
                let concerned = asked.waiting_in.contains(namespace) || (asked.room && !waits_for_its_own(network));
                concerned && waits(network)
            });
        }
        for fabric in &asked.ledgers {
            self.networks_without_entry(world, fabric);
        }
        send_each(&self.networks, &asked.networks);
        send_each(&self.quotas, &asked.quotas);
        send_each(&self.slices, &asked.slices);
        send_each(&self.pods, &asked.pods);
        send_each(&self.templates, &asked.templates);
        for network in &asked.slices_of {
            send_these(&self.slices, &world.slices.members(network));
        }
        for network in &asked.pods_of {
            send_these(&self.pods, &world.pods.members(network));
        }
        for namespace in &asked.strays_in {
            for wanted in world.pods.groups_in(namespace) {
                if world.network(namespace, &wanted.name).is_none() {
                    send_these(&self.pods, &world.pods.members(&wanted));
                }
            }
        }
    }

    /// Finds what is left on the ports, once for all pods; those that found no node look again if it is not as before.
    pub(super) fn bandwidth(&self, world: &World) {
        let now = bandwidth::free(world.ports.values().iter(), world.claims.values().iter());
        let is_new = self.free.send_if_modified(|before| {
            let is_new = before.as_ref().is_none_or(|before| before.ports() != now);
            if is_new {
                *before = Some(Arc::new(Free::new(now)));
            }
            is_new
        });
        if is_new {
            send_all(&self.pods, &world.pods, is_unschedulable);
        }
    }

    /// Networks that are reserved as far as they know, and whose entry somebody took out of the ledger.
    fn networks_without_entry(&self, world: &World, fabric: &str) {
        let ledger = world.ledgers.get(&ObjectRef::new(fabric));
        let entered: HashSet<&str> = ledger
            .iter()
            .flat_map(|ledger| &ledger.spec.entries)
            .map(|entry| entry.owner.uid.as_str())
            .collect();
        send_all(&self.networks, &world.networks, |network| {
            network
                .status
                .as_ref()
                .is_some_and(|status| status.slice_name.is_some() && status.fabric_name.as_deref() == Some(fabric))
                && !entered.contains(network.metadata.uid.as_deref().unwrap_or_default())
        });
    }
}

/// Whether a network has no reservation, or not for as many pods as it asks for, or cannot give its own back.
fn waits(network: &TrainingNetwork) -> bool {
    let conditions = network.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let reserved = conditions::find(conditions, "Reserved");
    let ready = conditions::find(conditions, "Ready");
    reserved.is_none_or(|reserved| reserved.status != "True" || reserved.reason == Reason::CannotGrow)
        || ready.is_some_and(|ready| ready.reason == Reason::DeletingWaitingForLedger)
}

/// Whether a quota turned it away, or it has no room to grow: it gets nothing of what other namespaces let go.
fn waits_for_its_own(network: &TrainingNetwork) -> bool {
    let conditions = network.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let reserved = conditions::find(conditions, "Reserved");
    reserved.is_some_and(|reserved| {
        [Reason::QuotaExceeded, Reason::CannotGrow]
            .iter()
            .any(|reason| reserved.reason == *reason)
    })
}

// A closed queue means that its controller has ended, and the process ends with it.

fn send_each<'a, K: Resource<DynamicType = ()>>(
    queue: &UnboundedSender<ObjectRef<K>>,
    objects: impl IntoIterator<Item = &'a Named>,
) {
    for object in objects {
        let _ = queue.unbounded_send(ObjectRef::new(&object.name).within(&object.namespace));
    }
}

fn send_these<K: Resource<DynamicType = ()>>(queue: &UnboundedSender<ObjectRef<K>>, objects: &[Arc<K>]) {
    for object in objects {
        let _ = queue.unbounded_send(ObjectRef::from_obj(object));
    }
}

fn send_all<K: Resource<DynamicType = ()> + Clone + 'static>(
    queue: &UnboundedSender<ObjectRef<K>>,
    store: &Store<K>,
    wanted: impl Fn(&K) -> bool,
) {
    for object in store.state() {
        if wanted(&object) {
            let _ = queue.unbounded_send(ObjectRef::from_obj(&object));
        }
    }
}
