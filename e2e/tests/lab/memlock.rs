//! Memory that RDMA programs register is locked: the limit on that must not stand in their way.

use anyhow::{Result, ensure};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::{
    jobs,
    world::{TEAM_B, World},
};

const NETWORK: &str = "large";
/// 512 MiB.
const BYTES: u32 = 512 << 20;

/// A container's own program, as training programs are: uid 1000, no capabilities. What `kubectl exec` starts is another matter.
pub(crate) fn a_pod_without_rights_registers_half_a_gigabyte_and_one_without_rails_keeps_the_nodes_limit(
    world: &World,
) -> Result<()> {
    world.apply(TEAM_B, &jobs::network(NETWORK, 1))?;
    // It registers first and then waits for a peer, who never comes. On a terminal it is heard at once.
    let register = format!(
        "id -u; ulimit -l; devices=$(sed -n s/^NCCL_IB_HCA==//p /etc/nccl.conf); \
         ibv_rc_pingpong -d ${{devices%%,*}} -s {BYTES} -n 1; echo ended with $?; sleep 3600"
    );
    world.apply(TEAM_B, &unprivileged("locker", Some(NETWORK), &register))?;
    world.apply(
        TEAM_B,
        &unprivileged("without-rails", None, "id -u; ulimit -l; sleep 3600"),
    )?;
    let said = eventually("the program registers its memory", || {
        let said = logs(world, "locker")?;
        ensure!(said.contains("local address"), "it said:\n{said}");
        Ok(said)
    })?;
    ensure!(
        said.lines().next().is_some_and(|uid| uid.trim() == "1000"),
        "it said:\n{said}"
    );
    ensure!(!said.contains("ended with"), "it said:\n{said}");
    let untouched = eventually("the other pod says its limit", || {
        let said = logs(world, "without-rails")?;
        ensure!(said.lines().count() >= 2, "it said:\n{said}");
        Ok(said)
    })?;
    // The kernel's default is 8 MiB.
    let limit = untouched.lines().nth(1).unwrap_or_default().trim().parse::<u32>();
    ensure!(
        limit.as_ref().is_ok_and(|kilobytes| *kilobytes < BYTES >> 10),
        "the limit of a pod without rails: {untouched}"
    );
    world.clear(TEAM_B)
}

fn unprivileged(name: &str, network: Option<&str>, command: &str) -> Value {
    let mut pod = jobs::pod(name, network, "node1");
    let container = &mut pod["spec"]["containers"][0];
    container["command"] = json!(["sh", "-c", command]);
    container["tty"] = json!(true);
    container["securityContext"] = json!({
        "runAsUser": 1000,
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
    });
    pod
}

fn logs(world: &World, pod: &str) -> Result<String> {
    Ok(world.lab.kubectl(&["logs", "-n", TEAM_B, pod])?.ok()?.stdout)
}
