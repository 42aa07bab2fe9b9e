//! Which controllers look again when something has changed.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Resource,
    runtime::reflector::{ObjectRef, Store},
};
use railhead_crds::{Fabric, NetworkSlice, QosClass, TrainingNetwork, names};
use railhead_planner::bandwidth;
use tokio::{sync::watch, time::Instant};

use crate::{
    changes::Changes,
    conditions,
    facts::Facts,
    freed::Freed,
    observe::{Change, Named},
    pod::{Free, is_unschedulable},
    world::World,
};

/// How long changes are gathered after some were handed on.
const GATHER: Duration = Duration::from_millis(50);
/// How long at least from one look at all nodes or all ports to the next.
const LARGE: Duration = Duration::from_secs(1);

/// The queues of the controllers.
pub(crate) struct Queues {
    fabrics: UnboundedSender<ObjectRef<Fabric>>,
    classes: UnboundedSender<ObjectRef<QosClass>>,
    networks: UnboundedSender<ObjectRef<TrainingNetwork>>,
    slices: UnboundedSender<ObjectRef<NetworkSlice>>,
    pods: UnboundedSender<ObjectRef<Pod>>,
    freed: UnboundedSender<Freed>,
    free: watch::Sender<Option<Arc<Free>>>,
}

/// The controllers' ends of the queues.
pub(crate) struct Inboxes {
    pub(crate) fabrics: UnboundedReceiver<ObjectRef<Fabric>>,
    pub(crate) classes: UnboundedReceiver<ObjectRef<QosClass>>,
    pub(crate) networks: UnboundedReceiver<ObjectRef<TrainingNetwork>>,
    pub(crate) slices: UnboundedReceiver<ObjectRef<NetworkSlice>>,
    pub(crate) pods: UnboundedReceiver<ObjectRef<Pod>>,
    pub(crate) freed: UnboundedReceiver<Freed>,
    /// What is left on all ports, since it was counted first.
    pub(crate) free: watch::Receiver<Option<Arc<Free>>>,
}

/// Both ends.
pub(crate) fn queues() -> (Queues, Inboxes) {
    let (fabrics, fabrics_in) = unbounded();
    let (classes, classes_in) = unbounded();
    let (networks, networks_in) = unbounded();
    let (slices, slices_in) = unbounded();
    let (pods, pods_in) = unbounded();
    let (freed, indices) = unbounded();
    let (free, free_in) = watch::channel(None);
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

/// Hands changes on for ever.
///
/// A first change is handed on at once, what follows it together after [`GATHER`]; so a controller hears of an object that
/// changes all the time as often as of one that changes seldom.
pub(crate) async fn route(world: World, queues: Queues, changes: Changes) {
    // Kept from here on: what changed before is in the stores.
    changes.begin();
    let mut router = Router::default();
    queues.bandwidth(&world);
    queues.everything(&world);
    loop {
        let news = tokio::select! {
            news = changes.next() => news,
            () = tokio::time::sleep_until(router.next_due()) => HashSet::new(),
        };
        router.hand_on(&queues, &world, news);
        tokio::time::sleep(GATHER).await;
    }
}

/// Work that costs as much as the cluster is large: done for all changes of a while together.
#[derive(Default)]
struct Due {
    asked: bool,
    done: Option<Instant>,
}

impl Due {
    fn ask(&mut self) {
        self.asked = true;
    }

    fn at(&self) -> Option<Instant> {
        let now = Instant::now();
        self.asked
            .then(|| self.done.map_or(now, |done| (done + LARGE).max(now)))
    }

    fn is_due(&self) -> bool {
        self.at().is_some_and(|at| at <= Instant::now())
    }

    fn settle(&mut self) {
        self.asked = false;
        self.done = Some(Instant::now());
    }
}

#[derive(Default)]
struct Router {
    facts: Facts,
    /// Fabrics look at all their nodes.
    nodes: Due,
    /// What is free on all ports.
    ports: Due,
    /// Pods that the scheduler turned away since what is free was found last. They look when it is found again.
    turned_away: HashSet<Named>,
}

/// What is to look again, each once.
#[derive(Default)]
struct Asked {
    fabrics: HashSet<String>,
    classes: bool,
    waiting_networks: bool,
    networks: HashSet<Named>,
    slices: HashSet<Named>,
    /// Slices of these networks.
    slices_of: HashSet<Named>,
    pods: HashSet<Named>,
    /// Pods that name these networks.
    pods_of: HashSet<Named>,
    /// Pods of these namespaces that name a network that is not there.
    strays_in: HashSet<String>,
    /// Networks of fabrics from whose ledger something went.
    ledgers: HashSet<String>,
}

impl Router {
    fn next_due(&self) -> Instant {
        let far = Instant::now() + Duration::from_hours(1);
        self.nodes.at().into_iter().chain(self.ports.at()).min().unwrap_or(far)
    }

    fn hand_on(&mut self, queues: &Queues, world: &World, changed: HashSet<Change>) {
        let mut asked = Asked::default();
        for change in changed {
            self.ask(queues, world, change, &mut asked);
        }
        if self.nodes.is_due() {
            send_all(&queues.fabrics, &world.fabrics, |_| true);
            self.nodes.settle();
        }
        if self.ports.is_due() {
            // Nothing is counted while nobody waits for room; whoever is turned away later asks.
            if !self.turned_away.is_empty() || world.pods.find(is_unschedulable).is_some() {
                // Those of before look only where something else is free, these ones have not looked yet.
                queues.bandwidth(world);
                asked.pods.extend(self.turned_away.drain());
            }
            self.ports.settle();
        }
        queues.send(world, &asked);
    }

    fn ask(&mut self, queues: &Queues, world: &World, change: Change, asked: &mut Asked) {
        match change {
            Change::Fabric(name) => {
                if self.facts.fabric_is_news(world, &name) {
                    // The other defaults may be in conflict with this one, or no more.
                    self.nodes.ask();
                    asked.waiting_networks = true;
                }
                asked.fabrics.insert(name);
            }
            Change::Class(_) => {
                asked.classes = true;
                asked.waiting_networks = true;
            }
            Change::Network(network) => {
                if self.facts.pods_have_news_of_network(world, &network) {
                    asked.strays_in.insert(network.namespace.clone());
                    asked.pods_of.insert(network.clone());
                }
                asked.networks.insert(network);
            }
            Change::Slice { slice, network } => {
                let network = slice.beside(network);
                if self.facts.pods_have_news_of_slice(world, &slice) {
                    asked.pods_of.insert(network.clone());
                }
                asked.networks.insert(network);
                asked.slices.insert(slice);
            }
            Change::Attachment {
                slice,
                network,
                index,
                uid,
            } => {
                let name = names::attachment(&slice.name, index);
                let there = world.attachments.get(&ObjectRef::new(&name).within(&slice.namespace));
                asked.networks.insert(slice.beside(network));
                asked.slices.insert(slice.clone());
                if there.is_none() {
                    let _ = queues.freed.unbounded_send(Freed { slice, index, uid });
                }
            }
            Change::NodeNetwork(name) => {
                // One that goes makes room for another fabric that selects the node.
                if self.facts.fabric_has_news(world, &name) {
                    self.nodes.ask();
                }
                asked.waiting_networks |= self.facts.networks_have_news(world, &name);
            }
            Change::Node(name) => {
                if self.facts.node_is_news(world, &name) {
                    self.nodes.ask();
                }
            }
            Change::Ledger { fabric } => {
                asked.fabrics.insert(fabric.clone());
                // Somebody's release is somebody else's room.
                if self.facts.ledger_let_go(world, &fabric) {
                    asked.waiting_networks = true;
                    asked.ledgers.insert(fabric);
                }
            }
            Change::Pod { pod, network } => {
                // A pod that has ended holds its slice no more, even when its attachment went before it.
                let network = pod.beside(network);
                asked.slices_of.insert(network.clone());
                asked.networks.insert(network);
                let there = world.pods.get(&ObjectRef::new(&pod.name).within(&pod.namespace));
                if there.is_some_and(|pod| is_unschedulable(&pod)) {
                    self.turned_away.insert(pod);
                    self.ports.ask();
                } else {
                    asked.pods.insert(pod);
                }
            }
            Change::Bandwidth => self.ports.ask(),
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

    fn send(&self, world: &World, asked: &Asked) {
        for fabric in &asked.fabrics {
            let _ = self.fabrics.unbounded_send(ObjectRef::new(fabric));
        }
        if asked.classes {
            send_all(&self.classes, &world.classes, |_| true);
        }
        if asked.waiting_networks {
            send_all(&self.networks, &world.networks, |network| {
                let conditions = network.status.as_ref().map_or(&[][..], |status| &status.conditions);
                !conditions::is_true(conditions, "Reserved")
            });
        }
        for fabric in &asked.ledgers {
            self.networks_without_entry(world, fabric);
        }
        send_each(&self.networks, &asked.networks);
        send_each(&self.slices, &asked.slices);
        send_each(&self.pods, &asked.pods);
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
    fn bandwidth(&self, world: &World) {
        let now = bandwidth::free(&world.ports.state(), &world.claims.state());
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

#[cfg(test)]
mod tests {
    use kube::runtime::{
        reflector::{store, store::Writer},
        watcher::Event,
    };
    use serde_json::json;

    use super::*;
    use crate::{
        grouped::Grouped,
        network::fixtures,
        world::{network_of_pod, tests::empty},
    };

    #[test]
    fn pods_look_again_only_if_something_else_is_free_than_before() {
        let (claims, mut claims_in) = store();
        let (ports, mut ports_in) = store();
        let (pods, mut pods_in) = store();
        let world = World {
            pods: Grouped::new(pods, network_of_pod),
            ports,
            claims,
            ..empty()
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
        assert_eq!(
            inboxes.free.borrow().as_ref().unwrap().ports()[0].free().to_string(),
            "800M"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_changes_all_the_time_is_handed_on_all_the_same() {
        let (queues, mut inboxes) = queues();
        let changes = Changes::default();
        let router = tokio::spawn(route(empty(), queues, changes.clone()));
        tokio::time::sleep(GATHER * 2).await;
        let start = Instant::now();
        let mut heard = Vec::new();
        // More often than any debounce would forgive.
        while start.elapsed() < Duration::from_secs(2) {
            changes.tell(Change::Network(Named {
                namespace: "team-a".to_owned(),
                name: "llama".to_owned(),
            }));
            tokio::time::sleep(Duration::from_millis(5)).await;
            while inboxes.networks.try_recv().is_ok() {
                heard.push(start.elapsed());
            }
        }
        assert!(heard[0] <= Duration::from_millis(10), "the first: {:?}", heard[0]);
        let longest = heard
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]))
            .max()
            .unwrap();
        assert!(longest <= GATHER * 2, "nothing was heard for {longest:?}");
        assert!(heard.len() <= 50, "{} for 400 changes", heard.len());
        router.abort();
    }

    #[test]
    fn pods_look_again_only_for_what_their_own_network_gives_or_refuses() {
        let (networks, mut networks_in) = store();
        let (pods, mut pods_in) = store();
        let pods = Grouped::new(pods, network_of_pod);
        for (index, network) in [(0, "llama"), (1, "other"), (2, "lama")] {
            let mut pod = fixtures::pod(index);
            let labels = pod.metadata.labels.get_or_insert_default();
            labels.insert(names::NETWORK_LABEL.to_owned(), network.to_owned());
            let event = Event::Apply(pod);
            pods.follow(&event);
            pods_in.apply_watcher_event(&event);
        }
        let world = World {
            networks,
            pods,
            ..empty()
        };
        let (queues, mut inboxes) = queues();
        let mut router = Router::default();
        let mut look = |name: &str, pods: u32, refused: &str| {
            let mut network = fixtures::network(pods);
            network.metadata.name = Some(name.to_owned());
            network.metadata.generation = Some(i64::from(pods));
            network.status = from(json!({
                "summary": {"attached": refused, "rails": 2, "prefix": "", "vlan": "", "stability": "Network"},
                "conditions": [{"type": "Reserved", "status": if refused == "no room" {"False"} else {"True"}, "reason": "x",
                    "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            }));
            apply(&mut networks_in, network);
            router.hand_on(&queues, &world, HashSet::from([Change::Network(fixtures::named(name))]));
            let looked = std::iter::from_fn(|| inboxes.pods.try_recv().ok());
            let mut looked: Vec<String> = looked.map(|pod| pod.name).collect();
            looked.sort_unstable();
            looked
        };
        look("other", 1, "0/1");
        assert_eq!(
            look("llama", 1, "0/1"),
            ["llama-0", "llama-2"],
            "one pod names none that is there"
        );
        assert!(
            look("llama", 1, "1/1").is_empty(),
            "how many are attached is no news to pods"
        );
        assert_eq!(look("llama", 1, "no room"), ["llama-0", "llama-2"]);
        assert_eq!(look("llama", 2, "no room"), ["llama-0", "llama-2"]);
        assert_eq!(look("lama", 1, "0/1"), ["llama-2"]);
        assert_eq!(look("llama", 3, "0/3"), ["llama-0"], "nobody is astray any more");
    }

    #[test]
    fn networks_that_wait_look_again_when_something_was_let_go_and_not_when_others_take_more() {
        let (networks, mut networks_in) = store();
        let (fabrics, mut fabrics_in) = store();
        let (ledgers, mut ledgers_in) = store();
        apply(&mut networks_in, fixtures::network(2));
        let world = World {
            fabrics,
            networks,
            ledgers,
            ..empty()
        };
        let (queues, mut inboxes) = queues();
        let mut router = Router::default();
        let mut looks = |world: &World, change: Change| {
            router.hand_on(&queues, world, HashSet::from([change]));
            inboxes.networks.try_recv().is_ok()
        };
        let mut ledger = |world: &World, vlans: &[u16]| {
            let entries: Vec<_> = vlans
                .iter()
                .map(|vlan| {
                    json!({"base": u32::from(*vlan) * 8, "size": 8, "vlan": vlan, "sequence": 1,
                        "owner": {"namespace": "team-b", "name": "x", "uid": format!("n-{vlan}")}, "state": "Held"})
                })
                .collect();
            apply(
                &mut ledgers_in,
                from(
                    json!({"apiVersion": "railhead.dev/v1alpha1", "kind": "FabricLedger", "metadata": {"name": "backend"},
                    "spec": {"version": 1, "sequence": 1, "entries": entries}}),
                ),
            );
            looks(
                world,
                Change::Ledger {
                    fabric: "backend".to_owned(),
                },
            )
        };
        ledger(&world, &[]);
        assert!(!ledger(&world, &[1000]), "taken");
        assert!(!ledger(&world, &[1000, 1001]), "taken");
        assert!(ledger(&world, &[1001]), "let go");
        assert!(ledger(&world, &[1002]), "one let go and one taken at once");
        let mut fabric = |world: &World, generation: i64, free: u32| {
            let mut fabric = fixtures::fabric();
            fabric.metadata.generation = Some(generation);
            fabric.status = from(json!({"vlansFree": free, "conditions": [], "pools": []}));
            apply(&mut fabrics_in, fabric);
            looks(world, Change::Fabric("backend".to_owned()))
        };
        assert!(fabric(&world, 1, 10), "it came");
        assert!(!fabric(&world, 1, 9), "only its status");
        assert!(fabric(&world, 2, 9), "another spec");
    }

    #[tokio::test(start_paused = true)]
    async fn what_costs_as_much_as_the_cluster_is_large_is_done_once_a_second() {
        let mut due = Due::default();
        assert!(!due.is_due(), "nobody asked");
        let start = Instant::now();
        let mut done = 0;
        while start.elapsed() < Duration::from_secs(10) {
            due.ask();
            if due.is_due() {
                due.settle();
                done += 1;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!((9..=11).contains(&done), "{done} times for 500 changes in 10 s");
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
