//! `make demo`: from nothing to RDMA between two pods on two nodes, and back.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::{Result, ensure};
use clap::Parser;
use railhead_e2e::{
    cluster::{PATIENCE_FLAG, text},
    evidence::{functions, nothing_left},
    installation::{self, JOB, NETWORK},
    lab::{
        DEFAULT_NAME, Lab,
        cache::Cache,
        images::build_workspace_images,
        prepare::prepare,
        progress::{elapsed, say, step},
    },
    report,
};

/// Brings up a real Kubernetes with two SR-IOV nodes, installs Railhead, runs a job over two rails, shows what it got, cleans up.
#[derive(Parser)]
struct Arguments {
    /// Leave the lab running at the end.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = demo();
    if let Err(error) = &result {
        eprintln!("\ndemo: {error:#}\n");
        if let Ok(lab) = Lab::attach() {
            installation::show_logs(&lab);
        }
    }
    let down = if arguments.keep {
        Ok(())
    } else {
        step("taking the lab down", || Lab::down(DEFAULT_NAME))
    };
    match (result, down) {
        (Ok(()), Ok(())) => {
            println!(
                "\nThe demo took {:.0} s. Next: `make lab` leaves such a lab running for you; README.md tells the rest.",
                elapsed()
            );
            ExitCode::SUCCESS
        }
        (_, Err(error)) => {
            eprintln!("demo: the lab could not be taken down: {error:#}; run `make lab-down`");
            ExitCode::FAILURE
        }
        _ => ExitCode::FAILURE,
    }
}

fn demo() -> Result<()> {
    say(
        "Railhead demo: everything runs in one network namespace of this machine; parts that are built once are kept in the cache",
    );
    prepare(&Cache::open()?, None)?;
    build_workspace_images()?;
    let (lab, ()) = installation::start_lab(2, |_| Ok(()))?;
    show(&lab, &["fabric,nodenetwork"])?;
    let recorded = lab.nodes().iter().map(functions).collect::<Result<Vec<_>>>()?;

    installation::namespace(&lab, "team-a")?;
    println!("\n$ kubectl apply -f network.yaml -f job.yaml\n{NETWORK}");
    lab.apply("team-a", NETWORK)?;
    lab.apply("team-a", JOB)?;
    let pods = step("two pods run on two nodes, wired", || {
        lab.wait_condition(&["tnet", "-n", "team-a", "llama"], "Attached", "True")?;
        lab.running_pods("team-a", "railhead.dev/network=llama", 2)
    })?;
    show(&lab, &["tnet,natt", "-n", "team-a", "-o", "wide"])?;
    for pod in &pods {
        let name = text(&pod["metadata"]["name"]);
        println!("\n$ kubectl describe pod {name}   (our events)");
        let events = lab.events("team-a", "Pod", &name)?;
        for event in events
            .iter()
            .filter(|e| ["NetworkReserved", "Wired"].iter().any(|ours| e.starts_with(ours)))
        {
            println!("  {event}");
        }
    }

    let seen = pods
        .iter()
        .map(|pod| report::look_at(&lab, pod))
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        seen.len() == 2 && seen[0].node != seen[1].node,
        "the two pods are not on two nodes"
    );
    let traffic = step(
        "a full-size ping and RDMA on every rail, both ways, watched on the leaf's cable",
        || {
            Ok(BTreeMap::from([
                (
                    seen[0].name.clone(),
                    report::traffic(&lab, "team-a", &seen[0], &seen[1])?,
                ),
                (
                    seen[1].name.clone(),
                    report::traffic(&lab, "team-a", &seen[1], &seen[0])?,
                ),
            ]))
        },
    )?;
    report::print(&seen, &traffic);
    println!(
        "\n$ cat /etc/nccl.conf   (in {})\n{}",
        seen[0].name,
        lab.exec("team-a", &seen[0].name, "cat /etc/nccl.conf")?.ok()?.stdout
    );
    let degraded = lab.wait_reason(&["tnet", "-n", "team-a", "llama"], "Degraded", "True", "QosNotEnforced")?;
    println!(
        "Condition Degraded={}: {}: {}",
        text(&degraded["status"]),
        text(&degraded["reason"]),
        text(&degraded["message"])
    );

    oversell(&lab)?;

    step("deleting the job and its network", || {
        lab.kubectl(&["delete", "-n", "team-a", "job/llama", "tnet/llama", PATIENCE_FLAG])?
            .ok()?;
        nothing_left(&lab, &recorded)
    })?;
    println!(
        "Slices, attachments, claims and ledger entries: 0. All {} virtual functions are as recorded after their creation.",
        recorded.iter().map(BTreeMap::len).sum::<usize>()
    );
    Ok(())
}

/// A second network that wants more than a port has left stays out, and says why.
fn oversell(lab: &Lab) -> Result<()> {
    installation::namespace(lab, "team-b")?;
    lab.apply("team-b", include_str!("../../lab/manifests/greedy.yaml"))?;
    let event = step("a second network asks for 900M of a 1G port", || {
        lab.wait_event("team-b", "Pod", "greedy", &["BandwidthUnavailable"])
    })?;
    let pod = lab.get(&["pod", "-n", "team-b", "greedy"])?;
    ensure!(
        pod["status"]["phase"] == "Pending",
        "the pod of the second network is {}",
        pod["status"]["phase"]
    );
    println!("Pod team-b/greedy is {}: {event}", text(&pod["status"]["phase"]));
    lab.kubectl(&["delete", "-n", "team-b", "pod/greedy", "tnet/greedy", PATIENCE_FLAG])?
        .ok()?;
    Ok(())
}

fn show(lab: &Lab, what: &[&str]) -> Result<()> {
    println!("\n$ kubectl get {}", what.join(" "));
    print!("{}", lab.kubectl(&[&["get"], what].concat())?.ok()?.stdout);
    Ok(())
}
