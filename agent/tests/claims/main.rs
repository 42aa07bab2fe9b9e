//! What a claim goes through when the API server is slow, busy or silent, when its index is held, and when files of the node
//! are lost. Time is the test's own: it passes when nothing else happens.

mod api_server;
#[path = "../bed/mod.rs"]
mod bed;
mod collector;
mod files;
mod index;
mod refused;
mod restored;
mod shared;

use std::{fs, time::Duration};

use bed::{Bed, SLICE, uid};
use railhead_agent::kubelet::Claims;

/// When kubelet hangs up.
const KUBELET_HANGS_UP: Duration = Duration::from_secs(45);

#[tokio::test(start_paused = true)]
async fn a_claim_is_prepared_and_given_back() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    assert_eq!(bed.holders(), [(format!("{SLICE}-2"), "llama-2".to_owned())]);
    assert!(bed.agent.layout.plan(&uid("llama-2")).exists());
    assert!(bed.agent.layout.cdi_spec(&claim.uid).exists());
    bed.claims().prepare(claim.clone()).await.unwrap();
    bed.claims().unprepare(claim.clone()).await.unwrap();
    bed.claims().unprepare(claim.clone()).await.unwrap();
    assert!(bed.holders().is_empty());
    assert!(!bed.agent.layout.plan(&uid("llama-2")).exists());
    assert!(!bed.agent.layout.cdi_spec(&claim.uid).exists());
    let locks: Vec<_> = fs::read_dir(bed.agent.layout.locks())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| !name.to_string_lossy().starts_with("node"))
        .collect();
    assert!(locks.is_empty(), "{locks:?}");
}
