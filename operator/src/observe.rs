//! The watches behind the stores. Every replica runs them, the leader or not, so that a new leader knows everything at once.

use std::{fmt::Debug, future::ready};

use futures::StreamExt as _;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    resource::v1::{ResourceClaim, ResourceSlice},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _, reflector,
        reflector::{ObjectRef, Store},
        watcher,
        watcher::Event,
    },
};
use railhead_crds::{
    Fabric, FabricLedger, NetworkAttachment, NetworkSlice, NodeNetwork, QosClass, TrainingNetwork,
    names::{DRIVER, NETWORK_LABEL},
};
use railhead_service::chain;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::{
    changes::Changes,
    trim,
    world::{World, label},
};

/// A name within a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Named {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Named {
    /// Another name in the same namespace.
    pub(crate) fn beside(&self, name: String) -> Self {
        Self {
            namespace: self.namespace.clone(),
            name,
        }
    }
}

/// Something that changed, as far as the controllers need to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    Fabric(String),
    Class(String),
    Network(Named),
    Slice {
        slice: Named,
        network: String,
    },
    Attachment {
        slice: Named,
        network: String,
        index: u32,
        uid: String,
    },
    NodeNetwork(String),
    Node(String),
    Ledger {
        fabric: String,
    },
    Pod {
        pod: Named,
        network: String,
    },
    /// Ports or claims: what is free.
    Bandwidth,
}

/// Starts all watches. The stores fill in the background; `changes` gets one entry per object that came, changed or went.
pub(crate) fn start(client: &Client, tasks: &mut JoinSet<()>, changes: &Changes) -> World {
    let labelled = || watcher::Config::default().labels(NETWORK_LABEL);
    let ours = || watcher::Config::default().fields(&format!("spec.driver={DRIVER}"));
    let all = watcher::Config::default;
    World {
        fabrics: watch(client, all(), tasks, changes, trim::metadata, |o: &Fabric| {
            Change::Fabric(o.name_any())
        }),
        classes: watch(client, all(), tasks, changes, trim::metadata, |o: &QosClass| {
            Change::Class(o.name_any())
        }),
        networks: watch(client, all(), tasks, changes, trim::metadata, |o: &TrainingNetwork| {
            Change::Network(named(o))
        }),
        slices: watch(client, all(), tasks, changes, trim::metadata, |o: &NetworkSlice| {
            Change::Slice {
                slice: named(o),
                network: o.spec.network.name.clone(),
            }
        }),
        attachments: watch(
            client,
            all(),
            tasks,
            changes,
            trim::metadata,
            |o: &NetworkAttachment| Change::Attachment {
                slice: Named {
                    namespace: o.namespace().unwrap_or_default(),
                    name: o.spec.slice_name.clone(),
                },
                network: label(o, NETWORK_LABEL).unwrap_or_default().to_owned(),
                index: o.spec.index,
                uid: o.uid().unwrap_or_default(),
            },
        ),
        node_networks: watch(client, all(), tasks, changes, trim::metadata, |o: &NodeNetwork| {
            Change::NodeNetwork(o.name_any())
        }),
        ledgers: watch(client, all(), tasks, changes, trim::metadata, |o: &FabricLedger| {
            Change::Ledger { fabric: o.name_any() }
        }),
        nodes: watch(
            client,
            all(),
            tasks,
            changes,
            |node: &mut PartialObjectMeta<Node>| {
                trim::metadata(node);
                node.metadata.annotations = None;
            },
            |o| Change::Node(o.name_any()),
        ),
        pods: watch(client, labelled(), tasks, changes, trim::pod, |o: &Pod| Change::Pod {
            pod: named(o),
            network: label(o, NETWORK_LABEL).unwrap_or_default().to_owned(),
        }),
        ports: watch(client, ours(), tasks, changes, trim::metadata, |_: &ResourceSlice| {
            Change::Bandwidth
        }),
        claims: watch(client, all(), tasks, changes, trim::claim, |_: &ResourceClaim| {
            Change::Bandwidth
        }),
    }
}

impl World {
    /// Waits until every store has been filled once.
    pub(crate) async fn synced(&self) {
        // An error means that the watch's task is gone, and then the process ends anyway.
        let _ = tokio::join!(
            self.fabrics.wait_until_ready(),
            self.classes.wait_until_ready(),
            self.networks.wait_until_ready(),
            self.slices.wait_until_ready(),
            self.attachments.wait_until_ready(),
            self.node_networks.wait_until_ready(),
            self.ledgers.wait_until_ready(),
            self.nodes.wait_until_ready(),
            self.pods.wait_until_ready(),
            self.ports.wait_until_ready(),
            self.claims.wait_until_ready(),
        );
    }
}

/// How it is called.
pub(crate) fn named<K: Resource>(object: &K) -> Named {
    Named {
        namespace: object.meta().namespace.clone().unwrap_or_default(),
        name: object.meta().name.clone().unwrap_or_default(),
    }
}

fn watch<K>(
    client: &Client,
    config: watcher::Config,
    tasks: &mut JoinSet<()>,
    changes: &Changes,
    trim: fn(&mut K),
    change: fn(&K) -> Change,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let mut events = watcher(api, config)
        .default_backoff()
        .filter_map(|event| ready(decode(event)))
        .modify(trim)
        .reflect(writer)
        .boxed();
    let changes = changes.clone();
    let state = store.clone();
    tasks.spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(object) | Event::Delete(object)) => {
                    changes.tell(change(&object));
                }
                // After a watch was broken anything may have changed meanwhile.
                Ok(Event::InitDone) => {
                    for object in state.state() {
                        changes.tell(change(&object));
                    }
                }
                Ok(Event::Init | Event::InitApply(_)) => {}
                Err(error) => {
                    warn!(kind = %K::kind(&()), error = chain(&error), "watch broke, trying again");
                }
            }
        }
    });
    store
}

/// One object that cannot be read (of another version of the API, for example) must not stop the watch for all others.
fn decode<K: Resource<DynamicType = ()>>(
    event: watcher::Result<Event<DeserializeGuard<K>>>,
) -> Option<watcher::Result<Event<K>>> {
    let readable = |guard: DeserializeGuard<K>| match guard.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            let object: ObjectRef<K> = ObjectRef::new(invalid.metadata.name.as_deref().unwrap_or_default());
            warn!(%object, error = invalid.error, "object cannot be read and is left alone");
            None
        }
    };
    Some(match event {
        Ok(Event::Apply(guard)) => Ok(Event::Apply(readable(guard)?)),
        Ok(Event::Delete(guard)) => Ok(Event::Delete(readable(guard)?)),
        Ok(Event::InitApply(guard)) => Ok(Event::InitApply(readable(guard)?)),
        Ok(Event::Init) => {
            debug!(kind = %K::kind(&()), "listing");
            Ok(Event::Init)
        }
        Ok(Event::InitDone) => Ok(Event::InitDone),
        Err(error) => Err(error),
    })
}
