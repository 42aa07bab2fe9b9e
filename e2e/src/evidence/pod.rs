//! What a pod sees of its rails, from inside.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::{
    cluster::text,
    lab::{Lab, run::Output},
};

/// One rail, as the pod's own kernel view tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RailInPod {
    /// Interface name.
    pub name: String,
    /// IPv4 address with prefix length.
    pub address: String,
    /// MAC.
    pub mac: String,
    /// MTU.
    pub mtu: u64,
    /// RDMA device whose GID table holds the address.
    pub rdma_device: String,
    /// Index of the RoCE v2 GID of the address in that table.
    pub gid_index: u32,
    /// That GID.
    pub gid: String,
}

/// The rails of a pod: every interface that is not the cluster network's, with the GID found in sysfs.
pub fn rails_in_pod(lab: &Lab, namespace: &str, pod: &str) -> Result<Vec<RailInPod>> {
    rails_seen_by(pod, |command| lab.exec(namespace, pod, command))
}

/// [`rails_in_pod`], with the pod's own way to run a shell command in it.
pub fn rails_seen_by(pod: &str, run: impl Fn(&str) -> Result<Output>) -> Result<Vec<RailInPod>> {
    let seen = run(
        // One command, since each takes seconds to start under emulation. Built-ins only, and the first slots only: a GID table
        // has a thousand, and reading takes its time.
        "ip -j address show && cd /sys/class/infiniband && for g in */ports/1/gids/[0-9] */ports/1/gids/1[0-9]; do read v < $g; \
         [ $v = 0000:0000:0000:0000:0000:0000:0000:0000 ] && continue; a=${g%gids/*}gid_attrs; n=${g##*/}; \
         read t < $a/types/$n; read d < $a/ndevs/$n; echo ${g%%/*} $n $v $d $t; done 2>/dev/null; true",
    )?
    .ok()?;
    // `ip -j` prints one line.
    let (links, gids) = seen.stdout.split_once('\n').unwrap_or((&seen.stdout, ""));
    let links: Vec<Value> =
        serde_json::from_str(links).with_context(|| format!("in {pod} `ip` printed no JSON: {seen}"))?;
    let mut rails = Vec::new();
    for link in &links {
        let name = text(&link["ifname"]);
        if ["lo", "eth0"].contains(&name.as_str()) {
            continue;
        }
        let address = link["addr_info"]
            .as_array()
            .and_then(|all| all.iter().find(|a| a["family"] == "inet"))
            .with_context(|| format!("{name} of {pod} has no IPv4 address"))?;
        let ip = text(&address["local"]);
        let wanted = mapped_gid(&ip).with_context(|| format!("{ip} is no IPv4 address"))?;
        let found = gids
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|words| {
                words.len() >= 6 && words[2] == wanted && words[3] == name && words[4..].join(" ") == "RoCE v2"
            });
        let found = found.ok_or_else(|| anyhow!("{pod} has no RoCE v2 GID for {ip} on {name}; it sees:\n{gids}"))?;
        rails.push(RailInPod {
            address: format!("{ip}/{}", address["prefixlen"]),
            mac: text(&link["address"]),
            mtu: link["mtu"].as_u64().unwrap_or_default(),
            rdma_device: found[0].to_owned(),
            gid_index: found[1].parse()?,
            gid: wanted,
            name,
        });
    }
    rails.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rails)
}

/// `::ffff:a.b.c.d` as sysfs writes it.
fn mapped_gid(ip: &str) -> Option<String> {
    let [a, b, c, d] = ip.parse::<std::net::Ipv4Addr>().ok()?.octets();
    Some(format!("0000:0000:0000:0000:0000:ffff:{a:02x}{b:02x}:{c:02x}{d:02x}"))
}

/// What the scheduler counted for a pod, by rail device: the guarantee, from the claim's consumed capacity.
pub fn guarantees(lab: &Lab, pod: &Value) -> Result<BTreeMap<String, String>> {
    let namespace = text(&pod["metadata"]["namespace"]);
    let claim = text(&pod["status"]["resourceClaimStatuses"][0]["resourceClaimName"]);
    let claim = lab.get(&["resourceclaim", "-n", &namespace, &claim])?;
    let results = claim["status"]["allocation"]["devices"]["results"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    ensure!(
        !results.is_empty(),
        "the claim of {} has no allocation",
        pod["metadata"]["name"]
    );
    Ok(results
        .iter()
        .map(|r| (text(&r["device"]), text(&r["consumedCapacity"]["bandwidth"])))
        .collect())
}
