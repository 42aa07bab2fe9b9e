//! What the agent does to the VFs of a claim in Prepare and Unprepare, in its order and with the crate that it does it with, in a process
//! that can be killed: the agent itself lives on the API server.

use std::{fs, path::Path, process::Command, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use railhead_host::{FileLock, boot_id};
use railhead_plan::{AttachmentPlan, Layout};
use railhead_store as store;
use railhead_vf::{Host, Originals, program, restore};

use crate::{call::ROOT, node::Node, pf};

/// First argument of the child.
pub const CHILD: &str = "claim";
/// How long a VF or its lock is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The command of a Prepare or an Unprepare of a pod. A Prepare finds what it is to write in [`wanted`].
pub(crate) fn command(verb: &str, pod: &str, program: &Path, node: &Node) -> Command {
    let mut command = Command::new(program);
    command
        .args([CHILD, verb, pod])
        .env_clear()
        .env(ROOT, node.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Notes the plan that a Prepare of the pod is to carry out, where the scheduler and the planner would have said it.
pub(crate) fn wanted(node: &Node, plan: &AttachmentPlan) -> Result<()> {
    let file = wanted_file(node.root(), &plan.pod.uid);
    fs::create_dir_all(file.parent().context("the file has no folder")?)?;
    Ok(fs::write(&file, serde_json::to_vec(plan)?)?)
}

fn wanted_file(root: &Path, pod: &str) -> std::path::PathBuf {
    root.join("standin/wanted").join(pod)
}

/// The child.
pub fn child(verb: &str, pod: &str) -> Result<()> {
    let root = std::env::var_os(ROOT).context("STANDIN_ROOT is not set")?;
    let root = Path::new(&root);
    crate::trace::stop_for_tracer()?;
    let claim = Claim {
        layout: Layout::under(root),
        originals: Originals::new(&Layout::under(root), &boot_id(Layout::boot_id())?),
        host: Host::with_pf_side(&Layout::under(root), Arc::from(pf::side(root)))?,
    };
    match verb {
        "prepare" => claim.prepare(&wanted_file(root, pod), pod),
        "unprepare" => claim.unprepare(pod),
        _ => bail!("a claim is prepared or unprepared"),
    }
}

struct Claim {
    layout: Layout,
    originals: Originals,
    host: Host,
}

impl Claim {
    /// Records what the VFs are like, then the plan that names them, then changes them.
    fn prepare(mut self, wanted: &Path, pod: &str) -> Result<()> {
        let plan = if let Some(plan) = self.plan(pod)? {
            plan
        } else {
            let plan: AttachmentPlan = store::read(wanted)?;
            for rail in &plan.rails {
                let vf = &rail.vf;
                let _lock = self.lock(vf.pci_address.as_str())?;
                let host = &mut self.host;
                self.originals
                    .record_vf(host, &vf.pci_address, &vf.pf_pci_address, vf.index, PATIENCE)?;
            }
            store::write(&self.layout.plan(pod), &plan)?;
            plan
        };
        for rail in &plan.rails {
            let _lock = self.lock(rail.vf.pci_address.as_str())?;
            self.originals.lend(&mut self.host, &rail.vf)?;
            program(&mut self.host, rail)?;
        }
        Ok(())
    }

    /// Gives the VFs back, then removes the plan.
    fn unprepare(mut self, pod: &str) -> Result<()> {
        let Some(plan) = self.plan(pod)? else { return Ok(()) };
        for rail in &plan.rails {
            let _lock = self.lock(rail.vf.pci_address.as_str())?;
            let original = self.originals.vf(&rail.vf.pci_address)?;
            let original = original.with_context(|| format!("no record of {}", rail.vf.pci_address))?;
            restore(&mut self.host, &original)?;
        }
        Ok(store::remove(&self.layout.plan(pod))?)
    }

    fn plan(&self, pod: &str) -> Result<Option<AttachmentPlan>> {
        match store::read(&self.layout.plan(pod)) {
            Ok(plan) => Ok(Some(plan)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error).context("read the plan"),
        }
    }

    fn lock(&self, vf: &str) -> Result<FileLock> {
        Ok(FileLock::take(&self.layout.function_lock(vf), PATIENCE)?)
    }
}
