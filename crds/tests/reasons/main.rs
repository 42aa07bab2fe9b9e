//! Each reason of a condition or an event is in the documentation, and in a test that would notice if it changed.

mod sources;

use std::{collections::BTreeSet, fs};

use railhead_crds::reasons::Reason;
use sources::{expects, root, test_code};

/// In the first column of the tables, and not Railhead's: an event of Kubernetes's, and a status.
const NOT_OURS: [&str; 2] = ["FailedResourceClaimCreation", "Unknown"];

/// Expected by no test yet.
const NOT_EXPECTED: [&str; 1] = ["NotReadable"];

#[test]
fn the_page_of_reasons_is_that_of_the_list() {
    let page = root().join("docs/reasons.md");
    let shipped = fs::read_to_string(page).unwrap_or_default();
    assert!(
        shipped == railhead_crds::reasons::markdown(),
        "docs/reasons.md is stale: run `make generate`"
    );
}

/// The words in backticks of the first column of each table of `docs/troubleshooting.md`.
fn troubleshooting() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).expect("the page is there");
    let rows = page.lines().filter(|line| line.starts_with("| "));
    rows.filter_map(|row| row.split(" | ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase()) && text.chars().all(|each| each.is_ascii_alphabetic())
}

#[test]
fn what_somebody_has_to_do_something_about_is_in_the_tables_of_troubleshooting() {
    let named = troubleshooting();
    let missing: Vec<Reason> = Reason::all()
        .filter(|reason| reason.next().is_some() && !named.contains(reason.name()))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/troubleshooting.md has no row with {missing:?}"
    );
}

#[test]
fn troubleshooting_names_no_reason_and_no_condition_that_does_not_exist() {
    let conditions: BTreeSet<&str> = Reason::all()
        .flat_map(Reason::places)
        .filter_map(|place| place.condition())
        .collect();
    let named = troubleshooting();
    let unknown: Vec<&String> = named
        .iter()
        .filter(|word| match word.split_once('=') {
            Some((type_, "True" | "False" | "Unknown")) => !conditions.contains(type_),
            _ => is_word(word) && Reason::named(word).is_none() && !NOT_OURS.contains(&word.as_str()),
        })
        .collect();
    assert!(unknown.is_empty(), "docs/troubleshooting.md names {unknown:?}");
    assert!(
        named.len() > 50,
        "the tables are not read as they are written: {named:?}"
    );
}

#[test]
fn each_reason_is_expected_by_a_test() {
    let tests = test_code(&root());
    assert!(tests.len() > 100, "only {} files with tests were found", tests.len());
    let is_expected = |reason: Reason| {
        let words = [format!("\"{reason}\""), format!("Reason::{reason}")];
        tests.iter().any(|code| expects(code, &words))
    };
    let not_expected: BTreeSet<&str> = Reason::all()
        .filter(|reason| !is_expected(*reason))
        .map(Reason::name)
        .collect();
    assert_eq!(
        not_expected,
        BTreeSet::from(NOT_EXPECTED),
        "write a test that expects the reason; one that has such a test is not on the list of those that have none"
    );
}

/// A condition or event that is put together by hand could have any reason.
#[test]
fn conditions_and_events_are_made_where_their_reason_is_of_the_list() {
    let makers: BTreeSet<String> =
        sources::code_of(&root(), &["operator/src", "agent/src", "service/src", "planner/src"])
            .into_iter()
            .filter(|(_, code)| {
                let mut lines = code.lines().map(str::trim_start);
                lines.any(|line| line.starts_with("Condition {") || line.starts_with("events::Event {"))
            })
            .map(|(file, _)| file)
            .collect();
    let expected = [
        "agent/src/conditions.rs",
        "operator/src/conditions.rs",
        "service/src/events.rs",
    ];
    assert_eq!(makers, expected.map(str::to_owned).into());
}
