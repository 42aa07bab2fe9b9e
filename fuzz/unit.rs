//! What `make fuzz` runs for minutes, the unit tier runs for seconds: every file of the corpus, and what a few changes make of
//! it. Part of the tests of each crate, and not of this package.

use std::{fs, path::Path};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

/// What fuzzers do to an input.
#[derive(Clone, Debug)]
enum Change {
    Cut(usize),
    Flip(usize, u8),
    Insert(usize, &'static str),
    Repeat(usize, usize),
    /// A text that is far too long for a message.
    Lengthen(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let word = prop::sample::select(vec![
        "\0",
        "\"",
        "{",
        "[[[[",
        "]",
        "null",
        "-1",
        "1e999",
        "\\u0000",
        "\u{7f}",
        "../",
        "18446744073709551616",
        "\n\n",
    ]);
    prop_oneof![
        any::<usize>().prop_map(Change::Cut),
        (any::<usize>(), 1_u8..).prop_map(|(place, bits)| Change::Flip(place, bits)),
        (any::<usize>(), word).prop_map(|(place, word)| Change::Insert(place, word)),
        (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Change::Repeat(from, to)),
        any::<usize>().prop_map(Change::Lengthen),
    ]
}

fn apply(input: &mut Vec<u8>, change: &Change) {
    let place = |number: usize, input: &Vec<u8>| number % (input.len() + 1);
    match *change {
        Change::Cut(at) => input.truncate(place(at, input)),
        Change::Flip(at, bits) => {
            let at = place(at, input);
            if let Some(byte) = input.get_mut(at) {
                *byte ^= bits;
            }
        }
        Change::Insert(at, word) => {
            let at = place(at, input);
            input.splice(at..at, word.bytes());
        }
        Change::Repeat(from, to) => {
            let (from, to) = (place(from, input), place(to, input));
            let part = input[from.min(to)..from.max(to)].to_vec();
            input.extend(part);
        }
        Change::Lengthen(at) => {
            let at = place(at, input);
            input.splice(at..at, std::iter::repeat_n(b'x', 20_000));
        }
    }
}

/// Runs a target over the corpus of its name, and over `cases` changed inputs: few where each makes files.
pub fn run(name: &str, target: fn(&[u8]), cases: u32) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let seeds: Vec<Vec<u8>> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| fs::read(entry.expect("a file of the corpus").path()).expect("a file of the corpus"))
        .collect();
    assert!(seeds.len() > 1, "the corpus of {name} is in the tree");
    for seed in &seeds {
        target(seed);
    }
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let inputs = (prop::sample::select(seeds), prop::collection::vec(change(), 1..4));
    let result = runner.run(&inputs, |(mut input, changes)| {
        for change in &changes {
            apply(&mut input, change);
        }
        target(&input);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
