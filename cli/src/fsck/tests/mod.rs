mod planted;
pub(crate) mod sound;

use k8s_openapi::jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::Value;

use self::sound::{Network, sound};
use super::{Check, FsckReport, Who, report};
use crate::{
    cluster,
    exit::Exit,
    output::{Format, Report as _, render},
};

const IDLE: SignedDuration = SignedDuration::from_hours(72);

fn look(objects: Vec<Value>) -> FsckReport {
    report(&cluster::of_objects(objects, None, sound::NOW), IDLE)
}

fn found(report: &FsckReport) -> Vec<(Check, Who)> {
    report
        .findings
        .iter()
        .map(|finding| (finding.check, finding.who))
        .collect()
}

#[test]
fn a_sound_cluster_is_clean_and_says_how_much_was_compared() {
    let objects = sound(&sound::networks());
    let report = look(objects.clone());
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!(report.exit(), Exit::Fine);
    let cluster = cluster::of_objects(objects, None, sound::NOW);
    let shown = render(Format::Table, &cluster, &report);
    assert!(
        shown.contains("networks 4, slices 4, attachments 6, claims 6, nodes 2"),
        "{shown}"
    );
    assert!(shown.contains("nothing contradicts anything"), "{shown}");
}

#[test]
fn an_empty_cluster_is_clean() {
    assert!(look(Vec::new()).findings.is_empty());
}

/// An object of a later release, or one that was edited by hand, is there all the same.
#[test]
fn what_could_not_be_read_is_not_gone_and_nothing_is_repaired() {
    let mut objects = sound(&sound::networks());
    for object in &mut objects {
        // A claim that nobody owns, of a network that is there and cannot be read; and a slice without its finalizer.
        if object["kind"] == "ResourceClaim" {
            object["metadata"]["ownerReferences"] = Value::Null;
            object["status"]["reservedFor"] = Value::Null;
        }
        if object["kind"] == "NetworkSlice" {
            object["metadata"]["finalizers"] = Value::Null;
        }
        if object["kind"] == "TrainingNetwork" && object["metadata"]["name"] == "llama" {
            object["spec"]["pods"] = serde_json::json!("many");
        }
    }
    let report = look(objects);
    assert_eq!(
        found(&report),
        [(Check::SliceUnguarded, Who::ByHand); 4],
        "{:#?}",
        report.findings
    );
    assert!(report.findings.iter().all(|finding| finding.repair.is_none()));
    assert_eq!(report.exit(), Exit::CannotTell);
}

#[test]
fn what_was_not_saved_is_not_gone() {
    let mut objects = sound(&sound::networks());
    objects.retain(|object| object["kind"] != "Pod");
    let mut cluster = cluster::of_objects(objects, None, sound::NOW);
    super::not_in_files(&mut cluster);
    let report = report(&cluster, IDLE);
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!(report.exit(), Exit::CannotTell);
}

/// What a first look found and a second did not was a change that was going on.
#[test]
fn what_is_gone_at_the_second_look_is_not_told() {
    let mut objects = sound(&sound::networks());
    let whole = look(objects.clone());
    objects.retain(|object| object["kind"] != "FabricLedger");
    let first = look(objects.clone());
    assert_eq!(first.findings.len(), 4, "one for each slice");
    assert!(super::confirmed(whole, &first).findings.is_empty());
    assert_eq!(super::confirmed(look(objects), &first).findings.len(), 4);
}

#[test]
fn of_a_namespace_is_told_what_names_one_of_its_objects() {
    let mut objects = sound(&sound::networks());
    objects.retain(|object| object["kind"] != "FabricLedger");
    let about = |namespace| look(objects.clone()).about(Some(namespace)).findings.len();
    assert_eq!((about("team-a"), about("team-b"), about("team")), (2, 2, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever the planner reserves is clean, for as many pods of it as are attached.
    #[test]
    fn what_the_planner_reserves_is_clean(
        wanted in prop::collection::vec((1_u32..70, any::<prop::sample::Index>()), 1..24),
    ) {
        let networks: Vec<Network> = wanted
            .iter()
            .enumerate()
            .map(|(number, (pods, attached))| Network {
                namespace: if number % 2 == 0 { "team-a" } else { "team-b" },
                name: format!("n{number}"),
                pods: *pods,
                attached: u32::try_from(attached.index(4)).unwrap_or(0).min(*pods),
            })
            .collect();
        let report = look(sound(&networks));
        prop_assert!(report.findings.is_empty(), "{:#?}", report.findings);
    }
}
