//! QosClass: nothing to do but to say when two of them want to be the default.

use std::sync::Arc;

use kube::{Resource, ResourceExt as _, runtime::controller::Action, runtime::reflector::Store};
use railhead_crds::QosClass;
use railhead_service::events::{Event, Recorder};
use thiserror::Error;

use crate::{controller::Category, world::World};

/// What the controller works with.
pub(crate) struct Context {
    pub(crate) world: World,
    pub(crate) recorder: Arc<Recorder>,
}

/// Nothing can fail here; events are not retried.
#[derive(Debug, Error)]
pub(crate) enum ClassError {}

impl Category for ClassError {
    fn category(&self) -> &'static str {
        match *self {}
    }

    fn is_conflict(&self) -> bool {
        match *self {}
    }
}

pub(crate) async fn reconcile(class: Arc<QosClass>, context: Arc<Context>) -> Result<Action, ClassError> {
    let defaults = defaults(&context.world.classes, |class| class.spec.default);
    if let Some(news) = conflict("QosClass", &class.name_any(), &defaults, "spec.qosClassName") {
        context.recorder.publish(&*class, &news).await;
    }
    Ok(Action::await_change())
}

/// Names of the objects that want to be the default, sorted.
pub(crate) fn defaults<K>(store: &Store<K>, is_default: impl Fn(&K) -> bool) -> Vec<String>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let chosen = store.state_filter(|object| is_default(object));
    let mut names: Vec<String> = chosen.iter().map(|object| object.name_any()).collect();
    names.sort_unstable();
    names
}

/// What to say about `name` if it is one of several defaults.
pub(crate) fn conflict(kind: &str, name: &str, defaults: &[String], field: &str) -> Option<Event> {
    let is_one = defaults.iter().any(|default| default == name);
    (is_one && defaults.len() > 1).then(|| {
        let note = format!(
            "{} {kind} objects say default: true ({}): networks without {field} get none; leave one default",
            defaults.len(),
            defaults.join(", ")
        );
        Event::warning("Resolve", "DefaultConflict", note)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_defaults_are_said_on_both_and_on_no_other() {
        let defaults = ["a".to_owned(), "b".to_owned()];
        let note = conflict("QosClass", "a", &defaults, "spec.qosClassName").unwrap().note;
        assert!(
            note.starts_with("2 QosClass objects say default: true (a, b)"),
            "{note}"
        );
        assert_eq!(conflict("QosClass", "c", &defaults, "x"), None);
        assert_eq!(conflict("QosClass", "a", &defaults[..1], "x"), None);
    }
}
