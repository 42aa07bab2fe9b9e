//! The loop that all controllers share: one object at a time, failures back off per object, every outcome is counted.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, channel::mpsc::UnboundedReceiver};
use kube::{
    Resource,
    runtime::{
        controller::{Action, Config, applier},
        reflector::{ObjectRef, Store},
    },
};
use railhead_service::chain;
use tracing::{debug, warn};

use crate::metrics::Metrics;

/// Waiting time after a first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_mins(2);

/// An error that a metric can name.
pub(crate) trait Category: std::error::Error + Send + Sync + 'static {
    /// A word out of few.
    fn category(&self) -> &'static str;
    /// Whether it is only that somebody wrote first, which is ordinary.
    fn is_conflict(&self) -> bool;
}

/// Reconciles the objects named in `queue` until it ends, `at_once` at a time.
pub(crate) async fn run<K, C, R, F, E>(
    kind: &'static str,
    store: Store<K>,
    queue: UnboundedReceiver<ObjectRef<K>>,
    context: Arc<C>,
    metrics: Arc<Metrics>,
    at_once: u16,
    mut reconcile: R,
) where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    C: Send + Sync + 'static,
    R: FnMut(Arc<K>, Arc<C>) -> F + Send,
    F: Future<Output = Result<Action, E>> + Send,
    E: Category,
{
    let failures = Failures::default();
    let counted = |object: Arc<K>, context: Arc<C>| {
        let name = ObjectRef::from_obj(&*object);
        let work = reconcile(object, context);
        let (failures, metrics) = (&failures, &metrics);
        Box::pin(async move {
            let started = Instant::now();
            let result = work.await;
            let outcome = result.as_ref().map_or_else(Category::category, |_| "ok");
            metrics.reconciled(kind, outcome);
            debug!(kind, object = %name, outcome, took = ?started.elapsed(), "reconciled");
            if result.is_ok() {
                failures.forget(&name.to_string());
            }
            result
        })
    };
    let retry = |object: Arc<K>, error: &E, _| {
        let name = ObjectRef::from_obj(&*object).to_string();
        let delay = failures.next_delay(&name);
        if error.is_conflict() {
            debug!(
                kind,
                object = name,
                error = chain(error),
                ?delay,
                "somebody wrote first"
            );
        } else {
            warn!(kind, object = name, error = chain(error), ?delay, "trying again");
        }
        Action::requeue(delay)
    };
    // No debounce: it begins anew with each change, and the router gathers them already.
    let config = Config::default().concurrency(at_once);
    let results = applier(
        counted,
        retry,
        context,
        store,
        queue.map(Ok::<_, std::convert::Infallible>),
        config,
    );
    // Results were handled above; what remains are objects that went before their turn.
    results
        .for_each(|result| {
            if let Err(kube::runtime::controller::Error::ObjectNotFound(gone)) = result {
                failures.forget(&gone.to_string());
            }
            std::future::ready(())
        })
        .await;
}

#[derive(Default)]
struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    fn next_delay(&self, object: &str) -> Duration {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(object.to_owned()).or_default();
        let delay = FIRST_RETRY.saturating_mul(1 << (*count).min(16));
        *count += 1;
        delay.min(LAST_RETRY)
    }

    fn forget(&self, object: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_went_is_forgotten_under_the_name_under_which_it_failed() {
        let failed = ObjectRef::<railhead_crds::TrainingNetwork>::new("llama").within("team-a");
        let gone = failed.clone().erase();
        let failures = Failures::default();
        failures.next_delay(&failed.to_string());
        failures.forget(&gone.to_string());
        assert_eq!(failures.0.lock().unwrap().len(), 0);
    }

    #[test]
    fn failures_of_one_object_slow_down_that_object_only() {
        let failures = Failures::default();
        assert_eq!(failures.next_delay("a"), FIRST_RETRY);
        assert_eq!(failures.next_delay("a"), FIRST_RETRY * 2);
        assert_eq!(failures.next_delay("b"), FIRST_RETRY);
        for _ in 0..40 {
            failures.next_delay("a");
        }
        assert_eq!(failures.next_delay("a"), LAST_RETRY);
        failures.forget("a");
        assert_eq!(failures.next_delay("a"), FIRST_RETRY);
    }
}
