//! What the checker reads of API objects: raw JSON, nothing of Railhead's own types.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    api::version_of,
    people::{FABRICS, NAMESPACES},
};

/// Annotation by which the soak says that it edited a ledger itself.
pub(super) const BY_HAND: &str = "soak.railhead.dev/edit";

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Network,
    Slice,
    Attachment,
    Ledger,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Network, Self::Slice, Self::Attachment, Self::Ledger];

    /// Where all objects of the kind are.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Network => "/apis/railhead.dev/v1alpha1/trainingnetworks",
            Self::Slice => "/apis/railhead.dev/v1alpha1/networkslices",
            Self::Attachment => "/apis/railhead.dev/v1alpha1/networkattachments",
            Self::Ledger => "/apis/railhead.dev/v1alpha1/fabricledgers",
        }
    }
}

/// Whether an object is of the soak. Others do what they like with theirs, break rules on purpose among it.
pub(super) fn is_ours(kind: Kind, object: &Value) -> bool {
    let namespace = text(&object["metadata"]["namespace"]);
    let in_ours = namespace.starts_with(NAMESPACES);
    match kind {
        Kind::Network | Kind::Slice | Kind::Attachment => in_ours,
        Kind::Ledger => FABRICS.contains(&&*text(&object["metadata"]["name"])),
    }
}

/// An object at one version.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) is_gone: bool,
    pub(super) kind: Kind,
    /// `namespace/name`.
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) is_ending: bool,
    pub(super) facts: Facts,
}

/// What is read of it.
#[derive(Clone, Debug)]
pub(super) enum Facts {
    Network(Network),
    Slice(Slice),
    Attachment(Attachment),
    Ledger(Ledger),
}

/// A TrainingNetwork.
#[derive(Clone, Debug)]
pub(super) struct Network {
    /// Status, reason and message of Reserved.
    pub(super) reserved: Option<(String, String, String)>,
    pub(super) slice: Option<String>,
    pub(super) is_observed: bool,
}

/// A NetworkSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) network_uid: String,
    pub(super) fabric: String,
    pub(super) intervals: Vec<(u64, u64)>,
    pub(super) vlan: Option<u64>,
    /// First and last address, by rail.
    pub(super) addresses: Vec<(u64, IpAddr, IpAddr)>,
}

/// A NetworkAttachment.
#[derive(Clone, Debug)]
pub(super) struct Attachment {
    /// `namespace/name`.
    pub(super) slice: String,
    pub(super) index: u64,
    /// Its node has checked it against the slice, and says that the pod is wired.
    pub(super) is_wired: bool,
}

/// A FabricLedger.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) sequence: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) by_hand: Option<String>,
}

/// An entry of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) owner_uid: String,
    pub(super) owner: String,
    /// First slot and number of slots.
    pub(super) intervals: Vec<(u64, u64)>,
    pub(super) vlan: Option<u64>,
    pub(super) state: String,
}

impl Change {
    /// Reads one of `kind`.
    pub(super) fn read(kind: Kind, is_gone: bool, object: &Value) -> Result<Self> {
        let metadata = &object["metadata"];
        let name = format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"]));
        let facts = match kind {
            Kind::Network => Facts::Network(network(object)),
            Kind::Slice => Facts::Slice(slice(&object["spec"]).with_context(|| format!("NetworkSlice {name}"))?),
            Kind::Attachment => Facts::Attachment(attachment(object)?),
            Kind::Ledger => Facts::Ledger(ledger(object).with_context(|| format!("FabricLedger {name}"))?),
        };
        Ok(Self {
            version: version_of(metadata)?,
            is_gone,
            kind,
            name,
            uid: text(&metadata["uid"]),
            is_ending: !metadata["deletionTimestamp"].is_null(),
            facts,
        })
    }
}

fn network(object: &Value) -> Network {
    let status = &object["status"];
    let conditions = status["conditions"].as_array();
    let reserved = conditions.into_iter().flatten().find(|c| c["type"] == "Reserved");
    Network {
        reserved: reserved.map(|said| (text(&said["status"]), text(&said["reason"]), text(&said["message"]))),
        slice: status["sliceName"].as_str().map(str::to_owned),
        is_observed: status["observedGeneration"] == object["metadata"]["generation"],
    }
}

fn slice(spec: &Value) -> Result<Slice> {
    let rails = spec["rails"].as_array().context("no rails")?;
    let mut addresses = Vec::new();
    for rail in rails {
        let id = number(&rail["id"])?;
        let one = rail["prefix"].as_str();
        let several = rail["prefixes"].as_array().into_iter().flatten();
        for prefix in one.into_iter().chain(several.filter_map(prefix_of)) {
            let (first, last) = range(prefix)?;
            if !addresses.contains(&(id, first, last)) {
                addresses.push((id, first, last));
            }
        }
    }
    Ok(Slice {
        network_uid: text(&spec["network"]["uid"]),
        fabric: text(&spec["fabric"]["name"]),
        intervals: intervals(spec, "base", "capacity")?,
        vlan: rails.first().and_then(|rail| rail["vlan"].as_u64()),
        addresses,
    })
}

/// A prefix is a text, or an object that has it.
fn prefix_of(written: &Value) -> Option<&str> {
    written
        .as_str()
        .or_else(|| written["prefix"].as_str())
        .or_else(|| written["cidr"].as_str())
}

fn attachment(object: &Value) -> Result<Attachment> {
    let conditions = object["status"]["conditions"].as_array();
    Ok(Attachment {
        slice: format!(
            "{}/{}",
            text(&object["metadata"]["namespace"]),
            text(&object["spec"]["sliceName"])
        ),
        index: number(&object["spec"]["index"])?,
        is_wired: conditions
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Wired" && c["status"] == "True"),
    })
}

fn ledger(object: &Value) -> Result<Ledger> {
    let spec = &object["spec"];
    let entries = spec["entries"].as_array().into_iter().flatten();
    Ok(Ledger {
        sequence: number(&spec["sequence"])?,
        entries: entries.map(entry).collect::<Result<_>>()?,
        by_hand: object["metadata"]["annotations"][BY_HAND].as_str().map(str::to_owned),
    })
}

fn entry(entry: &Value) -> Result<Entry> {
    let owner = &entry["owner"];
    Ok(Entry {
        owner_uid: text(&owner["uid"]),
        owner: format!("{}/{}", text(&owner["namespace"]), text(&owner["name"])),
        intervals: intervals(entry, "base", "size")?,
        vlan: entry["vlan"].as_u64(),
        state: text(&entry["state"]),
    })
}

/// One interval in the fields of those names, or several in a list.
fn intervals(of: &Value, base: &str, size: &str) -> Result<Vec<(u64, u64)>> {
    match of["intervals"].as_array() {
        Some(several) if !several.is_empty() => several
            .iter()
            .map(|interval| Ok((number(&interval["base"])?, number(&interval["size"])?)))
            .collect(),
        _ => Ok(vec![(number(&of[base])?, number(&of[size])?)]),
    }
}

fn range(prefix: &str) -> Result<(IpAddr, IpAddr)> {
    let (first, length) = prefix.split_once('/').with_context(|| format!("prefix {prefix:?}"))?;
    let length: u32 = length.parse()?;
    Ok(match first.parse()? {
        IpAddr::V4(first) => {
            let rest = u32::MAX.checked_shr(length).unwrap_or(0);
            (first.into(), IpAddr::V4((u32::from(first) | rest).into()))
        }
        IpAddr::V6(first) => {
            let rest = u128::MAX.checked_shr(length).unwrap_or(0);
            (first.into(), IpAddr::V6((u128::from(first) | rest).into()))
        }
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("{value} is no number"))
}

/// Whether two ranges of slots share one.
pub(super) fn share_slots(one: &[(u64, u64)], other: &[(u64, u64)]) -> bool {
    let meet = |a: &(u64, u64), b: &(u64, u64)| a.0 < b.0 + b.1 && b.0 < a.0 + a.1;
    one.iter().any(|a| other.iter().any(|b| meet(a, b)))
}

impl Slice {
    /// Whether the entry gives exactly what the slice says.
    pub(super) fn is_given_by(&self, entry: &Entry) -> bool {
        let sorted = |intervals: &[(u64, u64)]| {
            let mut intervals = intervals.to_vec();
            intervals.sort_unstable();
            intervals
        };
        self.network_uid == entry.owner_uid
            && self.vlan == entry.vlan
            && sorted(&self.intervals) == sorted(&entry.intervals)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.is_gone, self.is_ending) {
            (true, _) => "is gone",
            (false, true) => "is ending",
            (false, false) => "is",
        };
        write!(
            f,
            "{} {:?} {} ({}) {state}",
            self.version, self.kind, self.name, self.uid
        )?;
        match &self.facts {
            Facts::Network(network) => write!(f, " {:?} slice {:?}", network.reserved, network.slice),
            Facts::Slice(slice) => write!(
                f,
                " slots {:?} VLAN {:?} of {}",
                slice.intervals, slice.vlan, slice.network_uid
            ),
            Facts::Attachment(attachment) => write!(f, " index {} wired {}", attachment.index, attachment.is_wired),
            Facts::Ledger(ledger) => {
                write!(f, " sequence {}, edit {:?}", ledger.sequence, ledger.by_hand)?;
                for entry in &ledger.entries {
                    write!(
                        f,
                        "\n        {} {:?} VLAN {:?} {} {}",
                        entry.state, entry.intervals, entry.vlan, entry.owner, entry.owner_uid
                    )?;
                }
                Ok(())
            }
        }
    }
}

/// What is there, by kind and name.
pub(super) type Present = BTreeMap<(Kind, String), Change>;
