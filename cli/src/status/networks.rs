//! Networks: how many, which are not as they should be, and who waits for whom.

use kube::ResourceExt as _;
use railhead_crds::TrainingNetwork;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    cluster::key,
    facts::Fact,
    lookup::{Conditions as _, Lookup, condition, has_ended, is_true},
    output::{Cell, Page, age},
    waits,
};

/// How many networks, and how many waiting pods of each, are shown without `-o wide`.
const SHOWN: usize = 20;
const SHOWN_PODS: usize = 4;

/// The networks.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Networks {
    /// How many there are.
    total: usize,
    /// How many pods can use.
    ready: usize,
    /// How many have all their pods attached.
    attached: usize,
    /// All of them, by namespace and name.
    list: Vec<NetworkLine>,
}

/// A network.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NetworkLine {
    /// Its namespace.
    namespace: String,
    /// Its name.
    name: String,
    /// Its fabric, once it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    fabric: Option<String>,
    /// Whether pods can use it.
    ready: bool,
    /// Pods that are wired, of those declared.
    attached: String,
    /// Why it needs somebody or waits, in one word; none where all is as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What is said of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// How long it has been so.
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<String>,
    /// Its pods that wait.
    waits: Vec<WaitLine>,
}

/// A pod that waits.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct WaitLine {
    /// Its name.
    pod: String,
    /// The index that it is to have, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    /// Why, with what would help.
    fact: Fact,
}

pub(super) fn of(lookup: &Lookup<'_>) -> Networks {
    let mut networks: Vec<&TrainingNetwork> = lookup.cluster.networks.iter().collect();
    networks.sort_by_key(|network| key(&network.metadata));
    let list: Vec<NetworkLine> = networks.iter().map(|network| line(lookup, network)).collect();
    Networks {
        total: list.len(),
        ready: list.iter().filter(|line| line.ready).count(),
        attached: networks
            .iter()
            .filter(|network| is_true(network.conditions(), "Attached"))
            .count(),
        list,
    }
}

fn line(lookup: &Lookup<'_>, network: &TrainingNetwork) -> NetworkLine {
    let conditions = network.conditions();
    let status = network.status.as_ref();
    let now = lookup.cluster.read_at;
    let live = lookup.pods(network).iter().any(|pod| !has_ended(pod));
    let not = |type_: &str, wrong: &str| condition(conditions, type_).filter(|found| found.status == wrong);
    // A network without pods waits for nothing.
    let trouble = not("Ready", "False")
        .or_else(|| not("Ready", "Unknown"))
        .or_else(|| not("Degraded", "True"))
        .or_else(|| not("Attached", "False").filter(|_| live))
        .or_else(|| condition(conditions, "Reserved").filter(|reserved| reserved.reason == "CannotGrow"));
    let summary = status.and_then(|status| status.summary.as_ref());
    let waits = waits::of_network(lookup, network);
    NetworkLine {
        namespace: network.namespace().unwrap_or_default(),
        name: network.name_any(),
        fabric: status.and_then(|status| status.fabric_name.clone()),
        ready: is_true(conditions, "Ready"),
        attached: summary.map_or_else(
            || format!("0/{}", network.spec.pods),
            |summary| summary.attached.clone(),
        ),
        reason: trouble.map(|found| found.reason.clone()),
        message: trouble.map(|found| found.message.clone()),
        age: trouble.map(|found| age(found.last_transition_time.0, now)),
        waits: waits
            .into_iter()
            .map(|(pod, wait)| WaitLine {
                pod,
                index: wait.index,
                fact: wait.fact,
            })
            .collect(),
    }
}

impl NetworkLine {
    fn is_fine(&self) -> bool {
        self.ready && self.reason.is_none() && self.waits.is_empty()
    }

    fn show(&self, page: &mut Page) {
        let state = Cell::good_if(
            self.is_fine(),
            self.reason
                .as_deref()
                .unwrap_or(if self.ready { "Ready" } else { "Pending" }),
        );
        let message = Cell::plain(self.message.as_deref().unwrap_or_default());
        let age = Cell::plain(self.age.as_deref().unwrap_or_default());
        let name = Cell::plain(format!("{}/{}", self.namespace, self.name));
        page.row(2, [name, Cell::plain(&self.attached), state, age, message]);
        let shown = if page.is_wide() { self.waits.len() } else { SHOWN_PODS };
        for wait in self.waits.iter().take(shown) {
            wait.show(page);
        }
        super::more(page, self.waits.len().saturating_sub(shown));
    }
}

impl WaitLine {
    fn show(&self, page: &mut Page) {
        let index = self.index.map_or_else(String::new, |index| format!(" (index {index})"));
        let age = self.fact.age.as_ref().map_or_else(String::new, |age| format!(" {age}"));
        let help = self
            .fact
            .help
            .as_ref()
            .map_or_else(String::new, |help| format!("; {help}"));
        page.line(
            Cell::plain("    pod ")
                .and(Cell::bold(&self.pod))
                .and(format!("{index} waits{age}: "))
                .and(Cell::waits(&self.fact.text))
                .and(help),
        );
    }
}

impl Networks {
    pub(super) fn are_fine(&self) -> bool {
        self.list.iter().all(NetworkLine::is_fine)
    }

    pub(super) fn show(&self, namespace: Option<&str>, page: &mut Page) {
        page.gap();
        let place = namespace.map_or_else(String::new, |namespace| format!(" of namespace {namespace}"));
        let counts = format!("  {} ready, {} with all pods attached", self.ready, self.attached);
        page.line(Cell::bold(format!("Networks{place} {}", self.total)).and(counts));
        let listed: Vec<&NetworkLine> = self
            .list
            .iter()
            .filter(|line| page.is_wide() || !line.is_fine())
            .collect();
        let shown = if page.is_wide() { listed.len() } else { SHOWN };
        for line in listed.iter().take(shown) {
            line.show(page);
        }
        super::more(page, listed.len().saturating_sub(shown));
    }
}
