//! All changes in the order in which they happened: the API server numbers the changes of all kinds by one counter, so four watches
//! together tell of every state that there ever was.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{
    api::{Api, items},
    facts::{Change, Kind, Present, is_ours},
};

/// How many changes are kept to be shown with a breach.
const SHOWN: usize = 100_000;
/// Longer than a watch is ever late.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the watches have told.
#[derive(Debug, Default)]
struct Told {
    /// Not looked at yet.
    new: BTreeMap<(u64, Kind), Change>,
    /// The latest version of each object that is there.
    latest: BTreeMap<(Kind, String), u64>,
    failed: Option<String>,
}

/// The watches, and what was seen by them.
#[derive(Debug)]
pub(super) struct History {
    told: Arc<Mutex<Told>>,
    /// What was there at the beginning and was not looked at yet: ledgers before what is made of them.
    first: Vec<Change>,
    old: VecDeque<Change>,
}

impl History {
    /// Watches from now on.
    pub(super) fn begin(api: &Api) -> Result<Self> {
        let told = Arc::new(Mutex::new(Told::default()));
        let mut first = Vec::new();
        for kind in Kind::ALL {
            let (present, version) = items(api.clone().get(kind.path())?.ok()?)?;
            for object in present.iter().filter(|object| is_ours(kind, object)) {
                let change = Change::read(kind, false, object)?;
                lock(&told).latest.insert((kind, change.name.clone()), change.version);
                first.push(change);
            }
            thread::spawn({
                let (api, told) = (api.clone(), Arc::clone(&told));
                move || {
                    if let Err(error) = follow(&api, kind, version, &told) {
                        lock(&told).failed = Some(format!("the watch of {kind:?}: {error:#}"));
                    }
                }
            });
        }
        // What is there was made of ledgers whose versions are gone by now.
        first.sort_by_key(|change| (change.kind != Kind::Ledger, change.version));
        Ok(Self {
            told,
            first,
            old: VecDeque::new(),
        })
    }

    /// Waits until the watches have told all that happened so far, and gives what is new, in order. Nothing must change meanwhile.
    pub(super) fn until_now(&mut self, present: &Present) -> Result<Vec<Change>> {
        let expected: BTreeMap<_, _> = present
            .iter()
            .map(|(key, change)| (key.clone(), change.version))
            .collect();
        let start = Instant::now();
        loop {
            let mut told = lock(&self.told);
            if let Some(failed) = &told.failed {
                bail!("{failed}");
            }
            if told.latest == expected {
                let mut new = std::mem::take(&mut self.first);
                new.extend(std::mem::take(&mut told.new).into_values());
                drop(told);
                self.old.extend(new.iter().cloned());
                let surplus = self.old.len().saturating_sub(SHOWN);
                self.old.drain(..surplus);
                return Ok(new);
            }
            if start.elapsed() > PATIENCE {
                let missing = expected
                    .iter()
                    .find(|(key, version)| told.latest.get(*key) != Some(*version));
                bail!("the watches are not where the lists are: {missing:?}");
            }
            drop(told);
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The changes up to `version` that name any of `words`.
    pub(super) fn show(&self, version: u64, words: &[String]) -> String {
        let lines = self.old.iter().filter(|change| change.version <= version);
        let lines = lines.map(ToString::to_string);
        let of_these = |line: &String| {
            words
                .iter()
                .any(|word| !word.is_empty() && line.contains(word.as_str()))
        };
        let lines: Vec<String> = lines
            .filter(of_these)
            .map(|line| {
                // Of a ledger only what it says of these.
                let mut parts = line.lines();
                let head = parts.next().unwrap_or_default().to_owned();
                let rest = parts.filter(|part| of_these(&(*part).to_owned()));
                rest.fold(head, |all, part| all + "\n" + part)
            })
            .collect();
        lines[lines.len().saturating_sub(80)..].join("\n")
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(told: &Mutex<Told>, change: Change) {
    let mut told = lock(told);
    let key = (change.kind, change.name.clone());
    if change.is_gone {
        told.latest.remove(&key);
    } else {
        told.latest.insert(key, change.version);
    }
    told.new.insert((change.version, change.kind), change);
}

fn follow(api: &Api, kind: Kind, mut version: u64, told: &Mutex<Told>) -> Result<()> {
    loop {
        for event in api.watch(kind.path(), version)? {
            // The connection may break; the next watch begins where this one ended.
            let Ok(event) = event else { break };
            let object = &event["object"];
            match event["type"].as_str() {
                Some("BOOKMARK") => version = super::api::version_of(&object["metadata"])?,
                Some("ADDED" | "MODIFIED" | "DELETED") => {
                    version = super::api::version_of(&object["metadata"])?;
                    if is_ours(kind, object) {
                        note(told, Change::read(kind, event["type"] == "DELETED", object)?);
                    }
                }
                _ => bail!("it was told {event}"),
            }
        }
    }
}

/// What is there now, of all kinds.
pub(super) fn present(api: &mut Api) -> Result<Present> {
    let mut present = Present::new();
    for kind in Kind::ALL {
        let (objects, _) = items(api.get(kind.path())?.ok()?)?;
        for object in objects.iter().filter(|object| is_ours(kind, object)) {
            let change = Change::read(kind, false, object)?;
            present.insert((kind, change.name.clone()), change);
        }
    }
    Ok(present)
}
