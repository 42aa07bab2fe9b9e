//! The invariants, checked at every state that there ever was, by arithmetic of its own.
//!
//! 1. No address, VLAN or slot (of which MAC addresses are made) of a fabric is in two slices, nor in two entries of a ledger, nor of
//!    two attachments.
//! 2. What a slice has is in the ledger as long as the slice is there, unless the ledger was edited by hand since.
//! 3. A slice is there as long as an attachment is that its node has wired.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Attachment, Change, Facts, Kind, Ledger, Present, Slice, share_slots};

/// Something that must never be.
#[derive(Debug)]
pub(super) struct Breach {
    pub(super) version: u64,
    pub(super) text: String,
    /// By which the changes that led to it are found.
    pub(super) words: Vec<String>,
}

/// The state at one version.
#[derive(Debug, Default)]
pub(super) struct Checker {
    slices: BTreeMap<String, (String, Slice)>,
    ledgers: BTreeMap<String, Ledger>,
    /// Fabrics whose ledgers were edited by hand, and that have not settled since.
    edited: BTreeSet<String>,
    /// Wired ones, each with what it has: fabric, rail and slot.
    attached: BTreeMap<String, (Attachment, BTreeSet<(String, u64)>)>,
    pub(super) states: u64,
    pub(super) breaches: Vec<Breach>,
}

impl Checker {
    /// Goes on by one change.
    pub(super) fn apply(&mut self, change: &Change) {
        self.states += 1;
        match &change.facts {
            Facts::Network(_) => {}
            Facts::Slice(_) if change.is_gone => self.slice_went(change),
            Facts::Slice(slice) => self.slice_came(change, slice),
            Facts::Ledger(ledger) => self.ledger_changed(change, (!change.is_gone).then_some(ledger)),
            Facts::Attachment(attachment) => self.attachment_changed(change, attachment),
        }
    }

    /// All is at rest: whatever was edited by hand was mended.
    pub(super) fn settled(&mut self) {
        self.edited.clear();
    }

    fn breach(&mut self, change: &Change, text: String, words: &[&str]) {
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        words.push(change.name.clone());
        self.breaches.push(Breach {
            version: change.version,
            text,
            words,
        });
    }

    fn slice_came(&mut self, change: &Change, slice: &Slice) {
        if let Some((_, before)) = self.slices.get(&change.name)
            && before == slice
        {
            return;
        }
        let others: Vec<(String, Slice)> = self
            .slices
            .iter()
            .filter(|(name, _)| **name != change.name)
            .map(|(name, (_, other))| (name.clone(), other.clone()))
            .collect();
        for (name, other) in others {
            let same_fabric = other.fabric == slice.fabric;
            let vlan = same_fabric && slice.vlan.is_some() && slice.vlan == other.vlan;
            let slots = same_fabric && share_slots(&slice.intervals, &other.intervals);
            let addresses = slice
                .addresses
                .iter()
                .any(|(_, first, last)| other.addresses.iter().any(|(_, from, to)| first <= to && from <= last));
            if vlan || slots || addresses {
                let text = format!(
                    "two slices have one VLAN ({vlan}), slot ({slots}) or address ({addresses}): {} and {name}",
                    change.name
                );
                self.breach(change, text, &[&name, &slice.network_uid, &other.network_uid]);
            }
        }
        let entries = self
            .ledgers
            .get(&slice.fabric)
            .map_or(&[][..], |ledger| &ledger.entries);
        if !self.edited.contains(&slice.fabric) && !entries.iter().any(|entry| slice.is_given_by(entry)) {
            let text = format!("{} is made of what the ledger does not give it", change.name);
            self.breach(change, text, &[&slice.network_uid]);
        }
        self.slices
            .insert(change.name.clone(), (change.uid.clone(), slice.clone()));
    }

    fn slice_went(&mut self, change: &Change) {
        let left = self.attached.iter().find(|(_, (of, _))| of.slice == change.name);
        if let Some((left, _)) = left {
            let text = format!("{} went while {left} is attached", change.name);
            let left = left.clone();
            self.breach(change, text, &[&left]);
        }
        self.slices.remove(&change.name);
    }

    fn ledger_changed(&mut self, change: &Change, now: Option<&Ledger>) {
        let fabric = change.name.trim_start_matches('/').to_owned();
        let before = self.ledgers.remove(&fabric);
        let Some(now) = now else {
            // Only people delete ledgers.
            self.edited.insert(fabric);
            return;
        };
        let by_hand = before.as_ref().is_some_and(|before| before.by_hand != now.by_hand);
        if by_hand {
            self.edited.insert(fabric.clone());
        }
        if let Some(before) = &before
            && !by_hand
        {
            if now.sequence <= before.sequence && now.entries != before.entries {
                let text = format!(
                    "the sequence of {fabric} went from {} to {}",
                    before.sequence, now.sequence
                );
                self.breach(change, text, &[]);
            }
            let lost: Vec<(String, String)> = self
                .slices
                .iter()
                .filter(|(_, (_, slice))| slice.fabric == fabric)
                .filter(|(_, (_, slice))| before.entries.iter().any(|entry| slice.is_given_by(entry)))
                .filter(|(_, (_, slice))| !now.entries.iter().any(|entry| slice.is_given_by(entry)))
                .map(|(name, (_, slice))| (name.clone(), slice.network_uid.clone()))
                .collect();
            for (name, uid) in lost {
                let text = format!("what {name} has was given back while it is there");
                self.breach(change, text, &[&name, &uid]);
            }
        }
        for (place, entry) in now.entries.iter().enumerate() {
            for other in &now.entries[place + 1..] {
                let vlan = entry.vlan.is_some() && entry.vlan == other.vlan;
                if vlan || share_slots(&entry.intervals, &other.intervals) {
                    let text = format!(
                        "the ledger gives one slot or VLAN to {} and {}",
                        entry.owner, other.owner
                    );
                    self.breach(change, text, &[&entry.owner_uid, &other.owner_uid]);
                }
            }
        }
        self.ledgers.insert(fabric, now.clone());
    }

    fn attachment_changed(&mut self, change: &Change, attachment: &Attachment) {
        if change.is_gone {
            self.attached.remove(&change.name);
            return;
        }
        if !attachment.is_wired || self.attached.contains_key(&change.name) {
            return;
        }
        let Some((_, slice)) = self.slices.get(&attachment.slice).cloned() else {
            let text = format!("{} is wired, and its slice is not there", change.name);
            self.breach(change, text, &[&attachment.slice]);
            return;
        };
        let slots = slice.intervals.iter().flat_map(|(base, size)| *base..base + size);
        let index = usize::try_from(attachment.index).unwrap_or(usize::MAX);
        let Some(slot) = slots.into_iter().nth(index) else {
            let text = format!("index {} of {} is not in its slice", attachment.index, change.name);
            self.breach(change, text, &[&attachment.slice]);
            return;
        };
        // Address and MAC address are the slot's, on every rail.
        let has = BTreeSet::from([(slice.fabric.clone(), slot)]);
        let other = self.attached.iter().find(|(_, (_, other))| !other.is_disjoint(&has));
        if let Some((other, (of, _))) = other.map(|(name, other)| (name.clone(), other.clone())) {
            let text = format!("{} and {other} have slot {slot} of {}", change.name, slice.fabric);
            self.breach(change, text, &[&other, &of.slice, &attachment.slice]);
        }
        self.attached.insert(change.name.clone(), (attachment.clone(), has));
    }
}

/// What is not as it should be when nobody does anything any more: reservations that are lost, left over or not made.
pub(super) fn unsettled(present: &Present) -> Vec<String> {
    let mut left = Vec::new();
    let of_kind = |kind: Kind| {
        present
            .range((kind, String::new())..)
            .take_while(move |((k, _), _)| *k == kind)
    };
    let networks: BTreeMap<&str, &Change> = of_kind(Kind::Network).map(|(_, n)| (n.uid.as_str(), n)).collect();
    let entries: Vec<_> = of_kind(Kind::Ledger)
        .filter_map(|(_, ledger)| match &ledger.facts {
            Facts::Ledger(facts) => Some((ledger, facts)),
            _ => None,
        })
        .flat_map(|(ledger, facts)| facts.entries.iter().map(move |entry| (ledger, entry)))
        .collect();
    let mut owners = BTreeSet::new();
    for ((_, name), change) in of_kind(Kind::Slice) {
        let Facts::Slice(slice) = &change.facts else { continue };
        owners.insert(slice.network_uid.as_str());
        let mut its = entries
            .iter()
            .filter(|(ledger, _)| ledger.name == format!("/{}", slice.fabric));
        if !its.any(|(_, entry)| slice.is_given_by(entry)) {
            left.push(format!("slice {name} has no entry"));
        }
        if !networks.contains_key(slice.network_uid.as_str()) {
            left.push(format!("slice {name} has no network"));
        }
    }
    for (ledger, entry) in &entries {
        let is_owned = networks.contains_key(entry.owner_uid.as_str()) || owners.contains(entry.owner_uid.as_str());
        if !is_owned && entry.state == "Held" {
            left.push(format!(
                "the ledger {} still has an entry of {}",
                ledger.name, entry.owner
            ));
        }
    }
    for change in networks.values() {
        let Facts::Network(network) = &change.facts else {
            continue;
        };
        let name = &change.name;
        if change.is_ending {
            let is_held = of_kind(Kind::Attachment).any(|(_, attachment)| match &attachment.facts {
                Facts::Attachment(facts) => {
                    !attachment.is_gone
                        && owned_by(present, &facts.slice).is_some_and(|slice| slice.network_uid == change.uid)
                }
                _ => false,
            });
            if !is_held {
                left.push(format!("network {name} is deleted and does not go"));
            }
            continue;
        }
        match &network.reserved {
            Some((status, _, _)) if status == "True" && network.is_observed => {
                let slice = network.slice.as_ref().zip(name.split_once('/'));
                let key = slice.map(|(slice, (namespace, _))| format!("{namespace}/{slice}"));
                if key.is_none_or(|key| owned_by(present, &key).is_none_or(|slice| slice.network_uid != change.uid)) {
                    left.push(format!("network {name} is reserved and has no slice"));
                }
            }
            Some((_, reason, _)) if network.is_observed && reason.ends_with("Exhausted") => {}
            other => left.push(format!("network {name} is not reserved: {other:?}")),
        }
    }
    for ((_, name), change) in of_kind(Kind::Attachment) {
        let Facts::Attachment(attachment) = &change.facts else {
            continue;
        };
        if owned_by(present, &attachment.slice).is_none() {
            left.push(format!("attachment {name} has no slice"));
        }
    }
    left
}

fn owned_by<'a>(present: &'a Present, slice: &str) -> Option<&'a Slice> {
    match &present.get(&(Kind::Slice, slice.to_owned()))?.facts {
        Facts::Slice(slice) => Some(slice),
        _ => None,
    }
}
