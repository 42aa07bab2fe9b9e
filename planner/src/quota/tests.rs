//! Two operators that both believe they lead plan on what they read a while ago; networks come, grow and go; quotas come, change and
//! go. What a namespace takes never goes beyond its quotas, the oldest come first, and nobody is refused for whom there is room.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{prelude::*, sample::Index};
use railhead_crds::{FabricLedgerSpec, reasons::Reason};
use serde_json::json;

use super::*;
use crate::{
    ledger::{self, Refusal, Request, Wanted, empty, tests::release_now},
    network,
    pools::Written,
    slots::{SlotSpace, tests::rail},
};

const NAMESPACES: [&str; 2] = ["team-a", "team-b"];
const RATE: Bandwidth = Bandwidth::from_mbps(1000);

fn limits(networks: Option<u32>, pods: Option<u32>, gigabits: Option<u64>, vlans: Option<u32>) -> QuotaLimits {
    QuotaLimits {
        networks,
        pods,
        bandwidth: gigabits.map(|gigabits| Bandwidth::from_mbps(gigabits * 1000)),
        vlans,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Apply {
        namespace: usize,
        pods: u32,
    },
    Grow {
        network: Index,
    },
    Delete {
        network: Index,
    },
    Limit {
        namespace: usize,
        hard: Option<QuotaLimits>,
    },
    Read {
        operator: usize,
    },
    /// Asks for some of those that it read of, and dies before it makes the slices, or not.
    Reserve {
        operator: usize,
        but: Option<Index>,
        dies: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let some = |most: u32| prop::option::of(0..most);
    let hard = (some(6), some(30), prop::option::of(1u64..60), some(6))
        .prop_map(|(networks, pods, gigabits, vlans)| limits(networks, pods, gigabits, vlans));
    prop_oneof![
        8 => (0..2usize, 1u32..9).prop_map(|(namespace, pods)| Step::Apply { namespace, pods }),
        3 => any::<Index>().prop_map(|network| Step::Grow { network }),
        3 => any::<Index>().prop_map(|network| Step::Delete { network }),
        2 => (0..2usize, prop::option::of(hard)).prop_map(|(namespace, hard)| Step::Limit { namespace, hard }),
        8 => (0..2usize).prop_map(|operator| Step::Read { operator }),
        8 => (0..2usize, prop::option::of(any::<Index>()), any::<bool>())
            .prop_map(|(operator, but, dies)| Step::Reserve { operator, but, dies }),
    ]
}

/// A network as people see it.
#[derive(Clone, Debug)]
struct Applied {
    owner: LedgerOwner,
    pods: u32,
    slice: Option<NetworkSlice>,
}

#[derive(Clone)]
struct Reading {
    version: u64,
    spec: FabricLedgerSpec,
    networks: Vec<Applied>,
    quotas: Vec<Quota>,
}

struct World {
    written: Arc<Written>,
    space: SlotSpace,
    version: u64,
    spec: FabricLedgerSpec,
    /// The oldest first.
    networks: Vec<Applied>,
    quotas: BTreeMap<usize, QuotaLimits>,
    readings: [Option<Reading>; 2],
    /// What each network was given, by arithmetic of its own.
    given: BTreeMap<String, (String, u32)>,
    named: u32,
}

impl World {
    fn new() -> Self {
        let rails = [rail(0, &["10.0.0.0/22"]), rail(1, &["10.1.0.0/22"])];
        Self {
            written: Arc::new(Written::of(&rails)),
            space: SlotSpace::new(&rails).unwrap(),
            version: 0,
            spec: empty(),
            networks: Vec::new(),
            quotas: BTreeMap::new(),
            readings: [None, None],
            given: BTreeMap::new(),
            named: 0,
        }
    }

    fn used(&self, namespace: &str) -> Use {
        let its = self.given.values().filter(|(of, _)| of == namespace);
        its.fold(Use::default(), |sum, (_, pods)| {
            let pods = u64::from(*pods);
            sum.plus(Use {
                networks: 1,
                pods,
                mbps: pods * 2 * 1000,
                vlans: 1,
            })
        })
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        let count = self.networks.len();
        match step {
            Step::Apply { namespace, pods } => {
                self.named += 1;
                let name = format!("n{:08}", self.named);
                let owner = LedgerOwner::new(NAMESPACES[namespace], &name, &name);
                self.networks.push(Applied {
                    owner,
                    pods,
                    slice: None,
                });
            }
            Step::Grow { network } if count > 0 => {
                let network = &mut self.networks[network.index(count)];
                network.pods = (network.pods + 1).min(network.pods.next_power_of_two());
            }
            Step::Delete { network } if count > 0 => {
                let gone = self.networks.remove(network.index(count)).owner.uid;
                self.given.remove(&gone);
                if let Some(next) = release_now(&self.spec, &gone).unwrap() {
                    self.spec = next;
                    self.version += 1;
                }
            }
            Step::Grow { .. } | Step::Delete { .. } => {}
            Step::Limit {
                namespace,
                hard: Some(hard),
            } => {
                self.quotas.insert(namespace, hard);
            }
            Step::Limit { namespace, hard: None } => {
                self.quotas.remove(&namespace);
            }
            Step::Read { operator } => {
                let quota = |(namespace, hard): (&usize, &QuotaLimits)| Quota {
                    namespace: NAMESPACES[*namespace].to_owned(),
                    name: "rails".to_owned(),
                    hard: hard.clone(),
                };
                self.readings[operator] = Some(Reading {
                    version: self.version,
                    spec: self.spec.clone(),
                    networks: self.networks.clone(),
                    quotas: self.quotas.iter().map(quota).collect(),
                });
            }
            Step::Reserve { operator, but, dies } => {
                if let Some(reading) = self.readings[operator].take() {
                    self.reserve(&reading, but, dies)?;
                }
            }
        }
        Ok(())
    }

    fn reserve(&mut self, reading: &Reading, but: Option<Index>, dies: bool) -> Result<(), TestCaseError> {
        let takes = |network: &Applied| LedgerTakes::new(network.pods, 2, RATE);
        let mut asking: Vec<&Applied> = reading.networks.iter().collect();
        asking.retain(|network| {
            network
                .slice
                .as_ref()
                .is_none_or(|slice| slice.spec.pods < network.pods)
        });
        let waiting: Vec<&Applied> = asking
            .iter()
            .copied()
            .filter(|network| network.slice.is_none())
            .collect();
        let bounds = Bounds {
            quotas: reading.quotas.clone(),
            waiting: waiting
                .iter()
                .map(|network| Waits {
                    owner: network.owner.clone(),
                    takes: takes(network),
                })
                .collect(),
        };
        if let Some(but) = but.filter(|_| !asking.is_empty()) {
            asking.remove(but.index(asking.len()));
        }
        let request = |network: &Applied| Request {
            owner: network.owner.clone(),
            wanted: match network.slice {
                None => Wanted::Block {
                    pods: network.pods,
                    takes: takes(network),
                    written: Arc::clone(&self.written),
                },
                Some(_) => Wanted::More { takes: takes(network) },
            },
        };
        let requests: Vec<Request> = asking.iter().map(|network| request(network)).collect();
        let slices: Vec<NetworkSlice> = reading
            .networks
            .iter()
            .filter_map(|network| network.slice.clone())
            .collect();
        let outcome = ledger::reserve(&reading.spec, &slices, &requests, &bounds);
        prop_assert_eq!(outcome.changed, outcome.ledger != reading.spec);
        if self.version != reading.version {
            return Ok(());
        }
        let before = NAMESPACES.map(|namespace| self.used(namespace));
        for (network, result) in asking.iter().zip(&outcome.results) {
            let uid = &network.owner.uid;
            let namespace = &network.owner.namespace;
            let quotas: Vec<&Quota> = reading
                .quotas
                .iter()
                .filter(|quota| quota.namespace == *namespace)
                .collect();
            let mut others = Use::default();
            for (of, pods) in self
                .given
                .iter()
                .filter(|(other, _)| *other != uid)
                .map(|(_, given)| given)
            {
                if of == namespace {
                    others = others.plus(Use::of(&LedgerTakes::new(*pods, 2, RATE)));
                }
            }
            let mut missing = excess(quotas.iter().copied(), others, Use::of(&takes(network)));
            let own = self
                .given
                .get(uid)
                .map_or_else(Use::default, |(_, pods)| Use::of(&LedgerTakes::new(*pods, 2, RATE)));
            missing.retain(|limit| limit.asked > limit.measure.of(&own));
            match result {
                Ok(entry) => {
                    // Those that came before in this batch are counted by now, and they are older.
                    let was_given = self.given.get(uid).is_some_and(|(_, pods)| *pods >= network.pods);
                    prop_assert!(
                        was_given || missing.is_empty(),
                        "{:?} got more than there is: {missing:?}",
                        network.owner
                    );
                    let given = self.given.entry(uid.clone()).or_insert((namespace.clone(), 0));
                    given.1 = given.1.max(entry.takes.as_ref().map_or(0, |takes| takes.pods));
                }
                Err(Refusal::QuotaExceeded { excess, .. }) => prop_assert_eq!(excess, &missing),
                Err(Refusal::Behind { older }) => {
                    prop_assert!(missing.is_empty());
                    let place = |owner: &LedgerOwner| reading.networks.iter().position(|other| other.owner == *owner);
                    prop_assert!(place(older) < place(&network.owner) && older.namespace == *namespace);
                    prop_assert!(asking.iter().all(|asks| asks.owner != **older), "it asks itself");
                }
                Err(other) => prop_assert_eq!(other.reason(), "PoolExhausted"),
            }
        }
        for (namespace, before) in NAMESPACES.iter().zip(before) {
            let after = self.used(namespace);
            for quota in reading.quotas.iter().filter(|quota| quota.namespace == *namespace) {
                for measure in Measure::ALL {
                    let most = measure.limit(&quota.hard).unwrap_or(u64::MAX).max(measure.of(&before));
                    prop_assert!(measure.of(&after) <= most, "{namespace} takes {after:?} of {quota:?}");
                }
            }
        }
        if outcome.changed {
            self.spec = outcome.ledger;
            self.version += 1;
        }
        if !dies {
            let got: Vec<(LedgerOwner, LedgerEntry)> = asking
                .iter()
                .zip(outcome.results)
                .filter_map(|(network, result)| Some((network.owner.clone(), result.ok()?)))
                .collect();
            self.make_slices(&got);
        }
        // The ledger says of everybody what he was given.
        for entry in self.spec.entries.iter().filter(|entry| counts(entry)) {
            let slice = self.networks.iter().find(|network| network.owner == entry.owner);
            let used = Use::of_entry(entry, slice.and_then(|network| network.slice.as_ref()));
            prop_assert_eq!(used.pods, u64::from(self.given[&entry.owner.uid].1));
        }
        Ok(())
    }

    fn make_slices(&mut self, got: &[(LedgerOwner, LedgerEntry)]) {
        for (owner, entry) in got {
            let Some(network) = self.networks.iter_mut().find(|network| network.owner == *owner) else {
                continue;
            };
            let pods = entry.takes.as_ref().unwrap().pods;
            match &mut network.slice {
                Some(slice) => slice.spec.pods = slice.spec.pods.max(pods),
                none @ None => {
                    let mut applied = network::tests::network(json!({"pods": pods, "bandwidthPerRail": "1G"}));
                    applied.metadata.name = Some(owner.name.clone());
                    applied.metadata.namespace = Some(owner.namespace.clone());
                    applied.metadata.uid = Some(owner.uid.clone());
                    let mut class = network::tests::class();
                    class.spec.bandwidth.maximum = None;
                    let no_nodes: [railhead_crds::NodeNetwork; 0] = [];
                    let fabrics = [network::tests::fabric()];
                    let anybody = network::tests::ANYBODY;
                    let resolved = network::resolve(&applied, &anybody, &fabrics, &[class], &no_nodes).unwrap();
                    *none = Some(network::slice(&applied, &resolved, &self.space, entry).unwrap());
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn a_namespace_never_takes_more_than_its_quotas_allow(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.take(step)?;
        }
    }
}

fn asks(uid: &str, pods: u32) -> (Waits, Request) {
    let owner = LedgerOwner::new("team-a", uid, uid);
    let takes = LedgerTakes::new(pods, 2, RATE);
    let written = Arc::new(Written::of(&[rail(0, &["10.0.0.0/24"]), rail(1, &["10.1.0.0/24"])]));
    let wanted = Wanted::Block {
        pods,
        takes: takes.clone(),
        written,
    };
    (
        Waits {
            owner: owner.clone(),
            takes,
        },
        Request { owner, wanted },
    )
}

fn bounds(hard: QuotaLimits, waiting: &[&Waits]) -> Bounds {
    Bounds {
        quotas: vec![Quota {
            namespace: "team-a".to_owned(),
            name: "rails".to_owned(),
            hard,
        }],
        waiting: waiting.iter().map(|waits| (*waits).clone()).collect(),
    }
}

const NO_SLICES: &[NetworkSlice] = &[];

#[test]
fn a_refusal_has_what_is_asked_used_and_allowed_and_what_to_do() {
    let (_, llama) = asks("llama", 6);
    let (_, qwen) = asks("qwen", 3);
    let bounds = bounds(limits(Some(4), Some(8), Some(15), None), &[]);
    let held = ledger::reserve(&empty(), NO_SLICES, &[llama], &bounds).ledger;
    let refused = ledger::reserve(&held, NO_SLICES, &[qwen], &bounds)
        .results
        .remove(0)
        .unwrap_err();
    assert_eq!(refused.reason(), Reason::QuotaExceeded);
    assert_eq!(
        refused.to_string(),
        "namespace team-a has no room for it: NetworkQuota rails, spec.hard.pods: 3 asked, 6 used by other networks, 8 allowed; \
         NetworkQuota rails, spec.hard.bandwidth: 6G asked, 12G used by other networks, 15G allowed: delete networks of the \
         namespace that are not needed, ask for less, or ask the platform team to raise the limit; the network gets it by itself \
         when there is room"
    );
    let (_, mut elsewhere) = asks("qwen", 3);
    elsewhere.owner.namespace = "team-b".to_owned();
    assert!(ledger::reserve(&held, NO_SLICES, &[elsewhere], &bounds).results[0].is_ok());
}

#[test]
fn what_an_earlier_release_or_a_slice_says_counts_too() {
    let (_, llama) = asks("llama", 3);
    let mut ledger = ledger::reserve(&empty(), NO_SLICES, &[llama], &Bounds::default()).ledger;
    ledger.entries[0].takes = None;
    let entry = &ledger.entries[0];
    let used = Use::of_entry(entry, None);
    assert_eq!(
        (used.networks, used.pods, used.mbps, used.vlans),
        (1, 4, 0, 1),
        "its block"
    );
    let (_, slice) = network::tests::reserved(&network::tests::network(json!({"pods": 3})));
    let used = Use::of_entry(entry, Some(&slice));
    assert_eq!((used.pods, used.mbps), (3, 3 * 2 * 200));
    let mut entry = entry.clone();
    entry.takes = Some(LedgerTakes::new(5, 2, RATE));
    assert_eq!(Use::of_entry(&entry, Some(&slice)).pods, 5, "it is about to grow");
}

#[test]
fn a_younger_network_waits_for_an_older_one_that_has_not_asked_yet_only_if_that_has_room() {
    let (old, asks_old) = asks("old", 4);
    let (young, asks_young) = asks("young", 4);
    let one = bounds(limits(Some(1), None, None, None), &[&old, &young]);
    let alone = ledger::reserve(&empty(), NO_SLICES, std::slice::from_ref(&asks_young), &one);
    let Err(Refusal::Behind { older }) = &alone.results[0] else {
        panic!("{:?}", alone.results)
    };
    assert_eq!(older.name, "old");
    let both = ledger::reserve(&empty(), NO_SLICES, &[asks_old, asks_young.clone()], &one);
    assert!(both.results[0].is_ok());
    assert_eq!(both.results[1].as_ref().unwrap_err().reason(), Reason::QuotaExceeded);
    let two = bounds(limits(Some(2), None, None, None), &[&old, &young]);
    assert!(ledger::reserve(&empty(), NO_SLICES, std::slice::from_ref(&asks_young), &two).results[0].is_ok());
    // The older one is too large in any case.
    let small = bounds(limits(None, Some(3), None, None), &[&old, &young]);
    let (_, little) = asks("young", 2);
    assert!(ledger::reserve(&empty(), NO_SLICES, &[little], &small).results[0].is_ok());
}

/// Without a slice nobody else knows how much it got.
#[test]
fn a_reservation_without_a_slice_is_raised_only_as_far_as_there_is_room() {
    let (_, llama) = asks("llama", 4);
    let none = Bounds::default();
    let held = ledger::reserve(&empty(), NO_SLICES, std::slice::from_ref(&llama), &none).ledger;
    let mut dearer = llama.clone();
    let Wanted::Block { takes, .. } = &mut dearer.wanted else {
        unreachable!()
    };
    takes.bandwidth_per_rail = Bandwidth::from_mbps(2000);
    let ask = |bounds: &Bounds| ledger::reserve(&held, NO_SLICES, std::slice::from_ref(&dearer), bounds);
    let room = ask(&bounds(limits(None, None, Some(16), None), &[]));
    assert!(room.changed);
    let takes = room.results[0].as_ref().unwrap().takes.as_ref().unwrap();
    assert_eq!(takes.bandwidth_per_rail.mbps(), 2000);
    let full = ask(&bounds(limits(None, None, Some(15), None), &[]));
    assert_eq!(
        (full.results[0].as_ref().unwrap_err().reason(), full.changed),
        (Reason::QuotaExceeded, false)
    );
    assert!(!ask(&none).changed, "nobody counts");
}
