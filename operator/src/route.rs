//! Which controllers look again when something has changed.

use std::collections::HashSet;

use futures::{
    StreamExt as _,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Resource, ResourceExt as _,
    runtime::reflector::{ObjectRef, Store},
};
use railhead_crds::{Fabric, NetworkSlice, QosClass, TrainingNetwork};

use crate::{
    conditions,
    observe::{Change, Named},
    pod::is_waiting,
    world::World,
};

/// The queues of the controllers. Asking twice costs nothing: each controller drops doubles.
pub(crate) struct Queues {
    fabrics: UnboundedSender<ObjectRef<Fabric>>,
    classes: UnboundedSender<ObjectRef<QosClass>>,
    networks: UnboundedSender<ObjectRef<TrainingNetwork>>,
    slices: UnboundedSender<ObjectRef<NetworkSlice>>,
    pods: UnboundedSender<ObjectRef<Pod>>,
}

/// The controllers' ends of the queues.
pub(crate) struct Inboxes {
    pub(crate) fabrics: UnboundedReceiver<ObjectRef<Fabric>>,
    pub(crate) classes: UnboundedReceiver<ObjectRef<QosClass>>,
    pub(crate) networks: UnboundedReceiver<ObjectRef<TrainingNetwork>>,
    pub(crate) slices: UnboundedReceiver<ObjectRef<NetworkSlice>>,
    pub(crate) pods: UnboundedReceiver<ObjectRef<Pod>>,
}

/// Both ends.
pub(crate) fn queues() -> (Queues, Inboxes) {
    let (fabrics, fabrics_in) = unbounded();
    let (classes, classes_in) = unbounded();
    let (networks, networks_in) = unbounded();
    let (slices, slices_in) = unbounded();
    let (pods, pods_in) = unbounded();
    (
        Queues {
            fabrics,
            classes,
            networks,
            slices,
            pods,
        },
        Inboxes {
            fabrics: fabrics_in,
            classes: classes_in,
            networks: networks_in,
            slices: slices_in,
            pods: pods_in,
        },
    )
}

/// Hands changes on until the watches end. `changes` of the time before this replica led are in the stores already.
pub(crate) async fn route(world: World, queues: Queues, mut changes: UnboundedReceiver<Change>) {
    queues.everything(&world);
    while let Some(change) = changes.next().await {
        queues.hand_on(&world, change);
    }
}

impl Queues {
    fn everything(&self, world: &World) {
        send_all(&self.fabrics, &world.fabrics, |_| true);
        send_all(&self.classes, &world.classes, |_| true);
        send_all(&self.networks, &world.networks, |_| true);
        send_all(&self.slices, &world.slices, |_| true);
        send_all(&self.pods, &world.pods, |_| true);
    }

    fn hand_on(&self, world: &World, change: Change) {
        match change {
            Change::Fabric(name) => {
                send(&self.fabrics, &name);
                // The other defaults may be in conflict with this one, or no more.
                send_all(&self.fabrics, &world.fabrics, |_| true);
                self.waiting_networks(world);
            }
            Change::Class(name) => {
                send(&self.classes, &name);
                send_all(&self.classes, &world.classes, |_| true);
                self.waiting_networks(world);
            }
            Change::Network(network) => {
                self.pods_of(world, &network.namespace);
                send_within(&self.networks, &network);
            }
            Change::Slice { slice, network } => {
                self.network(&slice.namespace, network);
                self.pods_of(world, &slice.namespace);
                send_within(&self.slices, &slice);
            }
            Change::Attachment { slice, network } => {
                self.network(&slice.namespace, network);
                send_within(&self.slices, &slice);
            }
            Change::NodeNetwork { fabric } => {
                send(&self.fabrics, &fabric);
                self.waiting_networks(world);
            }
            Change::Node => send_all(&self.fabrics, &world.fabrics, |_| true),
            Change::Ledger { fabric } => {
                send(&self.fabrics, &fabric);
                // Somebody's release is somebody else's room.
                self.waiting_networks(world);
                self.networks_without_entry(world, &fabric);
            }
            Change::Pod { pod, network } => {
                // A pod that has ended holds its slice no more, even when its attachment went before it.
                send_all(&self.slices, &world.slices, |slice| {
                    slice.namespace().as_deref() == Some(&*pod.namespace) && slice.spec.network.name == network
                });
                self.network(&pod.namespace, network);
                send_within(&self.pods, &pod);
            }
            Change::Bandwidth => send_all(&self.pods, &world.pods, is_waiting),
        }
    }

    fn network(&self, namespace: &str, name: String) {
        send_within(
            &self.networks,
            &Named {
                namespace: namespace.to_owned(),
                name,
            },
        );
    }

    fn waiting_networks(&self, world: &World) {
        send_all(&self.networks, &world.networks, |network| {
            let conditions = network.status.as_ref().map_or(&[][..], |status| &status.conditions);
            !conditions::is_true(conditions, "Reserved")
        });
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

    fn pods_of(&self, world: &World, namespace: &str) {
        send_all(&self.pods, &world.pods, |pod| {
            pod.namespace().as_deref() == Some(namespace)
        });
    }
}

// A closed queue means that its controller has ended, and the process ends with it.

fn send<K: Resource<DynamicType = ()>>(queue: &UnboundedSender<ObjectRef<K>>, name: &str) {
    let _ = queue.unbounded_send(ObjectRef::new(name));
}

fn send_within<K: Resource<DynamicType = ()>>(queue: &UnboundedSender<ObjectRef<K>>, object: &Named) {
    let _ = queue.unbounded_send(ObjectRef::new(&object.name).within(&object.namespace));
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
