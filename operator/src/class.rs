//! QosClass: nothing to do but to say whether it is the default, and when two of them want to be.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, Resource, ResourceExt as _, runtime::controller::Action, runtime::reflector::Store};
use railhead_crds::{QosClass, QosClassStatus, reasons::Reason};
use railhead_service::events::{Event, Recorder};
use thiserror::Error;

use crate::{
    conditions::{self, Said},
    controller::Category,
    world::World,
    write,
};

const MANAGER: &str = "railhead/class";

/// What the controller works with.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) world: World,
    pub(crate) recorder: Arc<Recorder>,
}

/// Why a class could not be looked after. Tried again.
#[derive(Debug, Error)]
pub(crate) enum ClassError {
    #[error("cannot write the status of QosClass {name}")]
    WriteStatus { name: String, source: Box<kube::Error> },
}

impl Category for ClassError {
    fn category(&self) -> &'static str {
        match self {
            Self::WriteStatus { .. } => "status",
        }
    }

    fn is_conflict(&self) -> bool {
        match self {
            Self::WriteStatus { source, .. } => write::is_conflict(source) || write::is_not_found(source),
        }
    }
}

pub(crate) async fn reconcile(class: Arc<QosClass>, context: Arc<Context>) -> Result<Action, ClassError> {
    let name = class.name_any();
    let defaults = defaults(&context.world.classes, |class| class.spec.default);
    let said = default_said("QosClass", &name, &defaults, "spec.qosClassName");
    if let Some(news) = conflict(&said) {
        context.recorder.publish(&*class, &news).await;
    }
    let status = status(&class, said, Timestamp::now());
    if class.status.as_ref() != Some(&status) {
        let api: Api<QosClass> = Api::all(context.client.clone());
        write::status(&api, &name, MANAGER, &status)
            .await
            .map_err(|source| ClassError::WriteStatus {
                name,
                source: Box::new(source),
            })?;
    }
    Ok(Action::await_change())
}

fn status(class: &QosClass, said: Said, now: Timestamp) -> QosClassStatus {
    let before = class.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = class.metadata.generation;
    QosClassStatus {
        observed_generation: generation,
        conditions: conditions::merge(before, vec![said], generation, now),
    }
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

/// Whether `name` is the default of its kind: for one of several that want to be, that none is.
pub(crate) fn default_said(kind: &str, name: &str, defaults: &[String], field: &str) -> Said {
    if !defaults.iter().any(|default| default == name) {
        Said::no(
            "Default",
            Reason::NotDefault,
            format!("networks get it that name it in {field}"),
        )
    } else if defaults.len() > 1 {
        let message = format!(
            "{} {kind} objects say default: true ({}): networks without {field} get none; leave one default",
            defaults.len(),
            defaults.join(", ")
        );
        Said::no("Default", Reason::DefaultConflict, message)
    } else {
        Said::yes("Default", Reason::Default, format!("networks without {field} get it"))
    }
}

/// The event for one of several defaults.
pub(crate) fn conflict(said: &Said) -> Option<Event> {
    (said.reason == Reason::DefaultConflict)
        .then(|| Event::warning("Resolve", Reason::DefaultConflict, said.message.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_defaults_are_said_on_both_and_on_no_other() {
        let defaults = ["a".to_owned(), "b".to_owned()];
        let of = |name: &str, defaults: &[String]| default_said("QosClass", name, defaults, "spec.qosClassName");
        let both = of("a", &defaults);
        let note = conflict(&both).unwrap().note;
        assert!(
            note.starts_with("2 QosClass objects say default: true (a, b)"),
            "{note}"
        );
        assert_eq!((both.status, both.reason.as_str()), (false, "DefaultConflict"));
        let (other, alone) = (of("c", &defaults), of("a", &defaults[..1]));
        assert_eq!((other.status, other.reason.as_str()), (false, "NotDefault"));
        assert_eq!((alone.status, alone.reason.as_str()), (true, "Default"));
        assert_eq!((conflict(&other), conflict(&alone)), (None, None));
    }
}
