//! Which controllers look again when something has changed.

use std::{collections::HashSet, sync::Arc};

use futures::{
    StreamExt as _,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Resource, ResourceExt as _,
    runtime::reflector::{ObjectRef, Store},
};
use railhead_crds::{Fabric, NetworkSlice, QosClass, TrainingNetwork, names};
use railhead_planner::bandwidth::{self, PortBandwidth};
use tokio::sync::watch;

use crate::{
    conditions,
    freed::Freed,
    observe::{Change, Named},
    pod::is_unschedulable,
    world::World,
};

/// Changes that are there already are taken together, up to this many.
const CHUNK: usize = 256;

/// The queues of the controllers. Asking twice costs nothing: each controller drops doubles.
pub(crate) struct Queues {
    fabrics: UnboundedSender<ObjectRef<Fabric>>,
    classes: UnboundedSender<ObjectRef<QosClass>>,
    networks: UnboundedSender<ObjectRef<TrainingNetwork>>,
    slices: UnboundedSender<ObjectRef<NetworkSlice>>,
    pods: UnboundedSender<ObjectRef<Pod>>,
    freed: UnboundedSender<Freed>,
    free: watch::Sender<Free>,
}

/// What is left on all ports, as it was when a port or a claim changed last.
pub(crate) type Free = Arc<[PortBandwidth]>;

/// The controllers' ends of the queues.
pub(crate) struct Inboxes {
    pub(crate) fabrics: UnboundedReceiver<ObjectRef<Fabric>>,
    pub(crate) classes: UnboundedReceiver<ObjectRef<QosClass>>,
    pub(crate) networks: UnboundedReceiver<ObjectRef<TrainingNetwork>>,
    pub(crate) slices: UnboundedReceiver<ObjectRef<NetworkSlice>>,
    pub(crate) pods: UnboundedReceiver<ObjectRef<Pod>>,
    pub(crate) freed: UnboundedReceiver<Freed>,
    pub(crate) free: watch::Receiver<Free>,
}

/// Both ends.
pub(crate) fn queues() -> (Queues, Inboxes) {
    let (fabrics, fabrics_in) = unbounded();
    let (classes, classes_in) = unbounded();
    let (networks, networks_in) = unbounded();
    let (slices, slices_in) = unbounded();
    let (pods, pods_in) = unbounded();
    let (freed, indices) = unbounded();
    let (free, free_in) = watch::channel(Free::default());
    (
        Queues {
            fabrics,
            classes,
            networks,
            slices,
            pods,
            freed,
            free,
        },
        Inboxes {
            fabrics: fabrics_in,
            classes: classes_in,
            networks: networks_in,
            slices: slices_in,
            pods: pods_in,
            freed: indices,
            free: free_in,
        },
    )
}

/// Hands changes on until the watches end. `changes` of the time before this replica led are in the stores already.
pub(crate) async fn route(world: World, queues: Queues, changes: UnboundedReceiver<Change>) {
    queues.bandwidth(&world);
    queues.everything(&world);
    let mut changes = changes.ready_chunks(CHUNK);
    while let Some(changes) = changes.next().await {
        if changes.contains(&Change::Bandwidth) {
            queues.bandwidth(&world);
        }
        for change in changes {
            queues.hand_on(&world, change);
        }
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
            Change::Attachment {
                slice,
                network,
                index,
                uid,
            } => {
                self.network(&slice.namespace, network);
                send_within(&self.slices, &slice);
                let name = names::attachment(&slice.name, index);
                let there = world.attachments.get(&ObjectRef::new(&name).within(&slice.namespace));
                if there.is_none() {
                    let _ = self.freed.unbounded_send(Freed { slice, index, uid });
                }
            }
            Change::NodeNetwork => {
                // All: one that goes makes room for another fabric that selects the node.
                send_all(&self.fabrics, &world.fabrics, |_| true);
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
            // Looked at once for all that came together.
            Change::Bandwidth => {}
        }
    }

    /// Finds what is left on the ports, once for all pods; those that found no node look again if it is not as before.
    fn bandwidth(&self, world: &World) {
        let now = bandwidth::free(&world.ports.state(), &world.claims.state());
        let is_new = self.free.send_if_modified(|before| {
            let is_new = **before != *now;
            if is_new {
                *before = now.into();
            }
            is_new
        });
        if is_new {
            send_all(&self.pods, &world.pods, is_unschedulable);
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

#[cfg(test)]
mod tests {
    use kube::runtime::{
        reflector::{store, store::Writer},
        watcher::Event,
    };
    use serde_json::json;

    use super::*;
    use crate::network::fixtures;

    #[test]
    fn pods_look_again_only_if_something_else_is_free_than_before() {
        let (claims, mut claims_in) = store();
        let (ports, mut ports_in) = store();
        let (pods, mut pods_in) = store();
        let world = World {
            fabrics: store().0,
            classes: store().0,
            networks: store().0,
            slices: store().0,
            attachments: store().0,
            node_networks: store().0,
            ledgers: store().0,
            nodes: store().0,
            pods,
            ports,
            claims,
        };
        let (queues, mut inboxes) = queues();
        let mut pod = fixtures::pod(0);
        pod.status = from(json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}));
        apply(&mut pods_in, pod);
        apply(
            &mut ports_in,
            from(json!({
                "metadata": {"name": "node1-railhead"},
                "spec": {"driver": "railhead.dev", "nodeName": "node1",
                    "pool": {"name": "node1", "generation": 1, "resourceSliceCount": 1},
                    "devices": [{"name": "rail0", "attributes": {"rail": {"int": 0}, "fabric": {"string": "backend"}},
                        "capacity": {"bandwidth": {"value": "1G"}, "vfs": {"value": "4"}}}]},
            })),
        );
        let mut looks = |world| {
            queues.bandwidth(world);
            inboxes.pods.try_recv().is_ok()
        };
        assert!(looks(&world), "a port came");
        apply(&mut claims_in, claim("gpus", "gpu.example.com"));
        assert!(!looks(&world), "a claim on other devices");
        apply(&mut claims_in, claim("rails", "railhead.dev"));
        assert!(looks(&world), "a claim on the port");
        assert_eq!(inboxes.free.borrow()[0].free().to_string(), "800M");
    }

    fn claim(name: &str, driver: &str) -> k8s_openapi::api::resource::v1::ResourceClaim {
        from(json!({
            "metadata": {"name": name, "namespace": "team-a"}, "spec": {},
            "status": {"allocation": {"devices": {"results": [{"driver": driver, "pool": "node1", "device": "rail0",
                "request": "rail0", "consumedCapacity": {"bandwidth": "200M", "vfs": "1"}}]}}},
        }))
    }

    fn from<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn apply<K: Resource<DynamicType = ()> + Clone + 'static>(writer: &mut Writer<K>, object: K) {
        writer.apply_watcher_event(&Event::Apply(object));
    }
}
