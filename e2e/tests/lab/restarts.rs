//! A job that is made again while the pods of the one before still end.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use railhead_e2e::{
    cluster::{PATIENCE, PATIENCE_FLAG, text},
    lab::progress::say,
};
use serde_json::{Value, json};

use crate::{
    jobs,
    world::{TEAM_B, World},
};

/// How long pods may take to run once those before them are gone.
const SOON: Duration = Duration::from_secs(15);
/// Longer than Prepare waits for an index, so that kubelet has given up by the time it is free.
const GRACE: u32 = 60;
const PODS: usize = 2;

/// The new pods wait for the indices of the old ones, and kubelet's own next try may be 90 s away when they are free.
pub(crate) fn pods_of_a_job_made_again_run_soon_after_those_before_have_ended(world: &World) -> Result<()> {
    let lab = &world.lab;
    world.apply(TEAM_B, &jobs::network("again", 2))?;
    let mut job = jobs::job("again", 2);
    // The first process of a container does not hear SIGTERM.
    job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(GRACE);
    world.apply(TEAM_B, &job)?;
    let selector = ["pods", "-n", TEAM_B, "-l", "railhead.dev/network=again"];
    let mut before = names(&lab.running_pods(TEAM_B, selector[4], PODS)?);
    for round in 1..=3 {
        lab.kubectl(&[
            "delete",
            "job",
            "-n",
            TEAM_B,
            "again",
            "--cascade=background",
            PATIENCE_FLAG,
        ])?
        .ok()?;
        world.apply(TEAM_B, &job)?;
        let start = Instant::now();
        let mut ended = None;
        before = loop {
            let pods = lab.list(&selector)?;
            let there = names(&pods);
            let new: Vec<Value> = pods.into_iter().filter(|pod| !before.contains(&name(pod))).collect();
            let running = new.iter().filter(|pod| runs(pod)).count();
            if there.is_disjoint(&before) {
                ended.get_or_insert_with(Instant::now);
            } else {
                ensure!(
                    running == 0 || there.intersection(&before).count() < PODS,
                    "a new pod runs beside both old ones: {there:?}"
                );
            }
            if running == PODS {
                break names(&new);
            }
            ensure!(start.elapsed() < PATIENCE, "after {} s: {there:?}", PATIENCE.as_secs());
            thread::sleep(Duration::from_millis(250));
        };
        let took = ended.map_or(Duration::ZERO, |ended| ended.elapsed());
        say(format!(
            "round {round}: {:.1} s from the last old pod's end to the new pods",
            took.as_secs_f32()
        ));
        ensure!(took <= SOON, "the new pods ran {} s after the old ones", took.as_secs());
    }
    world.clear(TEAM_B)
}

fn name(pod: &Value) -> String {
    text(&pod["metadata"]["name"])
}

fn names(pods: &[Value]) -> BTreeSet<String> {
    pods.iter().map(name).collect()
}

fn runs(pod: &Value) -> bool {
    !pod["status"]["containerStatuses"][0]["state"]["running"].is_null()
}
