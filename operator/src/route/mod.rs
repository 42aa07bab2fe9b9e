//! Which controllers look again when something has changed.

mod due;
mod queues;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, time::Duration};

use kube::runtime::reflector::ObjectRef;
use railhead_crds::{Fabric, TrainingNetwork, names};
use tokio::time::Instant;

use self::due::Due;
pub(crate) use self::queues::{Queues, queues};
use crate::{
    changes::Changes,
    conditions,
    facts::Facts,
    freed::Freed,
    observe::{Change, Named, named},
    pod::is_unschedulable,
    recount,
    world::World,
};

/// How long changes are gathered after some were handed on.
const GATHER: Duration = Duration::from_millis(50);

/// Hands changes on for ever.
///
/// A first change is handed on at once, what follows it together after [`GATHER`]; so a controller hears of an object that
/// changes all the time as often as of one that changes seldom.
pub(crate) async fn route(world: World, queues: Queues, changes: Changes) {
    // Kept from here on: what changed before is in the stores.
    changes.begin();
    let mut router = Router::default();
    router.facts.begin(&world);
    world.contested.look(&world);
    world.surroundings.look(&world.services, &world.nodes);
    // Somebody may have waited for a leader: his network comes before what is as it should be already, and before what is free is
    // counted.
    queues.waiting_networks(&world);
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

#[derive(Default)]
struct Router {
    facts: Facts,
    /// Fabrics look at all their nodes, and at how full they are.
    nodes: Due,
    /// Nodes or Services may have other addresses. Looked at when fabrics look at their nodes.
    surroundings: bool,
    /// What is free on all ports.
    ports: Due,
    /// What is used of quotas.
    quotas: Due,
    /// Somebody may have what somebody else has as well. Looked at when fabrics look at how full they are.
    contested: bool,
    /// Pods that the scheduler turned away since what is free was found last. They look when it is found again.
    turned_away: HashSet<Named>,
}

/// What is to look again, each once.
#[derive(Default)]
struct Asked {
    fabrics: HashSet<String>,
    classes: bool,
    /// All networks that wait.
    waiting_networks: bool,
    /// Networks that wait for room on a fabric, and not only in a quota of their namespace.
    room: bool,
    networks: HashSet<Named>,
    /// Networks that wait in these namespaces.
    waiting_in: HashSet<String>,
    quotas: HashSet<Named>,
    slices: HashSet<Named>,
    /// Slices of these networks.
    slices_of: HashSet<Named>,
    pods: HashSet<Named>,
    templates: HashSet<Named>,
    /// Pods that name these networks.
    pods_of: HashSet<Named>,
    /// Pods of these namespaces that name a network that is not there.
    strays_in: HashSet<String>,
    /// Networks of fabrics from whose ledger something went.
    ledgers: HashSet<String>,
}

/// A network of which something else is to be said now than before.
fn ask_contested(world: &World, uid: &str, asked: &mut Asked) {
    let of_this = |network: &TrainingNetwork| network.metadata.uid.as_deref() == Some(uid);
    if let Some(network) = world.networks.find(of_this) {
        let network = named(&*network);
        asked.slices_of.insert(network.clone());
        asked.networks.insert(network);
    }
}

/// Whether what a Fabric says waits for live networks.
fn has_conflict(fabric: &Fabric) -> bool {
    let conditions = fabric.status.as_ref().map_or(&[][..], |status| &status.conditions);
    conditions::is_true(conditions, "EditConflict")
}

impl Router {
    fn next_due(&self) -> Instant {
        let far = Instant::now() + Duration::from_hours(1);
        let dues = [&self.nodes, &self.ports, &self.quotas];
        dues.iter().filter_map(|due| due.at()).min().unwrap_or(far)
    }

    fn hand_on(&mut self, queues: &Queues, world: &World, changed: HashSet<Change>) {
        let mut asked = Asked::default();
        for change in changed {
            self.ask(queues, world, change, &mut asked);
        }
        if self.nodes.is_due() {
            if std::mem::take(&mut self.contested) {
                for uid in world.contested.look(world) {
                    ask_contested(world, &uid, &mut asked);
                }
            }
            if std::mem::take(&mut self.surroundings) {
                world.surroundings.look(&world.services, &world.nodes);
                asked.waiting_networks = true;
            }
            queues.all_fabrics(world);
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
        if self.quotas.is_due() {
            queues.all_quotas(world);
            self.quotas.settle();
        }
        queues.send(world, &asked);
    }

    fn ask(&mut self, queues: &Queues, world: &World, change: Change, asked: &mut Asked) {
        match change {
            Change::Fabric(name) => {
                // The other defaults may be in conflict with this one, or no more.
                self.nodes.ask();
                if self.facts.fabric_is_news(world, &name) {
                    self.quotas.ask();
                    asked.fabrics.insert(name);
                    asked.waiting_networks = true;
                }
            }
            Change::Class(name) => {
                // The other defaults may be in conflict with this one, or no more.
                if self.facts.class_is_news(world, &name) {
                    asked.classes = true;
                    asked.waiting_networks = true;
                }
            }
            Change::Network(network) => {
                if self.facts.pods_have_news_of_network(world, &network) {
                    asked.strays_in.insert(network.namespace.clone());
                    asked.pods_of.insert(network.clone());
                    // One that is gone may have left it.
                    asked
                        .templates
                        .insert(network.beside(names::claim_template(&network.name)));
                }
                asked.networks.insert(network);
            }
            Change::Slice { slice, network } => {
                let network = slice.beside(network);
                if self.facts.pods_have_news_of_slice(world, &slice) {
                    self.quotas.ask();
                    asked.pods_of.insert(network.clone());
                    self.nodes.ask();
                    self.contested = true;
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
                    // A port may wait for its pods.
                    if world.fabrics.find(has_conflict).is_some() {
                        self.nodes.ask();
                    }
                    queues.freed(Freed { slice, index, uid });
                }
            }
            Change::NodeNetwork(name) => {
                // One that goes makes room for another fabric that selects the node.
                let concerns_a_ledger = recount::concerns_a_ledger(world, &name);
                if concerns_a_ledger {
                    world.words.count();
                }
                if self.facts.fabric_has_news(world, &name) || concerns_a_ledger {
                    self.nodes.ask();
                }
                asked.waiting_networks |= self.facts.networks_have_news(world, &name);
            }
            Change::Node(name) => {
                if self.facts.node_is_news(world, &name) {
                    // What was said of one that is there again counts again.
                    world.words.count();
                    self.nodes.ask();
                    self.surroundings = true;
                }
            }
            Change::Namespace(name) => {
                if self.facts.namespace_is_news(world, &name) {
                    asked.waiting_in.insert(name);
                }
            }
            Change::Quota(quota) => {
                // Its status is written here.
                if self.facts.quota_is_news(world, &quota) {
                    asked.waiting_in.insert(quota.namespace.clone());
                    asked.quotas.insert(quota);
                }
            }
            Change::Ledger { fabric } => {
                self.nodes.ask();
                self.quotas.ask();
                self.contested = true;
                // Somebody's release is somebody else's room.
                if let Some(namespaces) = self.facts.ledger_let_go(world, &fabric) {
                    asked.room = true;
                    asked.waiting_in.extend(namespaces);
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
            Change::Template(template) => {
                // Its network makes it again, or waits for its end.
                if let Some(network) = names::network_of_claim_template(&template.name) {
                    asked.networks.insert(template.beside(network.to_owned()));
                }
                asked.templates.insert(template);
            }
            Change::Services => {
                self.nodes.ask();
                self.surroundings = true;
            }
            Change::Schemas => {
                self.nodes.ask();
                asked.waiting_networks = true;
            }
            Change::Bandwidth => self.ports.ask(),
        }
    }
}
