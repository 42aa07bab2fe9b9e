//! What a Prepare that is refused gives back, and what it leaves to whom it belongs.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use railhead_agent::kubelet::{ClaimRef, Claims};
use serde_json::json;
use tokio::time::Instant;

use crate::bed::{Bed, uid};

#[tokio::test(start_paused = true)]
async fn what_will_not_clear_up_gives_the_index_back_and_says_so_at_once() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.agent
        .inventory
        .send_replace(Some(std::sync::Arc::new(railhead_agent::inventory::Inventory {
            fabric: "storage".to_owned(),
            ..railhead_agent::inventory::Inventory::default()
        })));
    let start = Instant::now();
    let refused = bed.claims().prepare(claim).await.unwrap_err();
    assert!(refused.contains("storage"), "{refused}");
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(bed.holders().is_empty());
}

/// kubelet has lost its own state and asks again for a pod that runs.
#[tokio::test(start_paused = true)]
async fn what_keeps_a_claim_from_being_prepared_again_takes_nothing_from_the_pod_that_runs() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    let layout = &bed.agent.layout;
    let held = bed.holders();
    let written = fs::metadata(layout.cdi_spec(&claim.uid)).unwrap().ino();
    bed.wire("llama-2", &json!([]));
    // A quota is full, or a role was taken away: nothing has to be created.
    bed.api.refuse("POST /apis/railhead.dev");
    bed.claims().prepare(claim.clone()).await.unwrap();
    let again = fs::metadata(layout.cdi_spec(&claim.uid)).unwrap().ino();
    assert_eq!(again, written, "what is there needs no room on a full disk");
    bed.api.refuse("PATCH /apis/railhead.dev");
    let refused = bed.claims().prepare(claim.clone()).await.unwrap_err();
    assert!(refused.contains("Forbidden"), "{refused}");
    assert!(layout.plan(&uid("llama-2")).exists() && layout.cdi_spec(&claim.uid).exists());
    assert!(layout.record(&uid("llama-2")).exists());
    assert_eq!(bed.holders(), held);
}

/// The index that the second one finds taken is the first one's, with the addresses of the functions in its plan.
#[tokio::test(start_paused = true)]
async fn a_second_claim_of_a_pod_that_is_refused_takes_no_index_from_the_first() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    let held = bed.holders();
    let mut second = bed.api.all("resourceclaims").remove(0);
    second["metadata"]["name"] = json!("llama-2-again");
    second["metadata"]["uid"] = json!("claim-llama-2-again");
    bed.api.put("resourceclaims", &second);
    let second = ClaimRef {
        name: "llama-2-again".to_owned(),
        uid: "claim-llama-2-again".to_owned(),
        ..claim.clone()
    };
    let refused = bed.claims().prepare(second.clone()).await.unwrap_err();
    assert!(refused.contains("claim-llama-2"), "{refused}");
    assert_eq!(bed.holders(), held, "refused");
    assert!(bed.agent.layout.plan(&uid("llama-2")).exists());
    assert!(bed.agent.layout.cdi_spec(&claim.uid).exists());
    bed.claims().unprepare(second).await.unwrap();
    assert_eq!(bed.holders(), held, "given back");
    bed.claims().unprepare(claim).await.unwrap();
    assert!(bed.holders().is_empty());
}
