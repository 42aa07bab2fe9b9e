//! `kill -9` behind each step of Prepare, ADD, DEL and Unprepare on real VFs.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use railhead_e2e::lab::{images::build_static, progress::say};

use crate::world::World;

const LIMIT: Duration = Duration::from_mins(30);
/// Where the program lies on the node.
const PROGRAM: &str = "/run/standin";
/// The last VF of each port, as `<VF>@<PF>`. Nobody uses one while there are no pods.
const LAST_VFS: &str = r#"for pf in /sys/bus/pci/devices/*/sriov_numvfs; do
  port=$(dirname "$pf"); count=$(cat "$pf"); [ "$count" -gt 0 ] || continue
  echo "$(basename "$(readlink "$port/virtfn$((count - 1))")")@$(basename "$port")"
done"#;

/// Whatever comes next, all is in the end as it was.
pub(crate) fn every_step_on_real_vfs_may_be_the_last_one(world: &World) -> Result<()> {
    world.clear_all()?;
    let program = build_static("railhead-standin", "standin")?;
    let program = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let node = world.lab.node(1)?;
    node.exec_with_input(&format!("cat > {PROGRAM} && chmod +x {PROGRAM}"), program, LIMIT)?
        .ok()?;
    let vfs = node.exec(LAST_VFS, LIMIT)?.ok()?.stdout;
    let vfs: Vec<String> = vfs.split_whitespace().map(|vf| format!("--vf {vf}")).collect();
    ensure!(vfs.len() == 2, "VFs of two ports: {vfs:?}");
    let table = node.exec(&format!("{PROGRAM} faults {}", vfs.join(" ")), LIMIT)?;
    node.exec(&format!("rm -f {PROGRAM}"), LIMIT)?.ok()?;
    say(&table.stdout);
    table.ok()?;
    Ok(())
}
