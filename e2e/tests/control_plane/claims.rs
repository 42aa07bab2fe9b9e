//! Who may ask for rail ports without a network. Claims that Railhead makes are in [`crate::scheduling`].

use anyhow::Result;
use serde_json::{Value, json};

use crate::World;
use crate::guards::tenant;

fn exactly(class: &str) -> Value {
    json!({"devices": {"requests": [{"name": "rail0", "exactly": {"deviceClassName": class}}]}})
}

fn claim(namespace: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {"name": "by-hand", "namespace": namespace}, "spec": spec,
    })
}

fn template(namespace: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate",
        "metadata": {"name": "by-hand", "namespace": namespace}, "spec": {"spec": spec},
    })
}

pub(crate) fn a_tenant_cannot_claim_rails_by_hand(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("claims")?;
    cluster.ok(&[
        "create",
        "role",
        "claims",
        "--namespace",
        &namespace,
        "--verb=*",
        "--resource=resourceclaims.resource.k8s.io,resourceclaimtemplates.resource.k8s.io",
    ])?;
    let tenant = tenant(world, &namespace, "--role=claims")?;
    let words = ["rail.railhead.dev by hand", "apply a TrainingNetwork"];
    let ours = exactly("rail.railhead.dev");
    cluster.refused(&tenant, &claim(&namespace, &ours), &words)?;
    cluster.refused(&tenant, &template(&namespace, &ours), &words)?;
    let hidden = json!({"devices": {"requests": [
        {"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}},
        {"name": "any", "firstAvailable": [
            {"name": "gpu", "deviceClassName": "gpu.example.com"},
            {"name": "rail", "deviceClassName": "rail.railhead.dev"},
        ]},
    ]}});
    cluster.refused(&tenant, &claim(&namespace, &hidden), &words)?;
    cluster.refused(&tenant, &template(&namespace, &hidden), &words)?;

    // Other drivers' devices are none of Railhead's business, and the administrator may try things out.
    let foreign = exactly("gpu.example.com");
    cluster.create(&tenant, &[claim(&namespace, &foreign), template(&namespace, &foreign)])?;
    let try_out = ["create", "--dry-run=server", "--filename", "-"];
    let mut mine = [claim(&namespace, &ours), template(&namespace, &ours)];
    for object in &mut mine {
        object["metadata"]["name"] = json!("by-admin");
    }
    cluster.feed(&cluster.admin(), &try_out, &mine)?.ok()?;
    Ok(())
}
