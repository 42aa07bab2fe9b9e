//! `events`: what happened to something, the oldest first.

use std::collections::BTreeSet;

use clap::Subcommand;
use railhead_crds::names;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Asked,
    cluster::{Cluster, Event, Kind, ReadError, Wanted, key},
    exit::Exit,
    lookup::{found_network, network_of, object_name},
    output::{Cell, Page, Report, age},
};

/// Of what.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// A TrainingNetwork, its slice, its claim template, its attachments and its pods.
    #[command(visible_aliases = ["trainingnetwork", "tnet"])]
    Network {
        /// Its name.
        name: String,
    },
}

/// Reads, reports and shows.
pub(crate) async fn run(asked: &Asked, Args::Network { name }: &Args) -> Result<Exit, ReadError> {
    asked.one_namespace()?;
    let wanted = Wanted::all_of([Kind::Networks, Kind::Events])
        .and_if_allowed([Kind::Slices, Kind::Pods])
        .of_network(object_name(name)?);
    let cluster = asked.read(wanted).await?;
    let report = of_network(&cluster, name);
    if report.events.is_empty() {
        found_network(&cluster, name)?;
    }
    Ok(asked.show(&cluster, &report))
}

/// What happened to a network.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventsReport {
    /// Namespace and name of the network.
    network: String,
    /// The oldest first.
    events: Vec<EventLine>,
}

/// One event.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct EventLine {
    /// When it was last so.
    last: Option<String>,
    /// How long ago that was, as people write it.
    age: String,
    /// How often.
    count: u32,
    /// Whether it is a warning.
    warning: bool,
    /// Why, in one word.
    reason: String,
    /// What it is about, as in `Pod team-a/llama-5`.
    about: String,
    /// What is said.
    message: String,
    /// Who says it.
    reporter: String,
}

fn of_network(cluster: &Cluster, name: &str) -> EventsReport {
    let namespace = cluster.namespace.as_deref().unwrap_or_default();
    let about = objects(cluster, namespace, name);
    let is_about = |event: &&Event| {
        let happened = &event.about;
        // An event of an object that is gone is found by the name that it must have had.
        let is_known = about.contains(&(happened.kind.as_str(), happened.name.as_str()));
        happened.namespace == namespace && (is_known || was_of(name, &happened.kind, &happened.name))
    };
    EventsReport {
        network: format!("{namespace}/{name}"),
        events: cluster
            .events
            .iter()
            .filter(is_about)
            .map(|event| line(cluster, event))
            .collect(),
    }
}

/// Kind and name of what belongs to the network.
fn objects<'a>(cluster: &'a Cluster, namespace: &str, name: &'a str) -> BTreeSet<(&'static str, &'a str)> {
    let mut about = BTreeSet::from([("TrainingNetwork", name)]);
    let slices = cluster.slices.iter().filter(|slice| slice.spec.network.name == name);
    let slices = slices.filter(|slice| key(&slice.metadata).0 == namespace);
    about.extend(slices.map(|slice| ("NetworkSlice", key(&slice.metadata).1)));
    let pods = cluster.pods.iter().filter(|pod| network_of(pod) == Some(name));
    about.extend(pods.map(|pod| ("Pod", key(&pod.metadata).1)));
    about
}

/// Whether an object of that name must have been the network's: its slice, an attachment, or its claim template.
fn was_of(network: &str, kind: &str, name: &str) -> bool {
    match kind {
        "ResourceClaimTemplate" => name == names::claim_template(network),
        "NetworkSlice" | "NetworkAttachment" => {
            let rest = name.strip_prefix(network).and_then(|rest| rest.strip_prefix('-'));
            let mut parts = rest.unwrap_or_default().split('-');
            let uid = parts.next().unwrap_or_default();
            let index = parts.next().unwrap_or("0");
            uid.len() == 8
                && uid.bytes().all(|byte| byte.is_ascii_hexdigit())
                && index.parse::<u32>().is_ok()
                && parts.next().is_none()
        }
        _ => false,
    }
}

fn line(cluster: &Cluster, event: &Event) -> EventLine {
    let about = &event.about;
    EventLine {
        last: event.last.map(|last| last.to_string()),
        age: event
            .last
            .map_or_else(|| "?".to_owned(), |last| age(last, cluster.read_at)),
        count: event.count,
        warning: event.warning,
        reason: event.reason.clone(),
        about: format!("{} {}", about.kind, about.name),
        message: event.message.clone(),
        reporter: event.reporter.clone(),
    }
}

impl Report for EventsReport {
    const KIND: &'static str = "Events";

    fn show(&self, page: &mut Page) {
        if self.events.is_empty() {
            page.line(format!(
                "No events of network {}: Kubernetes keeps them for an hour. kubectl railhead why network says how it is now.",
                self.network
            ));
            return;
        }
        for event in &self.events {
            let count = if event.count > 1 {
                format!(" (x{})", event.count)
            } else {
                String::new()
            };
            let mut row = vec![
                Cell::plain(format!("{}{count}", event.age)),
                Cell::good_if(!event.warning, &event.reason),
                Cell::plain(&event.about),
            ];
            if page.is_wide() {
                row.push(Cell::dim(&event.reporter));
            }
            row.push(Cell::plain(&event.message));
            page.row(0, row);
        }
    }

    fn exit(&self) -> Exit {
        Exit::Fine
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        fixtures,
        output::{Format, render},
    };

    fn event(kind: &str, name: &str, namespace: &str, reason: &str, last: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": format!("{name}.{reason}"), "namespace": namespace},
            "involvedObject": {"kind": kind, "name": name, "namespace": namespace, "uid": "u"}, "type": "Warning", "reason": reason,
            "message": format!("of {name}"), "lastTimestamp": last, "count": 2, "reportingComponent": "railhead-operator",
        })
    }

    #[test]
    fn what_happened_to_a_network_and_what_is_its_own_comes_in_order_and_nothing_of_others() {
        let mut objects = fixtures::all();
        objects.extend([
            event("Pod", "llama-0", "team-a", "IndexHeld", "2026-01-01T00:09:00Z"),
            event("TrainingNetwork", "llama", "team-a", "Reserved", "2026-01-01T00:00:01Z"),
            event(
                "NetworkAttachment",
                "llama-deadbeef-7",
                "team-a",
                "Gone",
                "2026-01-01T00:08:00Z",
            ),
            event("TrainingNetwork", "bloom", "team-a", "Reserved", "2026-01-01T00:00:01Z"),
            event(
                "NetworkAttachment",
                "llama-3-deadbeef-7",
                "team-a",
                "OfAnother",
                "2026-01-01T00:08:00Z",
            ),
            event("TrainingNetwork", "llama", "team-b", "Reserved", "2026-01-01T00:00:01Z"),
        ]);
        let cluster = fixtures::cluster(objects);
        let text = render(Format::Table, &cluster, &of_network(&cluster, "llama"));
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "\
9m59s (x2)  Reserved   TrainingNetwork llama               of llama
2m (x2)     Gone       NetworkAttachment llama-deadbeef-7  of llama-deadbeef-7
60s (x2)    IndexHeld  Pod llama-0                         of llama-0
"
        );
        let none = of_network(&fixtures::cluster(fixtures::all()), "llama");
        assert!(render(Format::Table, &cluster, &none).starts_with("No events of network team-a/llama"));
    }
}
