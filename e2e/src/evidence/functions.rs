//! The virtual functions of a node, as its kernel tells them through the physical functions and sysfs.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    cluster::{NODE_LIMIT, text},
    lab::Node,
};

/// One function: everything that an attachment may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionState {
    /// What the PF enforces: admin MAC, VLAN and priority, rates, spoof check, trust; as `ip -j link` prints it.
    pub enforced: BTreeMap<String, String>,
    /// The function's own interface: name, MAC, MTU, altnames, flags; absent while it is in a pod.
    pub interface: Option<BTreeMap<String, String>>,
}

/// All functions of a node's rail ports, by PCI address.
pub fn functions(node: &Node) -> Result<BTreeMap<String, FunctionState>> {
    let links = node.exec("ip -j -d link show", NODE_LIMIT)?.ok()?;
    let links: Vec<Value> = serde_json::from_str(&links.stdout).context("ip printed no JSON")?;
    let listed = node
        .exec(
            "for vf in /sys/class/net/*/device/virtfn*; do [ -e $vf ] || continue; pf=${vf#/sys/class/net/}; d=$(readlink -f $vf); \
             echo ${d##*/} ${pf%%/*} ${vf##*virtfn} $(ls $vf/net 2>/dev/null); done",
            NODE_LIMIT,
        )?
        .ok()?;
    let mut functions = BTreeMap::new();
    for line in listed.stdout.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, port, index, rest @ ..] = words.as_slice() else {
            continue;
        };
        let port = links
            .iter()
            .find(|link| link["ifname"] == *port)
            .with_context(|| format!("{port} is gone"))?;
        let index: usize = index
            .parse()
            .with_context(|| format!("{line:?} has no function number"))?;
        let enforced = flatten(&port["vfinfo_list"][index]);
        let interface = rest
            .first()
            .and_then(|name| links.iter().find(|link| link["ifname"] == **name))
            .map(|link| {
                ["ifname", "address", "mtu", "altnames", "flags", "ifalias"]
                    .into_iter()
                    .map(|key| (key.to_owned(), text(&link[key])))
                    .collect()
            });
        functions.insert((*address).to_owned(), FunctionState { enforced, interface });
    }
    Ok(functions)
}

fn flatten(value: &Value) -> BTreeMap<String, String> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), text(value)))
        .collect()
}
