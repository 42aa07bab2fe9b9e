//! The two watches of the agent, each on one object of its own node.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use railhead_crds::{NodeNetwork, names};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::agent::Agent;

/// How often the API server is asked whether it has the NodeNetwork that its watch told of last. One that was restored from a backup
/// counts from an earlier version on, and a watch from a later one tells of nothing until it has counted so far again.
const LOOK: Duration = Duration::from_mins(1);
/// How long a watch may take to tell of a version that the API server has. One that was silent for so long has missed it.
const LAG: Duration = Duration::from_secs(10);

/// What the API server has said of the node so far. An agent that has just started knows nothing, which is not the same as
/// that no fabric selects its node: then it would give back what pods use.
#[derive(Clone, Debug, Default)]
pub enum Selection {
    /// It has not said anything yet.
    #[default]
    Unknown,
    /// No fabric selects the node: there is no NodeNetwork of its name.
    None,
    /// The node's NodeNetwork, as the operator last wrote it.
    Fabric(Arc<NodeNetwork>),
}

/// Keeps `latest` at what the API server says of the node.
pub async fn watch_node_network(agent: Arc<Agent>, latest: watch::Sender<Selection>) {
    let api: Api<NodeNetwork> = Api::all(agent.client.clone());
    let config = watcher::Config::default().fields(&format!("metadata.name={}", agent.node));
    let begin = || watcher::watcher(api.clone(), config.clone()).default_backoff().boxed();
    let mut events = begin();
    let mut looks = interval_at(Instant::now() + spread(&agent.node, LOOK), LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What the watch had told of when the API server had something else.
    let mut behind = None;
    // What a list that is being read has shown so far.
    let mut listed = Selection::None;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => {
                    if let Some(selection) = heard(event, &mut listed) {
                        latest.send_if_modified(|last| {
                            let is_news = is_news(last, &selection);
                            *last = selection;
                            is_news
                        });
                    }
                }
                Some(Err(error)) => tracing::warn!(%error, "the watch of the NodeNetwork was interrupted"),
                None => return,
            },
            _ = looks.tick() => {
                let told = latest.borrow().version();
                // As it is stored: a cache of the API server's may be as far as the watch.
                match api.get_metadata_opt(&agent.node).await {
                    Ok(stored) if told.as_ref().is_none_or(|told| *told == version(stored.as_ref())) => behind = None,
                    Ok(_) if behind != told => {
                        behind = told;
                        looks.reset_after(LAG);
                    }
                    Ok(_) => {
                        tracing::warn!(
                            "the API server has another NodeNetwork than its watch told of, as after a restore from a backup: the watch begins anew"
                        );
                        events = begin();
                        behind = None;
                    }
                    Err(error) => tracing::debug!(%error, "it is not known whether the watch of the NodeNetwork missed something"),
                }
            }
        }
    }
}

/// Which object, in which version; nothing of one that is not there.
type Version = Option<(Option<String>, Option<String>)>;

fn version<K: Resource>(object: Option<&K>) -> Version {
    object.map(|object| (object.meta().uid.clone(), object.meta().resource_version.clone()))
}

impl Selection {
    /// Which NodeNetwork the watch told of last, once it has told of any or of none.
    fn version(&self) -> Option<Version> {
        match self {
            Self::Unknown => None,
            Self::None => Some(None),
            Self::Fabric(network) => Some(version(Some(&**network))),
        }
    }
}

/// A part of `period`, another one on each node: agents that started together do not ask together.
fn spread(node: &str, period: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    let part = u32::try_from(hasher.finish() % 1000).unwrap_or(0);
    period * part / 1000
}

/// What an event says of the node, if anything yet.
fn heard(event: Event<NodeNetwork>, listed: &mut Selection) -> Option<Selection> {
    match event {
        Event::Init => {
            *listed = Selection::None;
            None
        }
        Event::InitApply(network) => {
            *listed = Selection::Fabric(Arc::new(network));
            None
        }
        Event::InitDone => Some(std::mem::replace(listed, Selection::None)),
        Event::Apply(network) => Some(Selection::Fabric(Arc::new(network))),
        Event::Delete(_) => Some(Selection::None),
    }
}

/// Whether there is more to it than a status, which this agent writes itself: each of its passes would be followed by another one.
fn is_news(last: &Selection, now: &Selection) -> bool {
    match (last, now) {
        (Selection::Fabric(last), Selection::Fabric(now)) => {
            last.metadata.uid != now.metadata.uid
                || last.metadata.generation != now.metadata.generation
                // One that was restored may count its generations once more.
                || last.spec != now.spec
                || last.metadata.deletion_timestamp != now.metadata.deletion_timestamp
        }
        (Selection::None, Selection::None) => false,
        _ => true,
    }
}

/// Rings `node_changed` when the node's ResourceSlice changes: kubelet wipes it when it starts and when it has lost the
/// plugin for 30 s.
pub async fn watch_slices(agent: Arc<Agent>) {
    let api: Api<ResourceSlice> = Api::all(agent.client.clone());
    let config =
        watcher::Config::default().fields(&format!("spec.nodeName={},spec.driver={}", agent.node, names::DRIVER));
    let mut events = watcher::watcher(api, config).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Delete(_) | Event::Apply(_) | Event::InitDone) => {
                agent.node_changed.notify_one();
            }
            Ok(Event::Init | Event::InitApply(_)) => {}
            Err(error) => tracing::warn!(%error, "the watch of the ResourceSlice was interrupted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use railhead_crds::{NodeNetworkSpec, VfManagement};

    use super::*;

    fn network() -> NodeNetwork {
        let spec = NodeNetworkSpec {
            fabric_name: "backend".to_owned(),
            vf_management: VfManagement::Observed,
            mtu: 9000,
            rdma: false,
            rdma_required: false,
            teardown: false,
            recount: None,
            rails: Vec::new(),
        };
        NodeNetwork::new("node1", spec)
    }

    fn said(events: Vec<Event<NodeNetwork>>) -> Vec<String> {
        let mut listed = Selection::None;
        let heard = events.into_iter().filter_map(|event| heard(event, &mut listed));
        heard
            .map(|selection| format!("{selection:?}").chars().take(6).collect())
            .collect()
    }

    /// What decides whether an agent gives its node back: silence does not, an empty list and a deletion do.
    #[test]
    fn only_a_list_without_the_node_and_a_deletion_say_that_no_fabric_selects_it() {
        assert!(matches!(Selection::default(), Selection::Unknown));
        assert!(said(vec![Event::Init]).is_empty());
        assert_eq!(said(vec![Event::Init, Event::InitDone]), ["None"]);
        assert!(said(vec![Event::Init, Event::InitApply(network())]).is_empty());
        assert_eq!(
            said(vec![Event::Init, Event::InitApply(network()), Event::InitDone]),
            ["Fabric"]
        );
        assert_eq!(
            said(vec![Event::Apply(network()), Event::Delete(network())]),
            ["Fabric", "None"]
        );
    }

    #[test]
    fn a_status_alone_is_no_news_and_a_spec_or_another_object_is() {
        let fabric = |uid: &str, generation: i64, carrier: bool| {
            let mut network = network();
            network.metadata.uid = Some(uid.to_owned());
            network.metadata.generation = Some(generation);
            network.status = carrier.then(Default::default);
            Selection::Fabric(Arc::new(network))
        };
        let first = fabric("u-1", 1, false);
        assert!(!is_news(&first, &fabric("u-1", 1, true)));
        assert!(is_news(&first, &fabric("u-1", 2, false)));
        assert!(is_news(&first, &fabric("u-2", 1, false)));
        assert!(is_news(&first, &Selection::None));
        assert!(is_news(&Selection::Unknown, &Selection::None), "the first word");
        assert!(!is_news(&Selection::None, &Selection::None));
    }

    #[test]
    fn agents_that_start_together_do_not_ask_together() {
        let first: Vec<Duration> = (0..100).map(|node| spread(&format!("gpu-{node}"), LOOK)).collect();
        assert!(first.iter().all(|first| *first < LOOK));
        let early = first.iter().filter(|first| **first < LOOK / 2).count();
        assert!((25..75).contains(&early), "{early} of 100 in the first half");
    }

    /// A list that was cut off and begun again says nothing of what the first one showed.
    #[test]
    fn a_list_begun_again_forgets_the_one_before() {
        let events = vec![Event::Init, Event::InitApply(network()), Event::Init, Event::InitDone];
        assert_eq!(said(events), ["None"]);
    }
}
