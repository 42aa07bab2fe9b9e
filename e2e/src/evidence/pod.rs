//! What a pod sees of its rails, from inside.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::{
    cluster::{eventually, text},
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
    let links = run("ip -j address show")?.ok()?;
    let links: Vec<Value> = serde_json::from_str(&links.stdout).context("ip printed no JSON")?;
    let gids = run(
        // Built-ins only, and the first slots only: a GID table has a thousand, and reading takes its time under emulation.
        "cd /sys/class/infiniband && for g in */ports/1/gids/[0-9] */ports/1/gids/1[0-9]; do read v < $g; \
         [ $v = 0000:0000:0000:0000:0000:0000:0000:0000 ] && continue; a=${g%gids/*}gid_attrs; n=${g##*/}; \
         read t < $a/types/$n; read d < $a/ndevs/$n; echo ${g%%/*} $n $v $d $t; done 2>/dev/null; true",
    )?
    .ok()?;
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
            .stdout
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|words| {
                words.len() >= 6 && words[2] == wanted && words[3] == name && words[4..].join(" ") == "RoCE v2"
            });
        let found =
            found.ok_or_else(|| anyhow!("{pod} has no RoCE v2 GID for {ip} on {name}; it sees:\n{}", gids.stdout))?;
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

/// `ib_write_bw` from one pod to another over the rail with the given RDMA devices; the average in MiB/s.
///
/// The traffic class is the one that the pod's own nccl.conf tells NCCL to use.
pub fn rdma_bandwidth(
    lab: &Lab,
    namespace: &str,
    (server, server_rail): (&str, &RailInPod),
    (client, client_rail): (&str, &RailInPod),
) -> Result<f64> {
    let class = lab
        .exec(namespace, client, "sed -n 's/^NCCL_IB_TC=//p' /etc/nccl.conf")?
        .ok()?;
    let class = class.stdout.trim().to_owned();
    ensure!(!class.is_empty(), "/etc/nccl.conf of {client} sets no NCCL_IB_TC");
    let run = |rail: &RailInPod, more: &str| {
        format!(
            "timeout 60 ib_write_bw -d {} -x {} --tclass {class} -s 65536 -n 100 -F {more}",
            rail.rdma_device, rail.gid_index
        )
    };
    let address = server_rail.address.split('/').next().unwrap_or_default().to_owned();
    let output = std::thread::scope(|scope| {
        let listening = scope.spawn(|| lab.exec(namespace, server, &run(server_rail, "")));
        // ib_write_bw exchanges its parameters over TCP on the same rail.
        let sent = eventually("the RDMA client finds its server", Duration::from_secs(40), || {
            lab.exec(namespace, client, &run(client_rail, &address))?.ok()
        });
        let heard = listening
            .join()
            .map_err(|_| anyhow!("the thread with the RDMA server panicked"))??;
        sent.with_context(|| format!("the server said: {heard}"))
    })?;
    let figure = output
        .stdout
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.first() == Some(&"65536")).then(|| words.get(3)?.parse::<f64>().ok())?
        })
        .next_back();
    figure.with_context(|| format!("no figure in what ib_write_bw printed:\n{}", output.stdout))
}
