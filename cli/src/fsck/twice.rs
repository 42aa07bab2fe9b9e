//! What two attachments have of which only one may have it.

use std::{collections::HashMap, hash::Hash};

use railhead_crds::{NetworkAttachment, NetworkSlice};

use super::{
    attachments::{DELETE_POD, rails},
    finding::{self, Check, Finding, Remedy},
};
use crate::cluster::key;

/// What each attachment has that only one may have.
#[derive(Default)]
pub(super) struct Twice<'a> {
    indices: Of<'a, (&'a str, &'a str, u32)>,
    /// Node and PCI address.
    functions: Of<'a, (&'a str, &'a str)>,
    /// Fabric and address.
    addresses: Of<'a, (&'a str, &'a str)>,
    pods: Of<'a, &'a str>,
}

type Of<'a, K> = HashMap<K, Vec<&'a NetworkAttachment>>;

impl<'a> Twice<'a> {
    pub(super) fn note(&mut self, attachment: &'a NetworkAttachment, slice: Option<&'a NetworkSlice>) {
        let spec = &attachment.spec;
        let index = (key(&attachment.metadata).0, spec.slice_name.as_str(), spec.index);
        self.indices.entry(index).or_default().push(attachment);
        self.pods.entry(&spec.pod_uid).or_default().push(attachment);
        let fabric = slice.map_or("", |slice| slice.spec.fabric.name.as_str());
        for rail in rails(attachment) {
            let function = (spec.node_name.as_str(), rail.vf.as_str());
            self.functions.entry(function).or_default().push(attachment);
            for address in &rail.addresses {
                let host = address.split('/').next().unwrap_or_default();
                self.addresses.entry((fabric, host)).or_default().push(attachment);
            }
        }
    }

    pub(super) fn tell(self, found: &mut Vec<Finding>) {
        let by_hand = "which of the two pods is wired so on its node cannot be told from here";
        several(
            self.indices,
            |(_, slice, index), at, found| {
                let text = format!("index {index} of {slice} has {}", and(at));
                let remedy = Remedy::by_hand(by_hand);
                found.push(Finding::new(Check::IndexTwice, object(at), text, DELETE_POD, remedy));
            },
            found,
        );
        several(
            self.functions,
            |(node, function), at, found| {
                let text = format!("virtual function {function} of node {node} is of {}", and(at));
                let remedy = Remedy::by_hand(by_hand);
                found.push(Finding::new(Check::VfTwice, object(at), text, DELETE_POD, remedy));
            },
            found,
        );
        several(
            self.addresses,
            |(_, address), at, found| {
                let text = format!("address {address} is of {}", and(at));
                let remedy = Remedy::by_hand(by_hand);
                found.push(Finding::new(Check::AddressTwice, object(at), text, DELETE_POD, remedy));
            },
            found,
        );
        several(
            self.pods,
            |uid, at, found| {
                let text = format!("pod {} (UID {uid}) has {}", at[0].spec.pod_name, and(at));
                let remedy = Remedy::by_itself(
                    "the node's agent gives back the one that its plan does not name, within an hour",
                );
                let help = "nothing, while the agent of the node runs";
                found.push(Finding::new(Check::PodTwice, object(at), text, help, remedy));
            },
            found,
        );
    }
}

fn several<K: Hash + Eq + Ord + Copy>(
    of: Of<'_, K>,
    mut tell: impl FnMut(K, &[&NetworkAttachment], &mut Vec<Finding>),
    found: &mut Vec<Finding>,
) {
    let mut several: Vec<_> = of.into_iter().filter(|(_, at)| at.len() > 1).collect();
    several.sort_by_key(|(what, _)| *what);
    for (what, mut at) in several {
        at.sort_by_key(|attachment| key(&attachment.metadata));
        // One that has it on two rails has it twice as well.
        tell(what, &at, found);
    }
}

fn object(at: &[&NetworkAttachment]) -> String {
    finding::attachment(&at[0].metadata)
}

fn and(at: &[&NetworkAttachment]) -> String {
    let names: Vec<String> = at
        .iter()
        .map(|attachment| finding::attachment(&attachment.metadata))
        .collect();
    names.join(" and ")
}
