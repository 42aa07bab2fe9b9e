//! The watches behind the stores. Every replica runs them, the leader or not, so that a new leader knows everything at once.

use std::{fmt::Debug, future::ready};

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{
    networking::v1::ServiceCIDR,
    resource::v1::{ResourceClaim, ResourceClaimTemplate, ResourceSlice},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::{
        WatchStreamExt as _, reflector,
        reflector::{ObjectRef, Store, store::Writer},
        watcher,
        watcher::Event,
    },
};
use railhead_crds::{
    Fabric, FabricLedger, NetworkAttachment, NetworkQuota, NetworkSlice, NodeNetwork, QosClass, TrainingNetwork,
    names::{DRIVER, NETWORK_LABEL},
};
use railhead_planner::bandwidth::{Held, NodePorts};
use railhead_service::chain;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::{
    changes::Changes,
    contested::Contested,
    grouped::Grouped,
    kept::Kept,
    known::{Namespace, Node, Pod},
    quota::Quotas,
    recount::Words,
    schemas::Schemas,
    surroundings::Surroundings,
    trim,
    world::{self, World, label},
};

/// How many objects are listed at a time: a page is in memory as a whole, and all kinds are listed at once.
const PAGE: u32 = 100;

/// A name within a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Named {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Named {
    pub(crate) fn within(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

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
    Namespace(String),
    Quota(Named),
    /// Ranges of addresses of Services.
    Services,
    /// The definitions of the cluster are others.
    Schemas,
    Ledger {
        fabric: String,
    },
    Pod {
        pod: Named,
        network: String,
    },
    /// A claim template, of a network or not.
    Template(Named),
    /// Ports or claims: what is free.
    Bandwidth,
}

/// Starts all watches. The stores fill in the background; `changes` gets one entry per object that came, changed or went.
pub(crate) fn start(client: &Client, tasks: &mut JoinSet<()>, changes: &Changes) -> World {
    let all = || watcher::Config::default().page_size(PAGE);
    let labelled = all().labels(NETWORK_LABEL);
    let ours = all().fields(&format!("spec.driver={DRIVER}"));
    let mut watches = Watches { client, tasks, changes };
    World {
        fabrics: watches.start(all(), trim::metadata, |o: &Fabric| Change::Fabric(o.name_any())),
        classes: watches.start(all(), trim::metadata, |o: &QosClass| Change::Class(o.name_any())),
        networks: watches.start(all(), trim::metadata, |o: &TrainingNetwork| Change::Network(named(o))),
        slices: watches.start_grouped(
            all(),
            trim::metadata,
            |o: &NetworkSlice| Change::Slice {
                slice: named(o),
                network: o.spec.network.name.clone(),
            },
            world::network_of_slice,
        ),
        attachments: watches.start_grouped(
            all(),
            trim::attachment,
            |o: &NetworkAttachment| Change::Attachment {
                slice: world::slice_of_attachment(o),
                network: label(o, NETWORK_LABEL).unwrap_or_default().to_owned(),
                index: o.spec.index,
                uid: o.uid().unwrap_or_default(),
            },
            world::slice_of_attachment,
        ),
        node_networks: watches.start(all(), trim::node_network, |o: &NodeNetwork| {
            Change::NodeNetwork(o.name_any())
        }),
        ledgers: watches.start(all(), trim::metadata, |o: &FabricLedger| Change::Ledger {
            fabric: o.name_any(),
        }),
        nodes: watches.start(all(), trim::node, |o: &Node| Change::Node(o.name_any())),
        namespaces: watches.start(all(), trim::namespace, |o: &Namespace| Change::Namespace(o.name_any())),
        quotas: watches.start_quotas(all()),
        services: watches.start(all(), trim::metadata, |_: &ServiceCIDR| Change::Services),
        pods: watches.start_grouped(
            labelled,
            trim::pod,
            |o: &Pod| Change::Pod {
                pod: named(o),
                network: label(o, NETWORK_LABEL).unwrap_or_default().to_owned(),
            },
            world::network_of_pod,
        ),
        ports: watches.keep(ours, |slice: &ResourceSlice| NodePorts::of(slice)),
        claims: watches.keep(all(), |claim: &ResourceClaim| Held::by(claim)),
        templates: watches.start(all(), trim::template, |o: &ResourceClaimTemplate| {
            Change::Template(named(o))
        }),
        contested: Contested::default(),
        surroundings: Surroundings::default(),
        words: Words::default(),
        schemas: Schemas::default(),
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
            self.namespaces.wait_until_ready(),
            self.quotas.wait_until_read(),
            self.services.wait_until_ready(),
            self.pods.wait_until_ready(),
            self.ports.wait_until_ready(),
            self.claims.wait_until_ready(),
            self.templates.wait_until_ready(),
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

/// What all watches share.
struct Watches<'a> {
    client: &'a Client,
    tasks: &'a mut JoinSet<()>,
    changes: &'a Changes,
}

impl Watches<'_> {
    fn start<K>(&mut self, config: watcher::Config, trim: fn(&mut K), change: fn(&K) -> Change) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let (store, writer) = reflector::store();
        self.fill(writer, config, trim, change, |_| (), |_| ());
        store
    }

    /// Quotas, of which the cluster may not know yet what they are.
    fn start_quotas(&mut self, config: watcher::Config) -> Quotas {
        let (store, writer) = reflector::store();
        let quotas = Quotas::new(store);
        let (follows, changes) = (quotas.clone(), self.changes.clone());
        let change = |quota: &NetworkQuota| Change::Quota(named(quota));
        self.fill(
            writer,
            config,
            trim::metadata,
            change,
            |_| (),
            move |event| {
                if follows.follow(event) {
                    changes.tell(Change::Schemas);
                }
            },
        );
        quotas
    }

    fn start_grouped<K>(
        &mut self,
        config: watcher::Config,
        trim: fn(&mut K),
        change: fn(&K) -> Change,
        group: fn(&K) -> Named,
    ) -> Grouped<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let (store, writer) = reflector::store();
        let grouped = Grouped::new(store, group);
        let groups = grouped.clone();
        self.fill(writer, config, trim, change, move |event| groups.follow(event), |_| ());
        grouped
    }

    /// Keeps what `of` says of the objects, which counts for what is free.
    fn keep<K, V>(&mut self, config: watcher::Config, of: fn(&K) -> Option<V>) -> Kept<V>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
        V: PartialEq + Send + Sync + 'static,
    {
        let kept = Kept::default();
        let (follows, changes) = (kept.clone(), self.changes.clone());
        let api: Api<DeserializeGuard<K>> = Api::all(self.client.clone());
        let mut events = watcher(api, config).default_backoff().boxed();
        // Of one that cannot be read nothing is kept.
        let of_readable = move |object: &DeserializeGuard<K>| match &object.0 {
            Ok(object) => of(object),
            Err(invalid) => {
                warn!(kind = %K::kind(&()), name = invalid.metadata.name, error = invalid.error, "object cannot be read and is left alone");
                None
            }
        };
        self.tasks.spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        if follows.follow(event, of_readable) {
                            changes.tell(Change::Bandwidth);
                        }
                    }
                    Err(error) => broke::<K>(&error),
                }
            }
        });
        kept
    }

    /// Fills a store for ever. `first` is told of each event before the store is, `then` of each and of failures after it.
    fn fill<K>(
        &mut self,
        writer: Writer<K>,
        config: watcher::Config,
        trim: fn(&mut K),
        change: fn(&K) -> Change,
        first: impl Fn(&Event<K>) + Send + 'static,
        then: impl Fn(&watcher::Result<Event<K>>) + Send + 'static,
    ) where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let state = writer.as_reader();
        let known = state.clone();
        let api: Api<DeserializeGuard<K>> = Api::all(self.client.clone());
        let events = watcher(api, config)
            .default_backoff()
            .filter_map(move |event| ready(decode(event, &known)))
            .modify(trim)
            .inspect_ok(first)
            .reflect(writer)
            .inspect(then)
            .boxed();
        let changes = self.changes.clone();
        self.tasks.spawn(tell(events, state, changes, change));
    }
}

/// Tells of every event of a watch, whose objects are in `state` already.
async fn tell<K>(
    mut events: impl Stream<Item = watcher::Result<Event<K>>> + Unpin,
    state: Store<K>,
    changes: Changes,
    change: fn(&K) -> Change,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let mut before = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::Delete(object)) => changes.tell(change(&object)),
            // While it lists, the store says what there was.
            Ok(Event::Init) => before = state.state(),
            // After a watch was broken anything may have come, changed or gone meanwhile.
            Ok(Event::InitDone) => {
                for object in before.drain(..).chain(state.state()) {
                    changes.tell(change(&object));
                }
            }
            Ok(Event::InitApply(_)) => {}
            Err(error) => broke::<K>(&error),
        }
    }
}

fn broke<K: Resource<DynamicType = ()>>(error: &watcher::Error) {
    warn!(kind = %K::kind(&()), error = chain(error), "watch broke, trying again");
}

/// One object that cannot be read (of another version of the API, for example) must not stop the watch for all others. One that
/// can be read no more is gone for who reads the store: what it was is not what it is.
fn decode<K: Resource<DynamicType = ()> + Clone + 'static>(
    event: watcher::Result<Event<DeserializeGuard<K>>>,
    known: &Store<K>,
) -> Option<watcher::Result<Event<K>>> {
    let left_alone = |invalid: InvalidObject| {
        let name = invalid.metadata.name.as_deref().unwrap_or_default();
        let mut object: ObjectRef<K> = ObjectRef::new(name);
        object.namespace = invalid.metadata.namespace;
        warn!(%object, error = invalid.error, "object cannot be read and is left alone");
        known.get(&object)
    };
    let gone = |invalid| Some(Event::Delete((*left_alone(invalid)?).clone()));
    Some(match event {
        Ok(Event::Apply(DeserializeGuard(object))) => {
            Ok(object.map_or_else(gone, |object| Some(Event::Apply(object)))?)
        }
        Ok(Event::Delete(DeserializeGuard(object))) => {
            Ok(object.map_or_else(gone, |object| Some(Event::Delete(object)))?)
        }
        Ok(Event::InitApply(DeserializeGuard(object))) => {
            let object = object.map_err(left_alone).ok()?;
            Ok(Event::InitApply(object))
        }
        Ok(Event::Init) => {
            debug!(kind = %K::kind(&()), "listing");
            Ok(Event::Init)
        }
        Ok(Event::InitDone) => Ok(Event::InitDone),
        Err(error) => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use futures::stream;

    use super::*;
    use crate::network::fixtures;

    #[test]
    fn an_object_that_becomes_unreadable_is_no_longer_what_it_was_and_harms_no_other() {
        let (known, mut writer) = reflector::store();
        let ledger = |name: &str, state: serde_json::Value| {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "railhead.dev/v1alpha1", "kind": "FabricLedger", "metadata": {"name": name},
                "spec": {"version": 1, "sequence": 1, "entries": [{"base": 0, "size": 2, "vlan": 1000, "sequence": 1,
                    "owner": {"namespace": "team-a", "name": "llama", "uid": "u"}, "state": state}]},
            }))
            .unwrap()
        };
        let mut see = |event| {
            if let Some(Ok(event)) = decode::<FabricLedger>(Ok(event), &known) {
                writer.apply_watcher_event(&event);
            }
            let mut names: Vec<String> = known.state().iter().map(|ledger| ledger.name_any()).collect();
            names.sort_unstable();
            names.join(" ")
        };
        assert_eq!(see(Event::Apply(ledger("backend", "Held".into()))), "backend");
        assert_eq!(
            see(Event::Apply(ledger("storage", "Quarantined".into()))),
            "backend storage"
        );
        assert_eq!(see(Event::Apply(ledger("backend", 7.into()))), "storage");
        assert_eq!(see(Event::Delete(ledger("storage", 7.into()))), "");
        see(Event::Init);
        see(Event::InitApply(ledger("backend", 7.into())));
        see(Event::InitApply(ledger("storage", "Held".into())));
        assert_eq!(see(Event::InitDone), "storage");
    }

    #[tokio::test]
    async fn after_a_watch_broke_what_went_meanwhile_is_told_too() {
        let network = |name: &str| {
            let mut network = fixtures::network(2);
            network.metadata.name = Some(name.to_owned());
            network
        };
        let (state, mut writer) = reflector::store();
        writer.apply_watcher_event(&Event::Apply(network("stays")));
        writer.apply_watcher_event(&Event::Apply(network("goes")));
        let changes = Changes::default();
        changes.begin();
        let listed = vec![Event::Init, Event::InitApply(network("stays")), Event::InitDone];
        let events = stream::iter(listed).map(Ok).reflect(writer);
        tell(events, state, changes.clone(), |o| Change::Network(named(o))).await;
        let told: HashSet<Change> = ["stays", "goes"]
            .map(|name| Change::Network(fixtures::named(name)))
            .into();
        assert_eq!(changes.next().await, told);
    }
}
