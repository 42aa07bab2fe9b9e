//! Hundreds of changes a second: is the lease renewed, and is another team's network reserved meanwhile?

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::Api;
use serde_json::json;
use tokio::{sync::Semaphore, time::MissedTickBehavior};

use crate::{
    SYSTEM,
    api::{Server, Verb, Who},
    fill::{self, Place},
    floor::Floor,
    operator::Operator,
    reserved::Reserved,
    shapes,
    verdict::Verdict,
};

/// Changes a second.
const CHANGES: usize = 500;
/// Changes that wait for an answer at a time.
const WAITING: usize = 128;
/// How often a network of another namespace comes.
const NETWORK: Duration = Duration::from_secs(2);
/// Seconds from one renewal of the lease to the next.
const LATE: f64 = 4.0;
/// Seconds until a new network is Reserved.
const SOON: f64 = 1.0;

/// How many times what a client needs that does nothing else, where that is more.
const OF_FLOOR: f64 = 2.0;

/// How large the cluster is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) nodes: usize,
    pub(crate) networks: usize,
    pub(crate) pods: usize,
}

pub(crate) async fn measure(
    verdict: &mut Verdict,
    server: &Server,
    operator: &mut Operator,
    reserved: &Reserved,
    size: Size,
    time: Duration,
) -> Result<()> {
    const OTHERS: &str = "other-team";
    fill::namespace(server, OTHERS).await?;
    let (done, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let changes = tokio::spawn(change(server.clone(), size, Arc::clone(&done), Arc::clone(&failed)));
    // Milliseconds.
    let longest = Arc::new(AtomicUsize::new(0));
    let renewals = tokio::spawn(renewals(server.clone(), Arc::clone(&longest)));
    let floor = Floor::begin(server).await?;
    let (start, processor) = (Instant::now(), operator.processor()?);
    let mut took = Vec::new();
    for number in 0.. {
        if start.elapsed() >= time {
            break;
        }
        let network = Place {
            namespace: OTHERS.to_owned(),
            name: format!("new-{number}"),
        };
        let made = Instant::now();
        fill::network(server, &network, 2).await?;
        let after = reserved
            .after(made, OTHERS, &network.name, Duration::from_mins(1))
            .await;
        took.push(after.map_or(60.0, |after| after.as_secs_f64()));
        tokio::time::sleep(NETWORK.saturating_sub(made.elapsed())).await;
    }
    let elapsed = start.elapsed().as_secs_f64();
    changes.abort();
    renewals.abort();
    operator.runs()?;
    let used = (operator.processor()? - processor) / elapsed;
    let late = match renewals.await {
        Err(ended) if ended.is_cancelled() => longest.load(Ordering::Relaxed),
        _ => anyhow::bail!("the lease cannot be read"),
    };
    #[expect(clippy::cast_precision_loss, reason = "counts of a minute or two")]
    let rate = done.load(Ordering::Relaxed) as f64 / elapsed;
    verdict.note(format!(
        "{rate:.0} changes a second were made ({CHANGES} were asked for, {} failed), the operator at {:.0} % of a core",
        failed.load(Ordering::Relaxed),
        used * 100.0
    ));
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a minute or two")]
    verdict.at_most(
        "the longest time between two renewals of the lease",
        late as f64 / 1000.0,
        LATE,
        "s",
    );
    ensure!(!took.is_empty(), "no network was made");
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    verdict.note(format!(
        "{} new networks meanwhile, half of them Reserved within {:.2} s",
        took.len(),
        at(50)
    ));
    let alone = floor.tell(verdict);
    if OF_FLOOR * alone > SOON {
        verdict.note(format!(
            "this server cannot do that within {SOON} s: {OF_FLOOR} times the floor is the limit"
        ));
    }
    verdict.at_most(
        "a new network is Reserved, 99 of 100 of them",
        at(99),
        SOON.max(OF_FLOOR * alone),
        "s",
    );
    Ok(())
}

/// What changes while jobs start: agents' reports, pods, now and then a port.
async fn change(server: Server, size: Size, done: Arc<AtomicUsize>, failed: Arc<AtomicUsize>) {
    let waiting = Arc::new(Semaphore::new(WAITING));
    let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(CHANGES).unwrap_or(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0_usize.. {
        tick.tick().await;
        let Ok(permit) = Arc::clone(&waiting).acquire_owned().await else {
            return;
        };
        let (server, done, failed) = (server.clone(), Arc::clone(&done), Arc::clone(&failed));
        tokio::spawn(async move {
            let counter = if one(&server, size, number).await.is_ok() {
                done
            } else {
                failed
            };
            counter.fetch_add(1, Ordering::Relaxed);
            drop(permit);
        });
    }
}

async fn one(server: &Server, size: Size, number: usize) -> Result<()> {
    let node = shapes::node_name(number * 7 % size.nodes);
    match number % 10 {
        0 => fill::speed(server, &node, ["400G", "399G"][number / 10 % 2]).await,
        1..=5 => fill::report(server, &node, number % 8).await,
        _ => {
            let network = number * 7 % size.networks;
            let place = fill::place(network);
            let pod = shapes::pod_name(&place.name, number % fill::size(network, size.networks, size.pods));
            let body = json!({"metadata": {"annotations": {"example.com/step": number.to_string()}}});
            let path = format!("/api/v1/namespaces/{}/pods/{pod}", place.namespace);
            server.write(Who::Admin, Verb::Merge, &path, &body).await.map(drop)
        }
    }
}

/// Notes the longest time between two renewals so far, in milliseconds.
async fn renewals(server: Server, longest: Arc<AtomicUsize>) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(server.client, SYSTEM);
    let mut last: Option<Timestamp> = None;
    loop {
        let lease = leases.get("railhead-operator").await?;
        let renewed = lease.spec.and_then(|spec| spec.renew_time).map(|time| time.0);
        if let (Some(before), Some(now)) = (last, renewed) {
            // One that does not come at all counts as well.
            let until = if before == now { Timestamp::now() } else { now };
            let gap = usize::try_from(until.duration_since(before).as_millis()).unwrap_or(0);
            longest.fetch_max(gap, Ordering::Relaxed);
        }
        last = renewed.or(last);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
