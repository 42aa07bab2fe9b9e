//! What was given back rests before anybody gets it: whoever had it may not have heard of it yet (an operator that was cut off, a
//! switch, a neighbour that still knows the address by another's MAC).

use k8s_openapi::jiff::Timestamp;
use railhead_crds::{FabricLedgerSpec, LedgerEntry, LedgerState};

use super::{Refusal, free::Taken};

/// Whether an entry is nobody's and given to nobody.
pub fn rests(entry: &LedgerEntry) -> bool {
    entry.state == LedgerState::Resting
}

/// Whether it has rested. It goes when somebody has made sure that no slice was made of it late.
pub fn has_rested(entry: &LedgerEntry, now: Timestamp) -> bool {
    rests(entry) && entry.rests_until.as_ref().is_none_or(|until| until.0 <= now)
}

/// Whether anything has not rested yet.
pub fn any_rests(ledger: &FabricLedgerSpec, now: Timestamp) -> bool {
    ledger
        .entries
        .iter()
        .any(|entry| rests(entry) && !has_rested(entry, now))
}

/// When the next entry has rested.
pub fn next_to_wake(ledger: &FabricLedgerSpec) -> Option<Timestamp> {
    let resting = ledger.entries.iter().filter(|entry| rests(entry));
    resting
        .map(|entry| {
            entry
                .rests_until
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |until| until.0)
        })
        .min()
}

/// What there would be if nothing rested.
pub(super) struct Rest {
    /// What is taken and does not rest, and when the last of that which does has rested.
    awake: Option<(Taken, Timestamp)>,
}

impl Rest {
    pub(super) fn of(entries: &[LedgerEntry]) -> Self {
        let resting = entries.iter().filter(|entry| rests(entry));
        let last = resting.filter_map(|entry| Some(entry.rests_until.as_ref()?.0)).max();
        let awake = last.map(|last| {
            let awake = Taken::by(entries.iter().filter(|entry| !rests(entry)));
            (awake, last)
        });
        Self { awake }
    }

    /// Somebody got this.
    pub(super) fn take(&mut self, entry: &LedgerEntry) {
        if let Some((awake, _)) = &mut self.awake {
            awake.take(entry);
        }
    }

    /// The refusal, or that there is room as soon as all has rested.
    pub(super) fn or_rests<T>(&self, refusal: Refusal, find: impl FnOnce(&Taken) -> Result<T, Refusal>) -> Refusal {
        match &self.awake {
            Some((awake, until)) if find(awake).is_ok() => Refusal::Rests {
                reason: refusal.reason(),
                until: *until,
            },
            _ => refusal,
        }
    }
}
