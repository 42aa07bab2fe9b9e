//! The independent reader: what the kernel says of every VF, by `ip -j`, and nothing that Railhead remembers.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    namespace::{Namespace, ip, ip_json},
    node::{Node, Vf, pod_mac},
};

/// Keys whose values change by themselves when a link moves: numbers of links and namespaces, and the other end as seen from here.
/// The permanent address is what the last reset of an igb VF took for it, the pod's while its PF enforced that (`igbvf_reset`,
/// drivers/net/ethernet/intel/igbvf/netdev.c); nobody can set it.
const VOLATILE: [&str; 6] = ["ifindex", "link", "link_index", "link_netnsid", "linkmode", "permaddr"];

/// Everything that `ip` tells of the host's links, rules and routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostState {
    /// Links that have an altname, by that: the VFs.
    vfs: BTreeMap<String, Value>,
    rules: Value,
    routes: String,
}

impl HostState {
    /// Of the namespace of the calling thread.
    pub fn read() -> Result<Self> {
        let links = ip_json("-d address show")?;
        let mut vfs = BTreeMap::new();
        for link in links.as_array().context("ip printed no list")? {
            let Some(name) = link["altnames"][0].as_str() else {
                continue;
            };
            vfs.insert(name.to_owned(), steady(link));
        }
        // The other ends of the cables are the switch's, and have a route of the kernel's own as soon as they had a signal.
        let routes = ip("route show table all")?;
        Ok(Self {
            vfs,
            rules: ip_json("rule show")?,
            routes: routes
                .lines()
                .filter(|route| !route.contains(" dev leaf"))
                .collect::<Vec<_>>()
                .join("\n"),
        })
    }

    /// How many VFs are on the host.
    pub fn vf_count(&self) -> usize {
        self.vfs.len()
    }

    /// What is not as in `self`, in words; nothing when all is equal.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, before) in &self.vfs {
            match now.vfs.get(name) {
                None => found.push(format!("{name} is not on the host")),
                Some(after) => found.extend(differing(name, before, after)),
            }
        }
        let new = now.vfs.keys().filter(|name| !self.vfs.contains_key(*name));
        found.extend(new.map(|name| format!("{name} is new on the host")));
        if self.rules != now.rules {
            found.push(format!("rules of the host: {} instead of {}", now.rules, self.rules));
        }
        if self.routes != now.routes {
            found.push(format!("routes of the host: {} instead of {}", now.routes, self.routes));
        }
        found
    }
}

fn steady(link: &Value) -> Value {
    let mut link = link.clone();
    if let Some(fields) = link.as_object_mut() {
        for key in VOLATILE {
            fields.remove(key);
        }
    }
    link
}

fn differing(name: &str, before: &Value, after: &Value) -> Vec<String> {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else {
        return vec![format!("{name} is no link")];
    };
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| {
            let show = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
            format!(
                "{name}: {key} is {}, was {}",
                show(after.get(key)),
                show(before.get(key))
            )
        })
        .collect()
}

/// Fails unless the kernel shows the whole attachment in the pod: links, MACs, MTUs, addresses, rules and routes.
pub fn assert_wired(pod: &Namespace, vfs: &[Vf]) -> Result<()> {
    let links = pod.ip_json("-d address show")?;
    let rules = pod.ip_json("rule show")?;
    for vf in vfs {
        let name = format!("rail{}", vf.rail);
        let link = find(&links, &name).with_context(|| format!("{name} is not in the pod: {links}"))?;
        let altnames = link["altnames"].as_array().cloned().unwrap_or_default();
        ensure!(
            altnames.contains(&Value::from(vf.altname.as_str())),
            "{name} is {altnames:?} and not {}",
            vf.altname
        );
        ensure!(
            link["address"] == pod_mac(vf.rail, vf.index).as_str(),
            "{name} has the MAC {}",
            link["address"]
        );
        ensure!(
            link["mtu"] == crate::node::POD_MTU,
            "{name} has the MTU {}",
            link["mtu"]
        );
        ensure!(link["operstate"] == "UP", "{name} is {}", link["operstate"]);
        let addresses = link["addr_info"].as_array().cloned().unwrap_or_default();
        let own = addresses.iter().find(|address| address["family"] == "inet");
        let own = own.with_context(|| format!("{name} has no address"))?["local"].clone();
        let table = 1000 + vf.rail;
        let rule =
            rules.as_array().into_iter().flatten().any(|rule| {
                rule["src"] == own && rule["table"].as_str().is_some_and(|found| found == table.to_string())
            });
        ensure!(rule, "no rule from {own} to table {table}: {rules}");
        let routes = pod.ip_json(&format!("route show table {table}"))?;
        let default = routes
            .as_array()
            .into_iter()
            .flatten()
            .any(|route| route["dst"] == "default");
        ensure!(default, "table {table} has no default route: {routes}");
    }
    Ok(())
}

/// Fails if anything of an attachment is left in a pod's namespace.
pub fn assert_empty(pod: &Namespace) -> Result<()> {
    let links = pod.ip_json("link show")?;
    let names: Vec<&str> = links
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|link| link["ifname"].as_str())
        .filter(|name| *name != "lo")
        .collect();
    ensure!(names.is_empty(), "links left in the pod: {names:?}");
    let rules = pod.ip_json("rule show")?;
    ensure!(
        rules.as_array().is_some_and(|rules| rules.len() == 3),
        "rules left in the pod: {rules}"
    );
    Ok(())
}

/// Fails unless host and files are as at the beginning.
pub fn assert_as_before(node: &Node, before: &HostState) -> Result<()> {
    let differences = before.differences(&HostState::read()?);
    ensure!(differences.is_empty(), "{}", differences.join("; "));
    let files = node.files()?;
    ensure!(files.is_empty(), "files left: {files:?}");
    Ok(())
}

/// What the kernel does with a VF when the last process leaves its namespace: it comes home as it is. A veth pair would die, so this
/// is done for it before the namespace ends.
pub fn come_home(pod: &Namespace) -> Result<()> {
    let links = pod.ip_json("link show")?;
    let host = std::fs::File::open("/proc/thread-self/ns/net")?;
    let path = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        std::os::fd::AsRawFd::as_raw_fd(&host)
    );
    for link in links.as_array().into_iter().flatten() {
        let Some(name) = link["ifname"].as_str().filter(|name| *name != "lo") else {
            continue;
        };
        pod.run(|| {
            ip(&format!("link set {name} down"))?;
            ip(&format!("link set {name} netns {path}"))
        })?;
    }
    Ok(())
}

fn find<'a>(links: &'a Value, name: &str) -> Option<&'a Value> {
    links.as_array()?.iter().find(|link| link["ifname"] == name)
}
