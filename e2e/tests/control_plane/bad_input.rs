//! Absurd values in every field: each is refused at apply, or ends in a condition, and the operator lives.
//!
//! Every value of a list is put in place of every field of a sample in turn, so a new field is tried as soon as a sample has it.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail, ensure};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::World;
use crate::cluster::Identity;
use crate::networks::reserved;
use crate::operators::{LEADER, no_leader_panicked};
use crate::samples;

/// What somebody may write by mistake, or to do harm.
fn absurd() -> Vec<Value> {
    let numbers = [
        "-9223372036854775808",
        "-1",
        "0",
        "1",
        "3",
        "17",
        "255",
        "4094",
        "4095",
        "65535",
        "65536",
        "2147483648",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "1.5",
        "1e300",
    ];
    let texts = [
        "",
        " ",
        "0",
        "-1",
        "1G",
        "1Gi",
        "0.1M",
        "1e400",
        "18446744073709551615G",
        "９G",
        "日本",
        "\u{202e}abc",
        "a\u{0}b",
        "a\nb",
        "../../etc",
        "default",
        "{{.Values}}",
        "$(reboot)",
        "%s%n",
        "*",
        "0.0.0.0/0",
        "255.255.255.255/32",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/7",
        "10.100.0.0/16",
        "10.101.255.255",
        "::/0",
        "fd00::1",
        "0000:18:00.7",
        "NCCL_IB_HCA",
        "LD_PRELOAD",
    ];
    let mut values: Vec<Value> = numbers
        .iter()
        .map(|number| serde_json::from_str(number).expect("these are numbers"))
        .collect();
    values.extend(texts.iter().map(|text| json!(text)));
    values.extend([json!("a".repeat(64)), json!("9".repeat(70_000))]);
    values.extend([
        json!(null),
        json!(true),
        json!(false),
        json!([]),
        json!([null]),
        json!(["", ""]),
        json!(["rail1", "rail0", "rail1"]),
        json!({}),
        json!({"": ""}),
        json!({"ü": "日本"}),
        json!({"NCCL_DEBUG": "a\nb"}),
        json!({"NCCL_X": "9".repeat(5000)}),
        json!({"min": 4094, "max": 1}),
        json!({"min": 1, "max": 1}),
        json!({"count": 16}),
        json!({"names": ["rail0"], "count": 1}),
    ]);
    values
}

/// The paths of all fields in a value, itself left out.
fn fields(value: &Value, path: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), field)).collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(place, item)| (place.to_string(), item))
            .collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        let path = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
        fields(child, &path, found);
        found.push(path);
    }
}

/// The sample with every absurd value in every field of `part`, each under a name of its own.
fn variants(sample: &Value, part: &str, prefix: &str) -> Result<Vec<Value>> {
    let mut paths = Vec::new();
    fields(
        sample.pointer(part).context("the sample has no such part")?,
        part,
        &mut paths,
    );
    let mut all = Vec::new();
    for path in &paths {
        // It would be the default of all other tests.
        for value in absurd()
            .into_iter()
            .filter(|value| !path.ends_with("/default") || *value != json!(true))
        {
            let mut variant = sample.clone();
            *variant.pointer_mut(path).context("a path of the sample")? = value;
            variant["metadata"]["name"] = json!(format!("{prefix}-{}", all.len()));
            all.push(variant);
        }
    }
    Ok(all)
}

/// Applies all of them as somebody; how many were refused.
fn create(world: &World, who: &Identity, objects: &[Value]) -> Result<usize> {
    let mut refused = 0;
    for some in objects.chunks(400) {
        let output = world
            .cluster
            .feed(who, &["create", "--validate=false", "--filename", "-"], some)?;
        let created = output.stdout.lines().filter(|line| line.ends_with(" created")).count();
        ensure!(
            !output.stderr.contains("InternalError") && !output.stderr.contains("panic"),
            "the API server failed: {}",
            output.stderr
        );
        refused += some.len() - created;
    }
    Ok(refused)
}

fn named(world: &World, namespace: &str, kind: &str, prefix: &str) -> Result<Vec<Value>> {
    let all = world.cluster.list(namespace, kind)?;
    let is_ours = |object: &Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'))
    };
    Ok(all.into_iter().filter(is_ours).collect())
}

/// Waits until each of them says what is the matter with it, about its spec as it is.
fn all_answered(world: &World, namespace: &str, kind: &str, prefix: &str) -> Result<()> {
    eventually(&format!("every {kind} that was accepted has a condition"), || {
        for object in named(world, namespace, kind, prefix)? {
            let status = &object["status"];
            let conditions = status["conditions"].as_array().map_or(0, Vec::len);
            if conditions == 0 || status["observedGeneration"] != object["metadata"]["generation"] {
                bail!("{} says {status} of {}", object["metadata"]["name"], object["spec"]);
            }
        }
        Ok(())
    })
}

/// It is the process that it was, works for others, and has never panicked.
pub(crate) fn the_operator_lives(world: &World, fabric: &str) -> Result<()> {
    let namespace = world.cluster.namespace("sane")?;
    let admin = world.cluster.admin();
    world.cluster.create(
        &admin,
        &[
            samples::fabric(fabric),
            samples::network(&namespace, "llama", fabric, 2),
        ],
    )?;
    reserved(world, &namespace, "llama")?;
    let leader = LEADER.get().context("no operator runs")?;
    let leader = leader.lock().expect("no holder of this lock panics");
    leader.as_ref().context("the operator was stopped")?.page("/healthz")?;
    no_leader_panicked(world)?;
    world
        .cluster
        .ok(&["delete", "tnet", "--all", "--namespace", &namespace])?;
    world.cluster.ok(&["delete", "fabric", fabric])?;
    Ok(())
}

fn delete(world: &World, who: &Identity, namespace: &str, kind: &str, prefix: &str) -> Result<()> {
    world.cluster.delete(who, &named(world, namespace, kind, prefix)?)?;
    eventually(&format!("every {kind} of {prefix} is gone"), || {
        let left = named(world, namespace, kind, prefix)?.len();
        ensure!(left == 0, "{left} are left");
        Ok(())
    })
}

pub(crate) fn an_absurd_network_is_refused_or_answered_and_the_operator_lives(world: &World) -> Result<()> {
    let namespace = world.cluster.namespace("absurd")?;
    let admin = world.cluster.admin();
    let fabric = "absurd-networks";
    world.cluster.create(&admin, &[samples::fabric(fabric)])?;
    let mut sample = samples::network(&namespace, "absurd", fabric, 2);
    sample["metadata"]["labels"] = json!({"team": "a"});
    sample["spec"]["qosClassName"] = json!("production");
    sample["spec"]["rails"] = json!({"names": ["rail0"]});
    sample["spec"]["bandwidthPerRail"] = json!("10G");
    sample["spec"]["nccl"] = json!({"inject": "File", "settings": {"NCCL_DEBUG": "INFO"}});
    let variants = variants(&sample, "/spec", "absurd")?;
    let refused = create(world, &admin, &variants)?;
    let accepted = named(world, &namespace, "tnet", "absurd")?.len();
    ensure!(
        refused + accepted == variants.len(),
        "{refused} refused and {accepted} there of {}",
        variants.len()
    );
    ensure!(
        refused > variants.len() / 2 && accepted > 10,
        "{refused} refused, {accepted} accepted"
    );
    all_answered(world, &namespace, "tnet", "absurd")?;
    the_operator_lives(world, "sane-1")?;
    delete(world, &admin, &namespace, "tnet", "absurd")?;
    world.cluster.ok(&["delete", "fabric", fabric])?;
    Ok(())
}

const FIRST_POOL: &str = "10.240.0.0/26";
const FIRST_GATEWAY: &str = "10.240.0.1";
const FIRST_EXCLUDED: &str = "10.240.0.16/28";
const SECOND_POOL: &str = "10.240.0.64/26";

/// Fabrics with the same addresses would be refused for that. What is absurd in a pool stays.
fn with_pools_of_its_own(fabric: &Value, place: u32) -> Result<Value> {
    let mut text = fabric.to_string();
    for written in [FIRST_POOL, FIRST_GATEWAY, FIRST_EXCLUDED, SECOND_POOL] {
        let (address, length) = written.split_once('/').unwrap_or((written, ""));
        let moved = Ipv4Addr::from(u32::from(address.parse::<Ipv4Addr>()?) + place * 128);
        let slash = if length.is_empty() { "" } else { "/" };
        text = text.replace(&format!("\"{written}\""), &format!("\"{moved}{slash}{length}\""));
    }
    Ok(serde_json::from_str(&text)?)
}

pub(crate) fn an_absurd_fabric_is_refused_or_answered_and_so_are_its_networks(world: &World) -> Result<()> {
    let namespace = world.cluster.namespace("absurd-fabrics")?;
    let admin = world.cluster.admin();
    let mut sample = samples::fabric("odd");
    let rail = &mut sample["spec"]["rails"][0];
    rail["speed"] = json!("400G");
    rail["ports"][0]["nodeSelector"] = json!({"matchLabels": {"model": "a"}});
    rail["pools"] = json!([{"cidr": FIRST_POOL, "gateway": FIRST_GATEWAY, "exclude": [FIRST_EXCLUDED]}]);
    sample["spec"]["rails"][1]["pools"][0]["cidr"] = json!(SECOND_POOL);
    sample["spec"]["mtu"] = json!(9000);
    sample["spec"]["vfsPerPort"] = json!(8);
    let mut variants = variants(&sample, "/spec", "odd")?;
    // One that takes all nodes has those of other tests too, and nobody there gives them back.
    variants.retain(|fabric| {
        let labels = fabric["spec"]["nodeSelector"]["matchLabels"].as_object();
        !fabric["spec"].is_object() || labels.is_some_and(|labels| labels.values().any(|label| !label.is_null()))
    });
    for (fabric, place) in variants.iter_mut().zip(0..) {
        *fabric = with_pools_of_its_own(fabric, place)?;
    }
    let refused = create(world, &admin, &variants)?;
    let accepted = named(world, "default", "fabric", "odd")?;
    ensure!(
        refused + accepted.len() == variants.len(),
        "{refused} refused of {}",
        variants.len()
    );
    ensure!(
        refused > variants.len() / 2 && accepted.len() > 10,
        "{refused} refused, {} accepted",
        accepted.len()
    );
    let networks: Vec<Value> = accepted
        .iter()
        .filter_map(|fabric| fabric["metadata"]["name"].as_str())
        .map(|fabric| samples::network(&namespace, fabric, fabric, 2))
        .collect();
    create(world, &admin, &networks)?;
    all_answered(world, "default", "fabric", "odd")?;
    all_answered(world, &namespace, "tnet", "odd")?;
    the_operator_lives(world, "sane-2")?;
    delete(world, &admin, &namespace, "tnet", "odd")?;
    delete(world, &admin, "default", "fabric", "odd")
}
