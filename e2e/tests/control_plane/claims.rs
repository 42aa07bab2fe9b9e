//! Who may ask for rail ports without a network, and who may say what a claim got. Claims that Railhead makes are in
//! [`crate::scheduling`].

use anyhow::{Context, Result, bail, ensure};
use railhead_e2e::cluster::eventually;
use railhead_e2e::lab::run::Output;
use serde_json::{Value, json};

use crate::World;
use crate::cluster::{Cluster, Identity, SYSTEM, expect_refusal};
use crate::guards::tenant;
use crate::networks::reserved;
use crate::samples;
use crate::simulated_node::SimulatedNode;

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

/// A template that outlived its network would go on making claims on ports that nobody counts.
pub(crate) fn the_template_of_a_network_goes_with_it_whatever_a_tenant_does(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("kept")?;
    let tenant = tenant(world, &namespace, "--clusterrole=admin")?;
    cluster.create(
        &cluster.admin(),
        &[
            samples::fabric("kept"),
            samples::network(&namespace, "llama", "kept", 2),
        ],
    )?;
    cluster.condition((&namespace, "tnet", "llama"), "Reserved", "True", "Reserved")?;
    let patch = |patch: &str| {
        let command = [
            "patch",
            "resourceclaimtemplate",
            "llama-rails",
            "--namespace",
            &namespace,
            "--type=merge",
            "--patch",
        ];
        cluster.kubectl(&tenant, &[&command[..], &[patch]].concat())
    };
    for change in [
        r#"{"metadata": {"ownerReferences": null}}"#,
        r#"{"metadata": {"finalizers": ["example.com/mine"]}}"#,
        r#"{"metadata": {"labels": {"railhead.dev/network": "other"}}}"#,
    ] {
        let words = [
            "llama-rails goes with its TrainingNetwork",
            "Delete the TrainingNetwork",
        ];
        expect_refusal(&patch(change)?, &words).context(change)?;
    }
    patch(r#"{"metadata": {"annotations": {"unrelated": "yes"}}}"#)?.ok()?;
    // The garbage collector takes the owner away before the network goes.
    let orphan = ["delete", "tnet", "llama", "--namespace", &namespace, "--cascade=orphan"];
    cluster.kubectl(&tenant, &orphan)?.ok()?;
    let left = [
        "get",
        "resourceclaimtemplates,networkslices",
        "--namespace",
        &namespace,
        "--output=name",
    ];
    let left = cluster.ok(&left)?;
    ensure!(left.trim().is_empty(), "left behind: {left}");
    Ok(())
}

/// Writes `status.devices` of a claim in one request, as an agent does.
fn say(cluster: &Cluster, who: &Identity, claim: &Value, status: &Value) -> Result<Output> {
    let metadata = &claim["metadata"];
    let object = json!({
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
        "status": status,
    });
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=railhead/agent",
    ];
    let status = ["--subresource", "status", "--validate=false", "--filename", "-"];
    cluster.feed(who, &[&apply[..], &status].concat(), &[object])
}

/// One entry per allocated device of a driver.
fn entries(claim: &Value, driver: &str) -> Result<Value> {
    let results = claim["status"]["allocation"]["devices"]["results"]
        .as_array()
        .context("the claim is not allocated")?;
    let of_driver = results.iter().filter(|result| result["driver"] == driver);
    let entry = |result: &Value| {
        let mut entry = json!({
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Wired", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
            "networkData": {"interfaceName": result["device"], "ips": ["10.0.64.5/16"], "hardwareAddress": "02:00:00:00:00:01"},
            "data": {"vf": "0000:18:00.3"},
        });
        for key in ["driver", "pool", "device", "shareID"] {
            if !result[key].is_null() {
                entry[key] = result[key].clone();
            }
        }
        entry
    };
    Ok(of_driver.map(entry).collect())
}

pub(crate) fn an_agent_says_what_claims_of_its_own_node_got(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "telling";
    cluster.create(&cluster.admin(), &[samples::fabric(fabric)])?;
    let mine = SimulatedNode::join(cluster, "telling-1", fabric, &["100G", "100G"])?;
    let other = SimulatedNode::join(cluster, "telling-2", fabric, &["100G", "100G"])?;
    let namespace = cluster.namespace(fabric)?;
    cluster.create(&cluster.admin(), &[samples::network(&namespace, "llama", fabric, 2)])?;
    reserved(world, &namespace, "llama")?;
    let mut pod = samples::pod(&namespace, "llama-0", "llama", 0);
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": mine.name});
    cluster.create(&cluster.admin(), &[pod])?;
    let claim = eventually("the scheduler allocates the claim", || {
        let claims = cluster.list(&namespace, "resourceclaims")?;
        let claim = claims.into_iter().next().context("there is no claim")?;
        entries(&claim, "railhead.dev").map(|_| claim)
    })?;
    let status = json!({"devices": entries(&claim, "railhead.dev")?});
    let stored = || -> Result<Value> {
        let name = claim["metadata"]["name"].as_str().context("a claim without a name")?;
        Ok(cluster.get(&namespace, "resourceclaim", name)?["status"].clone())
    };

    // The API server itself asks whose node it is.
    let foreign = say(cluster, &other.agent, &claim, &status)?;
    expect_refusal(&foreign, &["resourceclaims/driver"])?;
    ensure!(
        stored()?["devices"].is_null(),
        "it is stored all the same: {}",
        stored()?
    );
    say(cluster, &mine.agent, &claim, &status)?.ok()?;
    let now = stored()?;
    ensure!(now["devices"] == status["devices"], "stored is {}", now["devices"]);
    ensure!(
        now["allocation"] == claim["status"]["allocation"],
        "the allocation is {}",
        now["allocation"]
    );
    let mut greedy = status.clone();
    greedy["reservedFor"] =
        json!([{"resource": "pods", "name": "other", "uid": "00000000-0000-4000-8000-000000000001"}]);
    // By the API server, or by the policy while another test gives agents the right that the server asks for.
    expect_refusal(&say(cluster, &mine.agent, &claim, &greedy)?, &["forbidden"])?;
    let now = stored()?["reservedFor"].clone();
    ensure!(now[0]["name"] == "llama-0", "the claim is reserved for {now}");
    Ok(())
}

/// On a server that does not ask for more than the right to patch the status, which is every one before 1.36, the policy confines
/// the agent all the same. The role stands for such a server.
pub(crate) fn the_policy_confines_an_agent_where_the_api_server_does_not(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let mine = SimulatedNode::add(cluster, "lenient-1", "lenient")?;
    let other = SimulatedNode::add(cluster, "lenient-2", "lenient")?;
    let namespace = cluster.namespace("lenient")?;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "lenient", "namespace": namespace},
        "rules": [
            {"apiGroups": ["resource.k8s.io"], "resources": ["resourceclaims/driver"], "verbs": ["arbitrary-node:patch"]},
        ],
    });
    let cluster_role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "lenient"},
        "rules": [{"apiGroups": ["resource.k8s.io"], "resources": ["resourceclaims/binding"], "verbs": ["patch"]}],
    });
    let account = json!([{"kind": "ServiceAccount", "name": "railhead-agent", "namespace": SYSTEM}]);
    let binding = |kind: &str, role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "lenient", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": "lenient"}, "subjects": account,
        })
    };
    let mut everywhere = binding("ClusterRoleBinding", "ClusterRole");
    everywhere["metadata"] = json!({"name": "lenient"});
    cluster.create(
        &cluster.admin(),
        &[role, cluster_role, binding("RoleBinding", "Role"), everywhere],
    )?;

    let request = |name: &str, class: &str| json!({"name": name, "exactly": {"deviceClassName": class}});
    let spec =
        json!({"devices": {"requests": [request("rail0", "rail.railhead.dev"), request("gpu", "gpu.example.com")]}});
    cluster.create(&cluster.admin(), &[claim(&namespace, &spec)])?;
    let by_hand = || cluster.get(&namespace, "resourceclaim", "by-hand");
    let result = |request: &str, driver: &str| json!({"request": request, "driver": driver, "pool": mine.name, "device": request});
    let on_node = json!({"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [mine.name]}]},
    ]});
    let allocation = json!({
        "devices": {"results": [result("rail0", "railhead.dev"), result("gpu", "gpu.example.com")]}, "nodeSelector": on_node,
    });
    let bound = json!({"allocation": allocation});
    let patch = json!({"status": bound}).to_string();
    cluster.ok(&[
        "patch",
        "resourceclaim",
        "by-hand",
        "--namespace",
        &namespace,
        "--subresource",
        "status",
        "--type",
        "merge",
        "--patch",
        &patch,
    ])?;
    let claim = by_hand()?;
    let ours = entries(&claim, "railhead.dev")?;
    let status = json!({"devices": ours});

    let foreign = eventually("the role is in force", || {
        let output = say(cluster, &other.agent, &claim, &status)?;
        ensure!(!output.stderr.contains("resourceclaims/driver"), "{output}");
        Ok(output)
    })?;
    expect_refusal(&foreign, &["agent of node lenient-2", "not allocated on that node"])?;
    say(cluster, &mine.agent, &claim, &status)?.ok()?;
    let words = ["agent of node lenient-1", "entries of driver railhead.dev"];
    let gpu = json!({"devices": entries(&claim, "gpu.example.com")?});
    expect_refusal(&say(cluster, &mine.agent, &claim, &gpu)?, &words)?;
    let greedy =
        json!({"reservedFor": [{"resource": "pods", "name": "other", "uid": "00000000-0000-4000-8000-000000000001"}]});
    expect_refusal(&say(cluster, &mine.agent, &claim, &greedy)?, &words)?;
    let devices = by_hand()?["status"]["devices"].clone();
    ensure!(devices == ours, "stored is {devices}");
    cluster.ok(&["delete", "clusterrolebinding/lenient", "clusterrole/lenient"])?;
    Ok(())
}

/// How often the API server's count of lists is taken.
const ROUNDS: u32 = 6;

/// All pods of a job list the indices of their slice when they start. The list has to be as new as etcd, since a pod finds its own
/// index in it, and yet etcd is not to be asked for every one.
pub(crate) fn lists_of_indices_are_answered_out_of_the_api_servers_memory(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("lists")?;
    let node = SimulatedNode::add(cluster, "lists-node", "any")?;
    let lists = 20;
    // As `Taker::any` asks.
    let path = format!(
        "/apis/railhead.dev/v1alpha1/namespaces/{namespace}/networkattachments?labelSelector=railhead.dev%2Fslice%3Dlists-00000000"
    );
    for index in 0..lists {
        let attachment = samples::attachment(&namespace, "lists-00000000", index, &node.name);
        cluster.create(&node.agent, &[attachment])?;
        let listed = cluster.kubectl(&node.agent, &["get", "--raw", &path])?;
        let listed: Value = serde_json::from_str(&listed.ok()?.stdout)?;
        let count = listed["items"].as_array().context("no list")?.len();
        ensure!(
            count == index as usize + 1,
            "{count} attachments are shown after {} were made",
            index + 1
        );
    }
    // The count is the whole server's. What other tests ask for is not there in every round; what is asked for here would be.
    let mut least = u32::MAX;
    for _ in 0..ROUNDS {
        let before = read_from_etcd(cluster)?;
        for _ in 0..lists {
            cluster.kubectl(&node.agent, &["get", "--raw", &path])?.ok()?;
        }
        least = least.min(read_from_etcd(cluster)? - before);
        // One each tells how new etcd is.
        if least < lists * lists / 2 {
            return Ok(());
        }
    }
    bail!("{lists} lists of {lists} had {least} attachments read from etcd, {ROUNDS} times")
}

/// How many attachments the API server has read from etcd for lists.
fn read_from_etcd(cluster: &Cluster) -> Result<u32> {
    let metrics = cluster
        .kubectl(&cluster.admin(), &["get", "--raw", "/metrics"])?
        .ok()?
        .stdout;
    let lines = metrics.lines().filter(|line| {
        line.starts_with("apiserver_storage_list_fetched_objects_total{")
            && line.contains("resource=\"networkattachments\"")
    });
    lines
        .map(|line| Ok(line.rsplit(' ').next().context("no value")?.parse::<u32>()?))
        .sum()
}
