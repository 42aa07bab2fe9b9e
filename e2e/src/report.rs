//! The demo's summary: a line per pod and rail, each value from where it counts.

use std::{collections::BTreeMap, net::Ipv6Addr};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::{
    cluster::text,
    evidence::{
        FunctionState, PING, ROCE, RailInPod, Tagged, functions, guarantees, on_the_wire, rails_in_pod, rdma_bandwidth,
    },
    lab::{Lab, RAILS},
};

/// Bytes of the largest ping that fits an MTU of 9000: 20 of IPv4 and 8 of ICMP are on top.
const PING_PAYLOAD: u32 = 8972;

/// One pod with what is seen of it.
#[derive(Clone, Debug)]
pub struct SeenPod {
    /// Name.
    pub name: String,
    /// Number of its node.
    pub node: usize,
    /// Its rails, from inside, by name.
    pub rails: Vec<RailInPod>,
    /// What the scheduler counted, by device.
    pub guarantees: BTreeMap<String, String>,
    /// What the PF enforces on its function, by interface name in the pod.
    pub enforced: BTreeMap<String, FunctionState>,
}

/// What was seen of one pod's traffic on one rail.
#[derive(Clone, Debug)]
pub struct SeenTraffic {
    /// Frames of a full-size ping.
    pub ping: Tagged,
    /// Frames of RDMA writes.
    pub rdma: Tagged,
    /// `ib_write_bw`, MiB/s.
    pub bandwidth: f64,
}

/// Looks at a pod from inside, from its node's kernel and from the API server.
pub fn look_at(lab: &Lab, pod: &Value) -> Result<SeenPod> {
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let node = text(&pod["spec"]["nodeName"]);
    let node: usize = node
        .trim_start_matches("node")
        .parse()
        .with_context(|| format!("{node} is no node of the lab"))?;
    let rails = rails_in_pod(lab, &namespace, &name)?;
    let all = functions(&lab.node(node)?)?;
    let enforced = rails
        .iter()
        .map(|rail| {
            let function = all
                .values()
                .find(|function| function.enforced.get("address") == Some(&rail.mac));
            let function = function
                .ok_or_else(|| anyhow!("no function of node{node} has the MAC {} of {}", rail.mac, rail.name))?;
            Ok((rail.name.clone(), function.clone()))
        })
        .collect::<Result<_>>()?;
    Ok(SeenPod {
        guarantees: guarantees(lab, pod)?,
        name,
        node,
        rails,
        enforced,
    })
}

/// A full-size ping and RDMA writes from one pod to another on every rail, watched on the sender's cable.
pub fn traffic(lab: &Lab, namespace: &str, from: &SeenPod, to: &SeenPod) -> Result<Vec<SeenTraffic>> {
    ensure!(
        from.rails.len() == RAILS && to.rails.len() == RAILS,
        "{} and {} need {RAILS} rails",
        from.name,
        to.name
    );
    (0..RAILS)
        .map(|rail| {
            let (here, there) = (&from.rails[rail], &to.rails[rail]);
            let peer = there.address.split('/').next().unwrap_or_default();
            let ping = format!("ping -c 2 -W 20 -M do -s {PING_PAYLOAD} -I {} {peer}", here.name);
            let cable = (from.node, rail);
            let (ping, _) = on_the_wire(lab, cable, PING, &here.address, || {
                lab.exec(namespace, &from.name, &ping)?.ok()
            })?;
            let (rdma, bandwidth) = on_the_wire(lab, cable, ROCE, &here.address, || {
                rdma_bandwidth(lab, namespace, (&to.name, there), (&from.name, here))
            })?;
            Ok(SeenTraffic { ping, rdma, bandwidth })
        })
        .collect()
}

/// The summary that a person reads: what is true inside the pods, then what cable, port and scheduler say.
pub fn print(pods: &[SeenPod], traffic: &BTreeMap<String, Vec<SeenTraffic>>) {
    let mut inside = vec![row([
        "POD",
        "NODE",
        "RAIL",
        "ADDRESS",
        "MAC",
        "MTU",
        "RDMA DEVICE",
        "GID INDEX",
        "GID",
    ])];
    let mut outside = vec![row([
        "POD",
        "RAIL",
        "VLAN",
        "PCP",
        "DSCP",
        "RDMA WRITE",
        "PING",
        "GUARANTEE",
        "MAXIMUM",
        "SPOOFCHECK",
    ])];
    for pod in pods {
        for (place, rail) in pod.rails.iter().enumerate() {
            inside.push(vec![
                pod.name.clone(),
                format!("node{}", pod.node),
                rail.name.clone(),
                rail.address.clone(),
                rail.mac.clone(),
                rail.mtu.to_string(),
                rail.rdma_device.clone(),
                rail.gid_index.to_string(),
                short(&rail.gid),
            ]);
            let seen = traffic.get(&pod.name).and_then(|rails| rails.get(place));
            let set = |pick: fn(&SeenTraffic) -> String| seen.map_or_else(|| "-".to_owned(), pick);
            let enforced = |key: &str| {
                pod.enforced
                    .get(&rail.name)
                    .and_then(|f| f.enforced.get(key))
                    .cloned()
                    .unwrap_or_default()
            };
            outside.push(vec![
                pod.name.clone(),
                rail.name.clone(),
                set(|t| numbers(&t.rdma.vlans)),
                set(|t| numbers(&t.rdma.priorities)),
                set(|t| numbers(&t.rdma.dscps)),
                set(|t| format!("{:.1} MiB/s", t.bandwidth)),
                set(|t| {
                    let (vlans, priorities) = (numbers(&t.ping.vlans), numbers(&t.ping.priorities));
                    format!("{} bytes, VLAN {vlans}, PCP {priorities}", t.ping.longest)
                }),
                pod.guarantees.get(&rail.name).cloned().unwrap_or_default(),
                max_rate(&enforced("rate")),
                if enforced("spoofchk") == "true" { "on" } else { "off" }.to_owned(),
            ]);
        }
    }
    println!("\nSeen in the pods; GID is the RoCE v2 GID of ADDRESS, and GID INDEX its place in the device's table:\n");
    print!("{}", table(&inside));
    println!("\nSeen outside of them:\n");
    print!("{}", table(&outside));
    println!(
        "\nVLAN, PCP, DSCP: RDMA frames of ib_write_bw to the other pod, captured on the cable to the leaf.\n\
         RDMA WRITE: what ib_write_bw says (software RoCE on emulated machines: only that it works says something).\n\
         PING: the longest frame there of a ping of {} bytes that must not be fragmented.\n\
         GUARANTEE: the claim's consumed capacity.  MAXIMUM, SPOOFCHECK: read back from the port.",
        PING_PAYLOAD + 28
    );
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Columns as wide as their widest cell.
fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0))
        .collect();
    lines.iter().fold(String::new(), |text, line| {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text + cells.join("  ").trim_end() + "\n"
    })
}

/// A GID as addresses are written for people: sysfs writes all of its zeros.
fn short(gid: &str) -> String {
    gid.parse::<Ipv6Addr>()
        .map_or_else(|_| gid.to_owned(), |gid| gid.to_string())
}

fn numbers<T: ToString>(all: &std::collections::BTreeSet<T>) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn max_rate(rate: &str) -> String {
    serde_json::from_str::<Value>(rate)
        .ok()
        .and_then(|r| r["max_tx"].as_u64())
        .map_or_else(|| rate.to_owned(), |m| format!("{m}M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gid_is_written_as_the_address_that_it_maps() {
        assert_eq!(short("0000:0000:0000:0000:0000:ffff:0aa0:0002"), "::ffff:10.160.0.2");
        assert_eq!(short("fe80:0000:0000:0000:0049:00ff:fe00:0002"), "fe80::49:ff:fe00:2");
        assert_eq!(short("no gid"), "no gid");
    }
}
