//! The control plane under everything at once: people change networks, namespaces, fabrics and ledgers at random, nodes attach pods,
//! and two operators that both believe they lead are cut off, delayed and killed between any two writes. Every state that the API
//! server ever had is judged by a checker that reads API objects and nothing else.

mod api;
mod checker;
mod facts;
mod history;
mod nodes;
mod people;
mod rival;
mod way;

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::json;

use self::{
    api::{Api, Gate},
    checker::Checker,
    facts::Present,
    history::History,
    nodes::Node,
    people::{FABRICS, Worker},
    rival::Rival,
};
use crate::control_plane::cluster::{Cluster, SYSTEM};

/// At once; the API server is the slowest part.
const WORKERS: usize = 4;
/// After so many operations all is left alone for a moment, and has to come to rest; in a long soak [`RESTS`] times in all, since a rest takes
/// as long as the operations before it.
const ROUND: u64 = 1000;
/// How often all is left alone in a long soak.
const RESTS: u64 = 40;
/// How often each worker repairs a ledger before a round.
const REPAIRS: u64 = 2;
/// How long it may take until all is at rest. An operator that was killed waits for nothing, one that was cut off for seconds.
const REST: Duration = Duration::from_mins(3);
/// How long freed reservations rest in a soak.
const COOL_DOWN: Duration = Duration::from_secs(3);

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    /// What decides everything that is chosen.
    pub seed: u64,
    /// How many operations.
    pub operations: u64,
    /// First of the ports that are used on the lab's loopback: 4.
    pub port: u16,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Report {
    /// Operations that were done.
    pub operations: u64,
    /// States of the API server that were judged.
    pub states: u64,
    /// How often an operator was started.
    pub starts: u64,
    /// All of it.
    pub took: Duration,
    /// Of it, while operations were done.
    pub worked: Duration,
}

impl Soak {
    /// Runs on a control plane with Railhead's chart and no other operator. An error is a breach, with the history of what it is about.
    pub fn run(&self, cluster: &Cluster, binary: &Path, mut say: impl FnMut(String)) -> Result<Report> {
        let start = Instant::now();
        say(format!("seed {}", self.seed));
        let gate = Gate::open(cluster, self.port)?;
        let token = |namespace: &str, account: &str| -> Result<String> {
            let flags = ["--namespace", namespace, "--duration", "24h"];
            let token = cluster.ok(&[&["create", "token", account][..], &flags].concat())?;
            Ok(token.trim().to_owned())
        };
        cluster.ok(&["create", "serviceaccount", "soak", "--namespace", "kube-system"])?;
        let account = "--serviceaccount=kube-system:soak";
        cluster.ok(&[
            "create",
            "clusterrolebinding",
            "soak",
            "--clusterrole=cluster-admin",
            account,
        ])?;
        let mut admin = Api::new(gate.address, &token("kube-system", "soak")?);
        let operator = token(SYSTEM, "railhead-operator")?;
        let repairer = Api::new(gate.address, &operator);
        for (number, fabric) in FABRICS.iter().enumerate() {
            admin
                .post("/apis/railhead.dev/v1alpha1/fabrics", &fabric_of(fabric, number))?
                .ok()?;
        }
        let nodes = (0..3)
            .map(|number| Node::add(&mut admin, gate.address, &format!("soak-node-{number}")))
            .collect::<Result<Vec<_>>>()?;
        let mut history = History::begin(&admin)?;
        let rivals = ["soak-left", "soak-right"]
            .into_iter()
            .zip(self.port + 1..)
            .map(|(name, port)| {
                let ways = (gate.address, &*operator, admin.clone());
                Rival::start(cluster, binary, ways, (name, port, COOL_DOWN))
            })
            .collect::<Result<Vec<_>>>()?;
        let ended = Ends(&rivals);
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut workers = (0..WORKERS)
            .map(|number| Worker::new(number, random.fork(), (&admin, &repairer), &nodes, &rivals))
            .collect::<Result<Vec<_>>>()?;
        let mut checker = Checker::default();
        let mut done = 0;
        let mut worked = Duration::ZERO;
        while done < self.operations {
            let round = ROUND.max(self.operations / RESTS).min(self.operations - done);
            let begin = Instant::now();
            for worker in &mut workers {
                (0..REPAIRS).try_for_each(|_| worker.edit_ledger())?;
            }
            work(&mut workers, round)?;
            worked += begin.elapsed();
            done += round;
            Self::judge(&mut admin, &mut history, &mut checker, &rivals)
                .with_context(|| format!("seed {}, after {done} operations", self.seed))?;
            say(format!(
                "{done} of {} operations, {} states judged, {} starts of operators, {} s",
                self.operations,
                checker.states,
                starts(&rivals),
                start.elapsed().as_secs()
            ));
        }
        workers.iter_mut().try_for_each(Worker::end)?;
        self.nothing_is_left(&mut admin, &mut history, &mut checker, &rivals)?;
        say(Worker::summary(&workers));
        drop(ended);
        Ok(Report {
            operations: done,
            states: checker.states,
            starts: starts(&rivals),
            took: start.elapsed(),
            worked,
        })
    }

    /// Waits until all is at rest, and judges all that there was until then.
    fn judge(admin: &mut Api, history: &mut History, checker: &mut Checker, rivals: &[Arc<Rival>]) -> Result<Present> {
        for rival in rivals {
            rival.way.restore();
        }
        let settled = settle(admin);
        let present = match &settled {
            Ok(present) | Err((present, _)) => present,
        };
        let changes = history.until_now(present);
        // While anything changes the watches may be elsewhere than the lists, and that it does is the finding then.
        for change in changes.iter().flatten() {
            checker.apply(change);
        }
        if let Some(breach) = checker.breaches.first() {
            bail!(
                "{} (at version {}, one of {} breaches); what led to it:\n{}",
                breach.text,
                breach.version,
                checker.breaches.len(),
                history.show(breach.version, &breach.words)
            );
        }
        if let Err((_, left)) = &settled {
            let words: Vec<String> = left[0]
                .split(' ')
                .filter(|word| word.contains('/'))
                .map(str::to_owned)
                .collect();
            bail!(
                "all was left alone for {} s, and still: {}; the first one's history:\n{}",
                REST.as_secs(),
                left.join("; "),
                history.show(u64::MAX, &words)
            );
        }
        changes?;
        checker.settled();
        rivals.iter().try_for_each(|rival| rival.has_not_panicked())?;
        settled.map_err(|(_, left)| anyhow!(left.join("; ")))
    }

    /// When everything is deleted, nothing stays reserved.
    fn nothing_is_left(
        &self,
        admin: &mut Api,
        history: &mut History,
        checker: &mut Checker,
        rivals: &[Arc<Rival>],
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            let present = Self::judge(admin, history, checker, rivals)
                .with_context(|| format!("seed {}, when everything was deleted", self.seed))?;
            let left: Vec<String> = present
                .values()
                .filter(|change| match &change.facts {
                    facts::Facts::Ledger(ledger) => !ledger.entries.is_empty(),
                    _ => true,
                })
                .map(ToString::to_string)
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            ensure!(
                start.elapsed() < REST,
                "seed {}: everything was deleted {} s ago, and there is still\n{}",
                self.seed,
                REST.as_secs(),
                left.join("\n")
            );
            thread::sleep(Duration::from_millis(500));
        }
    }
}

/// Ends the operators, however the soak ended.
struct Ends<'a>(&'a [Arc<Rival>]);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        for rival in self.0 {
            rival.end();
        }
    }
}

fn starts(rivals: &[Arc<Rival>]) -> u64 {
    let starts = rivals
        .iter()
        .map(|rival| rival.starts.load(std::sync::atomic::Ordering::SeqCst));
    starts.sum()
}

/// Shares `operations` among the workers.
fn work(workers: &mut [Worker], operations: u64) -> Result<()> {
    let count = workers.len() as u64;
    thread::scope(|scope| {
        let shares: Vec<_> = workers
            .iter_mut()
            .zip(0..)
            .map(|(worker, place): (_, u64)| {
                let share = operations / count + u64::from(place < operations % count);
                scope.spawn(move || (0..share).try_for_each(|_| worker.operate()))
            })
            .collect();
        shares
            .into_iter()
            .try_for_each(|share| share.join().map_err(|_| anyhow!("a worker panicked"))?)
    })
}

/// Waits until nothing changes any more and nothing is as it should not be. What there was last, and what was wrong with it, if that
/// lasts too long.
fn settle(admin: &mut Api) -> Result<Present, (Present, Vec<String>)> {
    let start = Instant::now();
    let mut before = BTreeVersions::new();
    loop {
        let (present, mut left) = match history::present(admin) {
            Ok(present) => {
                let left = checker::unsettled(&present);
                (present, left)
            }
            Err(error) => (Present::new(), vec![format!("{error:#}")]),
        };
        let now: BTreeVersions = present
            .values()
            .map(|change| (change.name.clone(), change.version))
            .collect();
        if left.is_empty() && now == before {
            return Ok(present);
        }
        if start.elapsed() > REST {
            if left.is_empty() {
                left.push("something changes all the time".to_owned());
            }
            return Err((present, left));
        }
        before = now;
        thread::sleep(Duration::from_millis(700));
    }
}

type BTreeVersions = std::collections::BTreeSet<(String, u64)>;

fn fabric_of(name: &str, number: usize) -> serde_json::Value {
    let rail = |rail: usize| {
        json!({
            "id": rail, "name": format!("rail{rail}"), "ports": [{"pciAddress": format!("0000:18:0{number}.{rail}")}],
            "pools": [{"cidr": format!("10.{}.{rail}.0/24", 200 + number)}],
        })
    };
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "Fabric", "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"matchLabels": {"soak.railhead.dev/fabric": name}},
            "vlan": {"mode": "PerNetwork", "range": {"min": 1000, "max": 1029}},
            "rails": [rail(0), rail(1)],
        },
    })
}
