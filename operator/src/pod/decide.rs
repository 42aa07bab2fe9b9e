//! What there is to say about a pod that has not started. Pure.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use kube::ResourceExt as _;
use railhead_crds::{NetworkSlice, SliceRail, TrainingNetwork, names::NETWORK_LABEL, reasons::Reason};
use railhead_planner::index::{self, IndexChoice, Space, Span};

use super::{Free, is_unschedulable};
use railhead_service::events::Event;

use crate::{
    conditions,
    known::Pod,
    network::{listed, vlan_of},
    world::label,
};

/// What was observed.
pub(super) struct Seen<'a> {
    pub(super) pod: &'a Pod,
    /// The network that the label names.
    pub(super) network: Option<&'a TrainingNetwork>,
    /// All networks of the namespace, where the label names none of them.
    pub(super) others: &'a [Arc<TrainingNetwork>],
    pub(super) slice: Option<&'a NetworkSlice>,
    /// What is free, once that is known.
    pub(super) free: Option<&'a Free>,
}

pub(super) fn news(seen: &Seen<'_>) -> Vec<Event> {
    let Some(network) = seen.network else {
        return vec![not_found(seen)];
    };
    if network.metadata.deletion_timestamp.is_some() {
        let note = format!(
            "TrainingNetwork {} is being deleted and takes no new pods: apply it anew when it is gone",
            network.name_any()
        );
        return vec![Event::warning("Attach", Reason::NetworkDeleting, note)];
    }
    let Some(slice) = seen.slice else {
        return not_reserved(network).into_iter().collect();
    };
    if let Some(why) = slice.quarantine() {
        let note = format!("TrainingNetwork {} takes no new pods: {why}", network.name_any());
        return vec![Event::warning("Attach", Reason::NetworkNotReserved, note)];
    }
    let space = Space::new(network, network.spec.pods);
    let choice = match index::of(&seen.pod.metadata, &space) {
        Ok(choice) => choice,
        Err(error) => {
            return vec![Event::warning("Attach", error.reason(), error.to_string())];
        }
    };
    let mut news = vec![reserved(slice, choice)];
    news.extend(not_indexed(seen.pod));
    news.extend(no_room(seen, slice));
    news
}

fn not_found(seen: &Seen<'_>) -> Event {
    let wanted = label(seen.pod, NETWORK_LABEL).unwrap_or_default();
    let namespace = seen.pod.namespace().unwrap_or_default();
    let mut names: Vec<String> = seen.others.iter().map(|network| network.name_any()).collect();
    names.sort_unstable();
    let closest = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(wanted, name), name))
        .min()
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(2));
    let hint = match closest {
        Some((_, name)) => format!("did you mean {name:?}?"),
        None if names.is_empty() => {
            format!("namespace {namespace} has none yet: apply one, or correct the label {NETWORK_LABEL}")
        }
        None => format!("there is {}: correct the label {NETWORK_LABEL}", listed(&names)),
    };
    let note = format!("no TrainingNetwork {wanted:?} in {namespace}; {hint}");
    Event::warning("Attach", Reason::NetworkNotFound, note)
}

fn not_reserved(network: &TrainingNetwork) -> Option<Event> {
    let status = network.status.as_ref()?;
    let reserved = conditions::find(&status.conditions, "Reserved")?;
    (reserved.status == "False").then(|| {
        let note = format!(
            "TrainingNetwork {} has nothing to give: {}: {}",
            network.name_any(),
            reserved.reason,
            reserved.message
        );
        Event::warning("Attach", Reason::NetworkNotReserved, note)
    })
}

fn reserved(slice: &NetworkSlice, choice: IndexChoice) -> Event {
    let rails = &slice.spec.rails;
    let vlan = vlan_of(rails);
    let names = rail_names(rails);
    let note = match choice {
        IndexChoice::Fixed(index) => {
            let address = rails.first().and_then(|rail| address(rail, index));
            let address = address.map_or_else(String::new, |address| format!("{address}, "));
            format!("index {index}, {names}, {address}{vlan}")
        }
        IndexChoice::Any(Span { first, pods }) if pods < slice.spec.pods => {
            let last = first + pods.saturating_sub(1);
            format!("any free index of {first} to {last}, {names}, {vlan}")
        }
        IndexChoice::Any(_) => format!("any free index, {names}, {vlan}"),
    };
    Event::normal("Attach", Reason::NetworkReserved, note)
}

fn rail_names(rails: &[SliceRail]) -> String {
    let consecutive = rails.windows(2).all(|pair| pair[0].id + 1 == pair[1].id);
    match rails {
        [] => "no rail".to_owned(),
        [one] => format!("rail {}", one.name),
        [first, .., last] if consecutive => format!("rails {}-{}", first.name, last.name),
        _ => {
            let names: Vec<&str> = rails.iter().map(|rail| rail.name.as_str()).collect();
            format!("rails {}", names.join(", "))
        }
    }
}

fn address(rail: &SliceRail, index: u32) -> Option<IpAddr> {
    let prefix = rail.prefixes.first()?.prefix;
    let address: IpAddr = match prefix {
        IpNet::V4(net) => Ipv4Addr::from(u32::from(net.network()).checked_add(index)?).into(),
        IpNet::V6(net) => Ipv6Addr::from(u128::from(net.network()).checked_add(index.into())?).into(),
    };
    prefix.contains(&address).then_some(address)
}

fn not_indexed(pod: &Pod) -> Option<Event> {
    let job = index::unnumbered_job(&pod.metadata)?;
    let note = format!(
        "Job {job} does not number its pods: a pod that is replaced may get another index and address; set completionMode: Indexed"
    );
    Some(Event::warning("Attach", Reason::NonIndexedJob, note))
}

/// Why the scheduler found no node, as far as it is the network's doing: some rail has not enough left on any node.
fn no_room(seen: &Seen<'_>, slice: &NetworkSlice) -> Option<Event> {
    let note = seen.free.filter(|_| is_unschedulable(seen.pod))?.shortage(slice)?;
    Some(Event::warning("Schedule", Reason::BandwidthUnavailable, note))
}

#[cfg(test)]
mod tests {
    use railhead_crds::Bandwidth;
    use railhead_planner::bandwidth::PortBandwidth;
    use serde_json::json;

    use super::*;
    use crate::network::fixtures;

    fn unschedulable() -> Pod {
        let mut pod = fixtures::pod(1);
        pod.status = serde_json::from_value(json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}))
        .unwrap();
        pod
    }

    fn port(node: &str, rail: u32, used: u64, vfs_free: u32) -> PortBandwidth {
        PortBandwidth {
            node: node.into(),
            rail,
            fabric: "backend".into(),
            capacity: Bandwidth::from_mbps(1000),
            used: Bandwidth::from_mbps(used),
            vfs_free,
        }
    }

    fn said(pod: &Pod, ports: &[PortBandwidth]) -> Vec<(Reason, String)> {
        let network = fixtures::network(2);
        let slice = fixtures::slice(2);
        let free = Free::new(ports.to_vec());
        let seen = Seen {
            pod,
            network: Some(&network),
            others: &[],
            slice: Some(&slice),
            free: Some(&free),
        };
        news(&seen).into_iter().map(|news| (news.reason, news.note)).collect()
    }

    #[test]
    fn a_pod_is_told_its_index_rails_address_and_vlan() {
        assert_eq!(
            said(&fixtures::pod(1), &[]),
            [(
                Reason::NetworkReserved,
                "index 1, rails rail0-rail1, 10.0.0.3, VLAN 1000".to_owned()
            )]
        );
    }

    #[test]
    fn a_label_that_names_no_network_gets_the_closest_name() {
        let mut pod = fixtures::pod(0);
        pod.labels_mut().insert(NETWORK_LABEL.into(), "lama".into());
        let others = [Arc::new(fixtures::network(2))];
        let mut seen = Seen {
            pod: &pod,
            network: None,
            others: &others,
            slice: None,
            free: None,
        };
        assert_eq!(
            news(&seen)[0].note,
            "no TrainingNetwork \"lama\" in team-a; did you mean \"llama\"?"
        );
        seen.others = &[];
        assert!(news(&seen)[0].note.contains("team-a has none yet: apply one"));
    }

    #[test]
    fn an_unschedulable_pod_is_told_rail_asked_and_free_of_every_node() {
        let full = [
            port("node1", 0, 900, 3),
            port("node1", 1, 0, 3),
            port("node2", 0, 850, 3),
            port("node2", 1, 0, 3),
        ];
        let said_ = said(&unschedulable(), &full);
        assert_eq!(said_[1].0, "BandwidthUnavailable");
        assert!(
            said_[1]
                .1
                .starts_with("rail0 asks 200M; free: node2 150M of 1G, node1 100M of 1G;"),
            "{}",
            said_[1].1
        );
        let room = [port("node1", 0, 800, 3), port("node1", 1, 0, 3)];
        assert_eq!(
            said(&unschedulable(), &room).len(),
            1,
            "the scheduler has another reason"
        );
        let split = [
            port("node1", 0, 0, 1),
            port("node1", 1, 900, 1),
            port("node2", 0, 900, 1),
            port("node2", 1, 0, 1),
        ];
        assert_eq!(said(&unschedulable(), &split).len(), 2, "no single node has both rails");
    }

    #[test]
    fn pods_that_ask_the_same_cost_one_search() {
        let network = fixtures::network(2);
        let slice = fixtures::slice(2);
        let free = Free::new(vec![port("node1", 0, 900, 3), port("node1", 1, 0, 3)]);
        for index in [0, 1] {
            let mut pod = unschedulable();
            pod.metadata.name = Some(format!("llama-{index}"));
            let seen = Seen {
                pod: &pod,
                network: Some(&network),
                others: &[],
                slice: Some(&slice),
                free: Some(&free),
            };
            assert_eq!(news(&seen)[1].reason, "BandwidthUnavailable");
        }
        assert_eq!(free.searches(), 1);
    }

    #[test]
    fn a_pod_of_a_network_that_goes_is_told_so_and_nothing_else() {
        let mut network = fixtures::network(2);
        network.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let (pod, slice) = (fixtures::pod(0), fixtures::slice(2));
        let told = news(&Seen {
            pod: &pod,
            network: Some(&network),
            others: &[],
            slice: Some(&slice),
            free: None,
        });
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].reason, "NetworkDeleting");
        assert!(told[0].note.contains("llama is being deleted"), "{}", told[0].note);
    }

    #[test]
    fn used_up_functions_are_told_too() {
        let said = said(&unschedulable(), &[port("node1", 0, 0, 0), port("node1", 1, 0, 2)]);
        assert!(
            said[1].1.contains("node1 1G of 1G, no virtual function left"),
            "{}",
            said[1].1
        );
    }

    #[test]
    fn pods_beyond_the_network_and_of_unnumbered_jobs_are_warned() {
        assert_eq!(said(&fixtures::pod(2), &[])[0].0, "IndexOutOfRange");
        let mut unnumbered = fixtures::pod(0);
        unnumbered
            .labels_mut()
            .remove(railhead_crds::names::JOB_COMPLETION_INDEX);
        unnumbered.owner_references_mut()[0].controller = Some(true);
        let reasons: Vec<Reason> = said(&unnumbered, &[]).iter().map(|(reason, _)| *reason).collect();
        assert_eq!(reasons, ["NetworkReserved", "NonIndexedJob"]);
    }
}
