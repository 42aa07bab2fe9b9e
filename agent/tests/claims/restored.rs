//! An API server that was restored from a backup, under an agent that goes on.

use std::time::Duration;

use railhead_agent::node::{self, Selection};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::bed::Bed;

fn node_network(name: &str, asked: &str) -> Value {
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NodeNetwork", "metadata": {"name": name, "uid": "nodenet"},
        "spec": {"fabricName": "backend", "vfManagement": "Observed", "mtu": 9000, "rails": [], "recount": asked},
    })
}

fn asked(selection: &Selection) -> Option<String> {
    match selection {
        Selection::Fabric(network) => network.spec.recount.clone(),
        Selection::None | Selection::Unknown => None,
    }
}

/// What the operator writes then has versions that the watch has seen already, by which it tells of nothing.
#[tokio::test(start_paused = true)]
async fn what_is_asked_after_a_restore_is_heard_though_the_watch_is_further() {
    let bed = Bed::new(4);
    let name = bed.agent.node.clone();
    bed.api.put("nodenetworks", &node_network(&name, "before"));
    let backup = bed.api.backup();
    for asked in ["lost", "lost too", "last"] {
        bed.api.put("nodenetworks", &node_network(&name, asked));
    }
    let (told, mut hears) = watch::channel(Selection::Unknown);
    tokio::spawn(node::watch_node_network(bed.agent.clone(), told));
    hears
        .wait_for(|heard| asked(heard).as_deref() == Some("last"))
        .await
        .unwrap();
    bed.api.restore(backup);
    bed.api.put("nodenetworks", &node_network(&name, "after"));
    let is_heard = hears.wait_for(|heard| asked(heard).as_deref() == Some("after"));
    let is_heard = tokio::time::timeout(Duration::from_mins(3), is_heard).await.is_ok();
    assert!(is_heard, "the agent never hears what it is asked");
    // And one that is not there any more is no longer the node's.
    let gone = bed.api.backup();
    bed.api.put("nodenetworks", &node_network(&name, "newer"));
    hears
        .wait_for(|heard| asked(heard).as_deref() == Some("newer"))
        .await
        .unwrap();
    bed.api.restore(gone);
    bed.api.delete("nodenetworks", &name);
    let is_heard = hears.wait_for(|heard| matches!(heard, Selection::None));
    let is_heard = tokio::time::timeout(Duration::from_mins(3), is_heard).await.is_ok();
    assert!(is_heard, "the agent goes on as if the fabric selected its node");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_missed_nothing_goes_on() {
    let bed = Bed::new(4);
    let name = bed.agent.node.clone();
    bed.api.put("nodenetworks", &node_network(&name, "once"));
    let (told, _hears) = watch::channel(Selection::Unknown);
    tokio::spawn(node::watch_node_network(bed.agent.clone(), told));
    tokio::time::sleep(Duration::from_mins(4)).await;
    let looks = bed
        .api
        .requests(&format!("GET /apis/railhead.dev/v1alpha1/nodenetworks/{name}"));
    assert!((3..=4).contains(&looks), "{looks} looks");
    let lists = bed.api.requests("GET /apis/railhead.dev/v1alpha1/nodenetworks?")
        - bed.api.requests("GET /apis/railhead.dev/v1alpha1/nodenetworks?&watch");
    assert_eq!(lists, 1, "it began once");
}
