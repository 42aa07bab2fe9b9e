//! The proof that everything came back.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::functions::{FunctionState, functions};
use crate::{
    cluster::{NODE_LIMIT, eventually},
    lab::Lab,
};

/// Waits until there is no slice, attachment, claim or ledger entry, no file of an attachment on any node, and every function
/// is as in `recorded` (one map per node).
pub fn nothing_left(lab: &Lab, recorded: &[BTreeMap<String, FunctionState>]) -> Result<()> {
    eventually("everything has come back", || {
        for kind in [
            "networkslices",
            "networkattachments",
            "resourceclaims",
            "resourceclaimtemplates",
        ] {
            let left = lab.list(&[kind, "-A"])?;
            let names: Vec<_> = left.iter().map(|object| object["metadata"]["name"].clone()).collect();
            ensure!(left.is_empty(), "{kind} left: {names:?}");
        }
        for ledger in lab.list(&["fabricledgers"])? {
            let entries = ledger["spec"]["entries"].as_array().into_iter().flatten();
            // What rests is nobody's.
            let held = entries.filter(|entry| entry["state"] != "Resting").count();
            ensure!(held == 0, "the ledger still holds {held} entries");
        }
        for (node, recorded) in lab.nodes().iter().zip(recorded) {
            let files = node.exec(
                "find /run/railhead/plans /run/railhead/attachments /run/railhead/journal /var/run/cdi -mindepth 1 2>/dev/null",
                NODE_LIMIT,
            )?;
            ensure!(files.stdout.is_empty(), "{} has left:\n{}", node.name(), files.stdout);
            let now = functions(node)?;
            for (address, before) in recorded {
                let after = now.get(address);
                ensure!(
                    after == Some(before),
                    "function {address} of {} is not as recorded after its creation:\nwas {before:?}\nis  {after:?}",
                    node.name()
                );
            }
            let soft = node.exec("rdma link show", NODE_LIMIT)?.ok()?;
            ensure!(
                soft.stdout.trim().is_empty(),
                "{} has RDMA devices left: {}",
                node.name(),
                soft.stdout
            );
        }
        Ok(())
    })
}
