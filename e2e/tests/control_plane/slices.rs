//! What the API server takes as a NetworkSlice, of this release and of the first one, and what may change in it.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::World;
use crate::cluster::expect_refusal;

/// A slice as release 0.1 wrote it.
fn of_first_release(namespace: &str) -> Result<Value> {
    let mut slice: Value = serde_json::from_str(include_str!("../../../crds/tests/release_0_1/slice.json"))?;
    slice["metadata"] = json!({"name": "llama-7f3a9c21", "namespace": namespace});
    Ok(slice)
}

fn with_prefixes(namespace: &str, prefixes: &Value) -> Result<Value> {
    let mut slice = of_first_release(namespace)?;
    slice["metadata"]["name"] = json!("qwen-7f3a9c21");
    slice["spec"]["rails"] = json!([{"id": 0, "name": "rail0", "prefixes": prefixes}]);
    Ok(slice)
}

pub(crate) fn a_slice_of_the_first_release_stays_as_it_is(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("first")?;
    let written = of_first_release(&namespace)?;
    cluster.create(&world.operator_account, std::slice::from_ref(&written))?;
    let label = r#"{"metadata": {"labels": {"looked": "at"}}}"#;
    let patch = [
        "patch",
        "nslice",
        "llama-7f3a9c21",
        "--namespace",
        &namespace,
        "--type",
        "merge",
        "--patch",
        label,
    ];
    cluster.kubectl(&world.operator_account, &patch)?.ok()?;
    let found = cluster.get(&namespace, "networkslice", "llama-7f3a9c21")?;
    if found["spec"] != written["spec"] {
        bail!("it was {}, and now it is {}", written["spec"], found["spec"]);
    }
    Ok(())
}

pub(crate) fn a_rail_of_a_slice_has_prefixes_in_their_pools_of_one_family_each(world: &World) -> Result<()> {
    let namespace = world.cluster.namespace("families")?;
    let create = |slice: Value| {
        let arguments = ["create", "--dry-run=server", "--filename", "-"];
        world.cluster.feed(&world.operator_account, &arguments, &[slice])
    };
    let four = json!({"prefix": "10.0.0.8/29", "pool": "10.0.0.0/16", "gateway": "10.0.255.254"});
    let six = json!({"prefix": "fd00:0:1::8/125", "pool": "fd00:0:1::/48"});
    create(with_prefixes(&namespace, &json!([four, six]))?)?.ok()?;
    for (field, wrong) in [
        ("prefix", "10.1.0.8/29"),
        ("prefix", "fd00:0:1::8/125"),
        ("prefix", "everything"),
        ("pool", "10.0.0.8"),
        ("gateway", "10.1.0.1"),
        ("gateway", "fd00::1"),
    ] {
        let mut prefix = four.clone();
        prefix[field] = json!(wrong);
        let refused = create(with_prefixes(&namespace, &json!([prefix]))?)?;
        expect_refusal(
            &refused,
            &["a prefix of a NetworkSlice and its gateway lie in its pool"],
        )
        .with_context(|| format!("{field} {wrong}"))?;
    }
    let words = ["a rail of a NetworkSlice has prefixes, or prefix and pool"];
    let mut twice = of_first_release(&namespace)?;
    twice["spec"]["rails"][0]["prefixes"] = json!([four]);
    expect_refusal(&create(twice)?, &words)?;
    let mut nothing = of_first_release(&namespace)?;
    nothing["spec"]["rails"] = json!([{"id": 0, "name": "rail0"}]);
    expect_refusal(&create(nothing)?, &words)
}

pub(crate) fn a_slice_changes_its_pods_within_its_block_and_its_guarantee_and_nothing_else(
    world: &World,
) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("changes")?;
    cluster.create(&world.operator_account, &[of_first_release(&namespace)?])?;
    let patch = |spec: Value| {
        let object = (&*namespace, "nslice", "llama-7f3a9c21");
        cluster.patch(&world.operator_account, object, &json!({ "spec": spec }), &[])
    };
    patch(json!({"pods": 8}))?.ok()?;
    patch(json!({"pods": 5, "qos": {"guaranteed": "300M"}}))?.ok()?;
    expect_refusal(
        &patch(json!({"pods": 9}))?,
        &["at most as many pods as its block has slots"],
    )?;
    for spec in [
        json!({"base": 16}),
        json!({"capacity": 16}),
        json!({"ledgerSequence": 7}),
        json!({"network": {"uid": "x"}}),
        json!({"fabric": {"mtu": 1500}}),
        json!({"rails": [{"id": 0, "name": "rail0", "prefixes": [{"prefix": "10.0.0.8/29", "pool": "10.0.0.0/16"}]}]}),
    ] {
        let refused = patch(spec.clone())?;
        expect_refusal(&refused, &["only pods and qos.guaranteed may change"]).with_context(|| spec.to_string())?;
    }
    for qos in [
        json!({"dscp": 1}),
        json!({"maximum": null}),
        json!({"trust": true}),
        json!({"className": "x"}),
    ] {
        let refused = patch(json!({ "qos": qos }))?;
        expect_refusal(&refused, &["of the qos of a NetworkSlice only guaranteed may change"])?;
    }
    Ok(())
}
