//! Which changes of a network's status are worth an event. Pure.

use railhead_crds::{
    TrainingNetworkStatus,
    reasons::{Kind, Reason},
};
use railhead_service::events::Event;

use crate::conditions;

/// What is worth an event in going from one status to the next.
pub(super) fn news(before: Option<&TrainingNetworkStatus>, after: &TrainingNetworkStatus) -> Vec<Event> {
    let old = before.map_or(&[][..], |status| &status.conditions);
    let changed = |type_: &str| {
        let now = conditions::find(&after.conditions, type_)?;
        let was = conditions::find(old, type_);
        let other_reason = was.is_none_or(|was| was.reason != now.reason);
        let other_message = was.is_none_or(|was| was.message != now.message);
        (other_reason || other_message).then_some((now, other_reason))
    };
    let mut news = Vec::new();
    if let Some((reserved, _)) = changed("Reserved") {
        news.push(if reserved.status == "True" && reserved.reason != Reason::CannotGrow {
            Event::normal("Reserve", Reason::Reserved, reserved.message.clone())
        } else {
            // One that no event has is still in the text.
            let reason = Reason::named(&reserved.reason)
                .filter(|reason| reason.is_of_event(Kind::TrainingNetwork.name()))
                .unwrap_or(Reason::NotReserved);
            Event::warning("Reserve", reason, reserved.message.clone())
        });
    }
    // The messages of these count pods: one event when it begins, not one for every pod of a thousand.
    let began = |type_| changed(type_).filter(|(_, began)| *began).map(|(now, _)| now);
    match began("Attached") {
        Some(attached) if attached.status == "True" => {
            news.push(Event::normal("Attach", Reason::AllAttached, attached.message.clone()));
        }
        Some(attached) => {
            let warnings = [
                Reason::IndexOutOfRange,
                Reason::IndexInvalid,
                Reason::RolesNeeded,
                Reason::GroupsNeeded,
                Reason::Oversubscribed,
            ];
            let warning = warnings.into_iter().find(|reason| attached.reason == *reason);
            news.extend(warning.map(|reason| Event::warning("Attach", reason, attached.message.clone())));
        }
        None => {}
    }
    if let Some(ready) = began("Ready").filter(|c| c.reason == Reason::DeletingWaitingForPods) {
        let message = ready.message.clone();
        news.push(Event::warning("Delete", Reason::DeletingWaitingForPods, message));
    }
    if let Some(degraded) = began("Degraded").filter(|c| c.status == "True") {
        news.push(Event::warning("Attach", Reason::Degraded, degraded.message.clone()));
    }
    news
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::conditions::Said;

    fn status(said: Said) -> TrainingNetworkStatus {
        TrainingNetworkStatus {
            conditions: conditions::merge(&[], vec![said], Some(1), Timestamp::UNIX_EPOCH),
            ..TrainingNetworkStatus::default()
        }
    }

    #[test]
    fn a_refusal_that_its_fabric_has_an_event_for_is_told_as_not_reserved_with_the_same_text() {
        for (reason, expected) in [
            (Reason::LedgerRestored, Reason::NotReserved),
            (Reason::SchemaOlder, Reason::NotReserved),
            (Reason::QuotaExceeded, Reason::QuotaExceeded),
        ] {
            let told = news(None, &status(Said::no("Reserved", reason, "2 nodes have not answered")));
            let told: Vec<(Reason, &str)> = told.iter().map(|event| (event.reason, &*event.note)).collect();
            assert_eq!(told, [(expected, "2 nodes have not answered")]);
        }
    }
}
