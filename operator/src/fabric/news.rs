//! Which changes of a fabric's status are worth an event. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use railhead_crds::{FabricStatus, reasons::Reason};
use railhead_service::events::Event;

use crate::{conditions, recount, schemas};

/// What is worth an event in going from one status to the next.
pub(super) fn news(before: Option<&FabricStatus>, after: &FabricStatus) -> Vec<Event> {
    let before = before.map_or(&[][..], |status| &status.conditions);
    let mut news = Vec::new();
    let restored = conditions::find(&after.conditions, recount::LEDGER_RESTORED);
    if let Some(now) = restored.filter(|now| now.status == "True")
        && !conditions::is_true(before, recount::LEDGER_RESTORED)
    {
        news.push(Event::warning("Reserve", Reason::LedgerRestored, now.message.clone()));
    }
    let is_doubted = |said: &&Condition| said.message.contains(recount::DOUBTED);
    let was_doubted = conditions::find(before, recount::LEDGER_RESTORED).filter(is_doubted);
    if let (Some(now), None) = (restored.filter(is_doubted), was_doubted) {
        news.push(Event::warning("Observe", Reason::NodesDoubted, now.message.clone()));
    }
    for (type_, reason) in [
        (schemas::SCHEMAS_CURRENT, Reason::SchemaOlder),
        ("PoolsHealthy", Reason::PoolsInvalid),
        ("NodesReady", Reason::NodesNotReady),
    ] {
        let Some(now) = conditions::find(&after.conditions, type_) else {
            continue;
        };
        let same = conditions::find(before, type_).is_some_and(|was| was.message == now.message);
        let note = if now.reason == reason {
            now.message.clone()
        } else {
            format!("{}: {}", now.reason, now.message)
        };
        if now.status == "False" && !same {
            news.push(Event::warning("Observe", reason, note));
        }
    }
    news
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::conditions::Said;

    fn status(said: Vec<Said>) -> FabricStatus {
        FabricStatus {
            conditions: conditions::merge(&[], said, Some(1), Timestamp::UNIX_EPOCH),
            ..FabricStatus::default()
        }
    }

    fn told(before: Option<&FabricStatus>, after: &FabricStatus) -> Vec<(Reason, String)> {
        let news = news(before, after).into_iter();
        news.map(|event| (event.reason, event.note)).collect()
    }

    #[test]
    fn nodes_that_are_not_ready_are_told_with_what_the_first_of_them_lacks_and_once() {
        let lacks = |message| status(vec![Said::no("NodesReady", Reason::PortDown, message)]);
        let one = lacks("1/2 nodes have all ports");
        let expected = "PortDown: 1/2 nodes have all ports".to_owned();
        assert_eq!(told(None, &one), [(Reason::NodesNotReady, expected)]);
        assert_eq!(told(Some(&one), &one), []);
        assert_eq!(told(Some(&one), &lacks("0/2 nodes have all ports")).len(), 1);
        let all = status(vec![Said::yes(
            "NodesReady",
            Reason::AllReady,
            "2/2 nodes have all ports",
        )]);
        assert_eq!(told(Some(&one), &all), []);
    }

    #[test]
    fn pools_and_definitions_that_end_reservations_are_told_without_the_reason_in_front() {
        let wrong = status(vec![
            Said::no("PoolsHealthy", Reason::PoolsInvalid, "10.0.0.0/24 overlaps"),
            Said::no(schemas::SCHEMAS_CURRENT, Reason::SchemaOlder, "they lack fields"),
        ]);
        let expected = [
            (Reason::SchemaOlder, "they lack fields".to_owned()),
            (Reason::PoolsInvalid, "10.0.0.0/24 overlaps".to_owned()),
        ];
        assert_eq!(told(None, &wrong), expected);
    }

    #[test]
    fn a_ledger_that_was_restored_and_nodes_that_are_not_believed_are_told_when_it_begins() {
        let restored = |yes: bool, message: &str| {
            let type_ = recount::LEDGER_RESTORED;
            status(vec![if yes {
                Said::yes(type_, Reason::NodesAsked, message)
            } else {
                Said::no(type_, Reason::AllAnswered, message)
            }])
        };
        let reasons = |before, after: &FabricStatus| {
            let told = told(before, after).into_iter();
            told.map(|(reason, _)| reason).collect::<Vec<_>>()
        };
        let (asked, fewer) = (
            restored(true, "2 of them have not"),
            restored(true, "1 of them has not"),
        );
        assert_eq!(reasons(None, &asked), [Reason::LedgerRestored]);
        assert!(reasons(Some(&asked), &fewer).is_empty());
        let doubted = restored(true, &format!("2 of them have not; {}: node1", recount::DOUBTED));
        assert_eq!(reasons(Some(&asked), &doubted), [Reason::NodesDoubted]);
        let answered = restored(false, &format!("{}: node1", recount::DOUBTED));
        assert!(reasons(Some(&doubted), &answered).is_empty());
    }
}
