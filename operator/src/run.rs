//! `railhead-operator run`: every replica watches, one writes.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use kube::{Client, runtime::reflector::Store};
use railhead_service::{client, events::Recorder};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    task::JoinSet,
};
use tracing::info;

use crate::{
    changes::Changes,
    class, controller, fabric, freed,
    http::{self, Shown},
    leader::{Keeper, LeaseError},
    lost_nodes,
    metrics::Metrics,
    network, observe, pod, quota, reservations, route, schemas, slice, stray,
    world::World,
};

/// `reportingController` of the operator's events.
const REPORTER: &str = "railhead.dev/operator";
/// How long an answer of the API server may take: a page of many pods may be large.
pub(crate) const ANSWER: Duration = Duration::from_secs(20);

/// How many objects of a kind are worked on at a time; they mostly wait for the API server.
const AT_ONCE: u16 = 8;
/// Those that wait for a reservation together get theirs by one write of the ledger, which is large: the more, the fewer writes.
const NETWORKS_AT_ONCE: u16 = 128;

/// Options of `run`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "RAILHEAD_HTTP", default_value = "0.0.0.0:8080")]
    http: SocketAddr,
    /// Namespace of the lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "railhead-system")]
    namespace: String,
    /// Who holds the lease; different for every replica. Default: the host's name.
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
    /// Name of the lease.
    #[arg(long, env = "RAILHEAD_LEASE", default_value = "railhead-operator")]
    lease: String,
    /// Seconds after which everything is looked at again, should a watch ever have missed something.
    #[arg(long, env = "RAILHEAD_RESYNC_SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    resync_seconds: u64,
    /// Seconds for which addresses and VLANs of a network that is gone rest before another gets them.
    #[arg(long, env = "RAILHEAD_REST_SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(..=86_400))]
    rest_seconds: u64,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let client = client::connect(ANSWER)
        .await
        .context("no way to the API server: run in a pod or set KUBECONFIG")?;
    let identity = match options.identity {
        Some(identity) => identity,
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .context("this host has no name: set --identity")?
            .trim()
            .to_owned(),
    };
    let resync = Duration::from_secs(options.resync_seconds);
    let metrics = Arc::new(Metrics::new());
    let synced = Arc::new(AtomicBool::new(false));
    let changes = Changes::default();
    // Everything is a task of its own: whatever one of them computes, the lease is renewed and probes are answered meanwhile.
    let mut watches = JoinSet::new();
    let world = observe::start(&client, &mut watches, &changes);
    let shown = Shown {
        metrics: Arc::clone(&metrics),
        world: world.clone(),
        synced: Arc::clone(&synced),
    };
    let pages = tokio::spawn(http::serve(options.http, shown));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut outside = pin!(async {
        tokio::select! {
            result = pages => Ok(result??),
            _ = watches.join_next() => anyhow::bail!("a watch has ended, which it never should"),
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    });
    let gained = async {
        world.synced().await;
        // Before anything is reserved.
        schemas::look(&client, &world.schemas).await;
        synced.store(true, Ordering::Release);
        info!("knows the cluster; applies for the lease");
        let mut keeper = Keeper::start(&options.namespace, &options.lease, &identity)?;
        keeper.gained().await?;
        Ok::<_, LeaseError>(keeper)
    };
    let mut keeper = tokio::select! {
        keeper = gained => keeper?,
        result = &mut outside => return result,
    };
    info!(identity, "leads");
    metrics.leads();
    let times = Times {
        resync,
        rest: Duration::from_secs(options.rest_seconds),
    };
    let mut controllers = start_controllers(&client, &world, &metrics, &identity, times, changes);
    let result = tokio::select! {
        result = &mut outside => result,
        _ = controllers.join_next() => Err(anyhow::anyhow!("a controller has ended, which it never should")),
        lost = keeper.lost() => {
            controllers.shutdown().await;
            return Ok(lost?);
        }
    };
    // Only when the controllers have stopped may somebody else begin.
    controllers.shutdown().await;
    keeper.stop().await?;
    result
}

/// What takes long on purpose.
#[derive(Clone, Copy)]
struct Times {
    resync: Duration,
    rest: Duration,
}

/// All that writes, each a task.
fn start_controllers(
    client: &Client,
    world: &World,
    metrics: &Arc<Metrics>,
    identity: &str,
    Times { resync, rest }: Times,
    changes: Changes,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let recorder = Recorder::new(client.clone(), REPORTER, identity.to_owned()).sparing();
    let recorder = Arc::new(recorder);
    let (reservations, ledger_worker) = reservations::start(client.clone(), world.clone(), Arc::clone(metrics), rest);
    let (queues, inboxes) = route::queues();
    let fabrics = Arc::new(fabric::Context {
        client: client.clone(),
        world: world.clone(),
        reservations: reservations.clone(),
        recorder: Arc::clone(&recorder),
        resync,
    });
    tasks.spawn(fabric::sweep_orphans(Arc::clone(&fabrics)));
    tasks.spawn(controller::run(
        "Fabric",
        world.fabrics.clone(),
        inboxes.fabrics,
        fabrics,
        Arc::clone(metrics),
        AT_ONCE,
        fabric::reconcile,
    ));
    tasks.spawn(controller::run(
        "TrainingNetwork",
        world.networks.clone(),
        inboxes.networks,
        Arc::new(network::Context {
            client: client.clone(),
            world: world.clone(),
            reservations,
            recorder: Arc::clone(&recorder),
            resync,
            turns: Semaphore::new(network::WRITTEN_AT_ONCE),
            made: network::Made::default(),
        }),
        Arc::clone(metrics),
        NETWORKS_AT_ONCE,
        network::reconcile,
    ));
    tasks.spawn(controller::run(
        "NetworkSlice",
        Store::clone(&world.slices),
        inboxes.slices,
        Arc::new(slice::Context {
            client: client.clone(),
            world: world.clone(),
            resync,
        }),
        Arc::clone(metrics),
        AT_ONCE,
        slice::reconcile,
    ));
    tasks.spawn(controller::run(
        "QosClass",
        world.classes.clone(),
        inboxes.classes,
        Arc::new(class::Context {
            client: client.clone(),
            world: world.clone(),
            recorder: Arc::clone(&recorder),
        }),
        Arc::clone(metrics),
        AT_ONCE,
        class::reconcile,
    ));
    tasks.spawn(controller::run(
        "NetworkQuota",
        Store::clone(&world.quotas),
        inboxes.quotas,
        Arc::new(quota::Context {
            client: client.clone(),
            world: world.clone(),
            recorder: Arc::clone(&recorder),
        }),
        Arc::clone(metrics),
        AT_ONCE,
        quota::reconcile,
    ));
    tasks.spawn(controller::run(
        "Pod",
        Store::clone(&world.pods),
        inboxes.pods,
        Arc::new(pod::Context {
            world: world.clone(),
            recorder,
            free: inboxes.free,
        }),
        Arc::clone(metrics),
        AT_ONCE,
        pod::reconcile,
    ));
    tasks.spawn(controller::run(
        "ResourceClaimTemplate",
        world.templates.clone(),
        inboxes.templates,
        Arc::new(stray::Context {
            client: client.clone(),
            world: world.clone(),
        }),
        Arc::clone(metrics),
        AT_ONCE,
        stray::reconcile,
    ));
    tasks.spawn(schemas::run(client.clone(), world.clone(), changes.clone()));
    tasks.spawn(lost_nodes::run(client.clone(), world.clone()));
    tasks.spawn(freed::run(client.clone(), world.clone(), inboxes.freed));
    tasks.spawn(route::route(world.clone(), queues, changes));
    tasks.spawn(ledger_worker);
    tasks
}
