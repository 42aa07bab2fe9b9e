//! Everybody who changes something: people who apply, edit and delete networks and namespaces, kubelets with their pods, somebody who
//! repairs ledgers, and whatever befalls the operators.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    api::{Api, items},
    facts::BY_HAND,
    nodes::{self, Node, Wired},
    rival::Rival,
    way::Fault,
};

/// How the names of all namespaces of the soak begin.
pub(super) const NAMESPACES: &str = "soak-";
/// Namespaces that one worker has at a time.
const AT_A_TIME: usize = 3;
/// Networks and pods that one worker lets live at a time.
const NETWORKS: u64 = 24;
const PODS: usize = 48;
/// Fabrics of the soak, all small, so that they are often full.
pub(super) const FABRICS: [&str; 3] = ["soak-a", "soak-b", "soak-c"];

/// Of 1000 operations so many are of each sort.
const SORTS: [(Sort, u64); 12] = [
    (Sort::Apply, 220),
    (Sort::Delete, 190),
    (Sort::Edit, 60),
    (Sort::Attach, 230),
    (Sort::Detach, 190),
    (Sort::ForceDelete, 25),
    (Sort::DeleteNamespace, 8),
    (Sort::EditFabric, 8),
    (Sort::Fault, 35),
    (Sort::Cut, 6),
    (Sort::DelayWatches, 12),
    (Sort::Kill, 4),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    Apply,
    Delete,
    Edit,
    Attach,
    Detach,
    ForceDelete,
    DeleteNamespace,
    EditFabric,
    Fault,
    Cut,
    DelayWatches,
    Kill,
}

/// Somebody who does one thing after the other, in namespaces of its own.
pub(super) struct Worker {
    pub(super) admin: Api,
    /// May write ledgers.
    pub(super) repairer: Api,
    pub(super) nodes: Vec<Node>,
    pub(super) rivals: Vec<Arc<Rival>>,
    random: fastrand::Rng,
    number: usize,
    made: u64,
    namespaces: Vec<String>,
    wired: Vec<Wired>,
    copies: BTreeMap<String, Vec<Value>>,
    /// How many of each sort were tried.
    done: BTreeMap<Sort, u64>,
}

impl Worker {
    pub(super) fn new(
        number: usize,
        random: fastrand::Rng,
        (admin, repairer): (&Api, &Api),
        nodes: &[Node],
        rivals: &[Arc<Rival>],
    ) -> Result<Self> {
        let mut worker = Self {
            admin: admin.clone(),
            repairer: repairer.clone(),
            nodes: nodes.to_vec(),
            rivals: rivals.to_vec(),
            random,
            number,
            made: 0,
            namespaces: Vec::new(),
            wired: Vec::new(),
            copies: BTreeMap::new(),
            done: BTreeMap::new(),
        };
        for _ in 0..AT_A_TIME {
            worker.make_namespace()?;
        }
        Ok(worker)
    }

    /// What was done, for people.
    pub(super) fn summary(workers: &[Self]) -> String {
        let mut all: BTreeMap<Sort, u64> = BTreeMap::new();
        for (sort, count) in workers.iter().flat_map(|worker| &worker.done) {
            *all.entry(*sort).or_default() += count;
        }
        let all: Vec<String> = all.iter().map(|(sort, count)| format!("{sort:?} {count}")).collect();
        all.join(", ")
    }

    /// Does one thing. Whether it was granted does not matter: an API server that cannot be asked does.
    pub(super) fn operate(&mut self) -> Result<()> {
        let all: u64 = SORTS.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random.u64(..all);
        let sort = SORTS.iter().find(|(_, weight)| {
            let is_it = left < *weight;
            left = left.saturating_sub(*weight);
            is_it
        });
        let sort = sort.map_or(Sort::Apply, |(sort, _)| *sort);
        *self.done.entry(sort).or_default() += 1;
        match sort {
            Sort::Apply => self.apply(),
            Sort::Delete => self.delete(),
            Sort::Edit => self.edit(),
            Sort::Attach => self.attach(),
            Sort::Detach => self.detach(),
            Sort::ForceDelete => self.force_delete(),
            Sort::DeleteNamespace => self.delete_namespace(),
            Sort::EditFabric => self.edit_fabric(),
            Sort::Fault => {
                self.fault();
                Ok(())
            }
            Sort::Cut => {
                self.cut();
                Ok(())
            }
            Sort::DelayWatches => {
                let by = Duration::from_millis(self.random.u64(..4000));
                if let Some(rival) = self.rival() {
                    rival.way.delay_watches(by);
                }
                Ok(())
            }
            Sort::Kill => {
                if let Some(rival) = self.rival() {
                    rival.way.kill();
                }
                Ok(())
            }
        }
        .with_context(|| format!("{sort:?}"))
    }

    fn rival(&mut self) -> Option<Arc<Rival>> {
        self.random.choice(&self.rivals).cloned()
    }

    fn namespace(&mut self) -> Result<String> {
        let namespace = self.random.choice(&self.namespaces).cloned();
        namespace.context("a worker without namespaces")
    }

    fn make_namespace(&mut self) -> Result<()> {
        self.made += 1;
        let name = format!("{NAMESPACES}{}-{}", self.number, self.made);
        self.admin
            .post(
                "/api/v1/namespaces",
                &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
            )?
            .ok()?;
        self.namespaces.push(name);
        Ok(())
    }

    fn apply(&mut self) -> Result<()> {
        let namespace = self.namespace()?;
        let pods = match self.random.u64(..20) {
            0..14 => 1 + self.random.u64(..8),
            14..18 => 9 + self.random.u64(..24),
            18 => 64,
            _ => 257,
        };
        // Few names: a network comes again under the name of one that goes.
        let name = format!("network-{}", self.random.u64(..NETWORKS / AT_A_TIME as u64));
        let fabric = self.random.choice(&FABRICS).copied();
        let class = self.random.choice(&["development", "production"]).copied();
        self.admin.post(
            &networks(&namespace),
            &json!({
                "apiVersion": "railhead.dev/v1alpha1", "kind": "TrainingNetwork", "metadata": {"name": name},
                "spec": {"pods": pods, "fabricName": fabric, "qosClassName": class},
            }),
        )?;
        Ok(())
    }

    fn some_network(&mut self) -> Result<Option<(String, Value)>> {
        let namespace = self.namespace()?;
        let (all, _) = items(self.admin.get(&networks(&namespace))?.ok()?)?;
        Ok(self.random.choice(&all).map(|network| (namespace, network.clone())))
    }

    fn delete(&mut self) -> Result<()> {
        if let Some((namespace, network)) = self.some_network()? {
            let path = named(&networks(&namespace), &network);
            let policy = *self
                .random
                .choice(&["Background", "Background", "Foreground", "Orphan"])
                .unwrap_or(&"Background");
            self.admin.delete(&path, &json!({"propagationPolicy": policy}))?;
        }
        Ok(())
    }

    fn edit(&mut self) -> Result<()> {
        if let Some((namespace, network)) = self.some_network()? {
            let spec = match self.random.u64(..3) {
                0 => json!({"pods": 1 + self.random.u64(..40)}),
                1 => json!({"nccl": {"settings": {"NCCL_IB_QPS_PER_CONNECTION": self.random.u64(..8).to_string()}}}),
                _ => json!({"qosClassName": "large-scale"}),
            };
            let patch = json!({"metadata": {"labels": {"edit": self.random.u64(..9).to_string()}}, "spec": spec});
            self.admin.merge(&named(&networks(&namespace), &network), &patch)?;
        }
        Ok(())
    }

    /// A pod comes, and its node wires it.
    fn attach(&mut self) -> Result<()> {
        if self.wired.len() >= PODS {
            return self.detach();
        }
        let Some((namespace, network)) = self.some_network()? else {
            return Ok(());
        };
        if network["status"]["sliceName"].is_null() {
            return Ok(());
        }
        let index = self.random.u64(..network["spec"]["pods"].as_u64().unwrap_or(1));
        let node = self.random.usize(..self.nodes.len());
        self.made += 1;
        let pod = format!("pod-{}-{}", self.number, self.made);
        let created = self.admin.post(
            &format!("/api/v1/namespaces/{namespace}/pods"),
            &json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": pod,
                    "labels": {
                        "railhead.dev/network": network["metadata"]["name"],
                        "batch.kubernetes.io/job-completion-index": index.to_string(),
                    },
                    "annotations": {"batch.kubernetes.io/job-completion-index": index.to_string()},
                },
                "spec": {
                    "nodeName": &*self.nodes[node].name,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{"name": "train", "image": "train"}],
                },
            }),
        )?;
        if !created.is_ok() {
            return Ok(());
        }
        let uid = created.body["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        match nodes::attach(&mut self.nodes, node, (&namespace, &network), (&pod, &uid), index)? {
            Some(wired) => self.wired.push(wired),
            None => self.forget_pod(&namespace, &pod)?,
        }
        Ok(())
    }

    /// As kubelet does when all is taken down, or somebody who does not wait for it.
    fn forget_pod(&mut self, namespace: &str, pod: &str) -> Result<()> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
        self.admin.delete(&path, &json!({"gracePeriodSeconds": 0}))?;
        Ok(())
    }

    fn some_wired(&mut self) -> Option<Wired> {
        if self.wired.is_empty() {
            return None;
        }
        let place = self.random.usize(..self.wired.len());
        Some(self.wired.swap_remove(place))
    }

    fn detach(&mut self) -> Result<()> {
        match self.some_wired() {
            Some(wired) => self.unwire(&wired),
            None => Ok(()),
        }
    }

    fn unwire(&mut self, wired: &Wired) -> Result<()> {
        nodes::detach(&mut self.nodes, wired)?;
        self.forget_pod(&wired.namespace, &wired.pod)
    }

    /// The pod's object goes while its node still has it wired.
    fn force_delete(&mut self) -> Result<()> {
        if let Some(wired) = self.some_wired() {
            self.forget_pod(&wired.namespace, &wired.pod)?;
            self.wired.push(wired);
        }
        Ok(())
    }

    fn delete_namespace(&mut self) -> Result<()> {
        let place = self.random.usize(..self.namespaces.len());
        let name = self.namespaces.swap_remove(place);
        self.admin.delete(&format!("/api/v1/namespaces/{name}"), &json!({}))?;
        self.make_namespace()
    }

    /// What a person may do who repairs a ledger or restores it from a backup. That is done while nothing is being reserved: of a network
    /// that was given something and has no slice yet nobody could know afterwards. What the operators watch may come late all the same.
    pub(super) fn edit_ledger(&mut self) -> Result<()> {
        let late = Duration::from_millis(self.random.u64(..6000));
        if let Some(rival) = self.rival() {
            rival.way.delay_watches(late);
        }
        let Some(fabric) = self.random.choice(&FABRICS).copied() else {
            return Ok(());
        };
        let path = format!("/apis/railhead.dev/v1alpha1/fabricledgers/{fabric}");
        let found = self.admin.get(&path)?;
        if !found.is_ok() {
            return Ok(());
        }
        let mut ledger = found.body;
        let spec = ledger["spec"].clone();
        let copies = self.copies.entry(fabric.to_owned()).or_default();
        let older = self.random.choice(copies.as_slice()).cloned();
        copies.push(spec);
        match (self.random.u64(..8), older) {
            (0, _) => {
                self.repairer.delete(&path, &json!({}))?;
                return Ok(());
            }
            (1, _) => ledger["spec"]["entries"] = json!([]),
            (2..4, Some(older)) => ledger["spec"] = older,
            _ => {
                let count = ledger["spec"]["entries"].as_array().map_or(0, Vec::len);
                if let Some(entries) = ledger["spec"]["entries"].as_array_mut()
                    && count > 0
                {
                    entries.swap_remove(self.random.usize(..count));
                }
            }
        }
        self.made += 1;
        ledger["metadata"]["annotations"][BY_HAND] = json!(format!("{}-{}", self.number, self.made));
        self.repairer.put(&path, &ledger)?;
        Ok(())
    }

    fn edit_fabric(&mut self) -> Result<()> {
        let Some(fabric) = self.random.choice(&FABRICS).copied() else {
            return Ok(());
        };
        let path = format!("/apis/railhead.dev/v1alpha1/fabrics/{fabric}");
        let max = 1000 + 9 + self.random.u64(..31);
        self.admin
            .merge(&path, &json!({"spec": {"vlan": {"range": {"min": 1000, "max": max}}}}))?;
        Ok(())
    }

    fn fault(&mut self) {
        let after = self.random.u64(..12);
        let fault = match self.random.u64(..5) {
            0 => Fault::KilledBefore,
            1 => Fault::KilledAfter,
            2 => Fault::Lost,
            3 => Fault::Unanswered,
            _ => Fault::Late(Duration::from_millis(self.random.u64(..3000))),
        };
        if let Some(rival) = self.rival() {
            rival.way.plan(after, fault);
        }
    }

    /// Most cuts are short. One that lasts longer than a leader waits for its lease ends the operator.
    fn cut(&mut self) {
        let lasts = match self.random.u64(..10) {
            0 => 13_000,
            _ => self.random.u64(..1500),
        };
        if let Some(rival) = self.rival() {
            rival.way.cut();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(lasts));
                rival.way.restore();
            });
        }
    }

    /// Everybody goes home: pods are unwired, networks and namespaces deleted.
    pub(super) fn end(&mut self) -> Result<()> {
        while let Some(wired) = self.some_wired() {
            self.unwire(&wired)?;
        }
        for namespace in std::mem::take(&mut self.namespaces) {
            self.admin
                .delete(&format!("/api/v1/namespaces/{namespace}"), &json!({}))?;
        }
        Ok(())
    }
}

fn networks(namespace: &str) -> String {
    format!("/apis/railhead.dev/v1alpha1/namespaces/{namespace}/trainingnetworks")
}

fn named(list: &str, object: &Value) -> String {
    format!("{list}/{}", object["metadata"]["name"].as_str().unwrap_or_default())
}
