//! The one label on a pod: what is added for it, what may not stand beside it, and that it cannot change.

use anyhow::{Context, Result, bail, ensure};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::World;
use crate::cluster::{contains, expect_refusal};
use crate::samples;

/// Creates a pod and gives it back as the API server stored it.
fn stored(world: &World, pod: &Value) -> Result<Value> {
    let admin = world.cluster.admin();
    let output = world.cluster.feed(
        &admin,
        &["create", "--output", "json", "--filename", "-"],
        std::slice::from_ref(pod),
    )?;
    Ok(serde_json::from_str(&output.ok()?.stdout)?)
}

fn same(what: &str, is: &Value, should_be: &Value) -> Result<()> {
    if is == should_be {
        Ok(())
    } else {
        bail!("{what} is {is} instead of {should_be}")
    }
}

fn claim_entry(network: &str) -> Value {
    json!({"name": "railhead", "resourceClaimTemplateName": format!("{network}-rails")})
}

pub(crate) fn one_label_gives_the_claim_to_containers_and_plain_init_containers(world: &World) -> Result<()> {
    let namespace = world.cluster.namespace("label")?;
    let mut pod = samples::pod(&namespace, "pod", "llama", 0);
    pod["spec"]["initContainers"] = json!([
        {"name": "z-preflight", "image": "preflight"},
        {"name": "a-sidecar", "image": "logs", "restartPolicy": "Always"},
        {"name": "m-preflight", "image": "preflight"},
    ]);
    pod["spec"]["containers"] = json!([{"name": "train", "image": "train"}, {"name": "eval", "image": "eval"}]);
    let pod = stored(world, &pod)?;
    same(
        "the annotation",
        &pod["metadata"]["annotations"]["railhead.dev/attach"],
        &json!("llama"),
    )?;
    same(
        "the pod's claims",
        &pod["spec"]["resourceClaims"],
        &json!([claim_entry("llama")]),
    )?;
    let claims = |list: &Value| -> Value {
        let containers = list.as_array().into_iter().flatten();
        containers
            .map(|c| json!([c["name"], c["resources"]["claims"]]))
            .collect()
    };
    let ours = json!([{"name": "railhead"}]);
    same(
        "containers",
        &claims(&pod["spec"]["containers"]),
        &json!([["train", ours], ["eval", ours]]),
    )?;
    // Their order is the order in which they run.
    let expected = json!([["z-preflight", ours], ["a-sidecar", null], ["m-preflight", ours]]);
    same("init containers", &claims(&pod["spec"]["initContainers"]), &expected)
}

pub(crate) fn what_a_container_claims_already_is_kept(world: &World) -> Result<()> {
    let namespace = world.cluster.namespace("claims")?;
    let mut pod = samples::pod(&namespace, "pod", "llama", 0);
    pod["spec"]["resourceClaims"] = json!([{"name": "gpus", "resourceClaimTemplateName": "gpus"}]);
    // Kubernetes tolerates a name that is set twice; a merge of ours must not choke on it.
    let environment = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
    pod["spec"]["containers"][0]["resources"] = json!({"claims": [{"name": "gpus"}], "limits": {"cpu": "1"}});
    pod["spec"]["containers"][0]["env"] = environment.clone();
    let pod = stored(world, &pod)?;
    let entries = json!([{"name": "gpus", "resourceClaimTemplateName": "gpus"}, claim_entry("llama")]);
    same("the pod's claims", &pod["spec"]["resourceClaims"], &entries)?;
    let container = &pod["spec"]["containers"][0];
    same(
        "the container's claims",
        &container["resources"]["claims"],
        &json!([{"name": "gpus"}, {"name": "railhead"}]),
    )?;
    same("its limits", &container["resources"]["limits"], &json!({"cpu": "1"}))?;
    same("its environment", &container["env"], &environment)
}

pub(crate) fn a_pod_that_was_mutated_before_is_not_changed_again(world: &World) -> Result<()> {
    let namespace = world.cluster.namespace("twice")?;
    let first = stored(world, &samples::pod(&namespace, "first", "llama", 0))?;
    // As when somebody saves a pod with kubectl and applies it elsewhere.
    let mut again = samples::pod(&namespace, "again", "llama", 0);
    again["metadata"]["annotations"] = first["metadata"]["annotations"].clone();
    again["spec"] = first["spec"].clone();
    let again = stored(world, &again)?;
    let ours = |pod: &Value| {
        json!([
            pod["metadata"]["annotations"],
            pod["spec"]["resourceClaims"],
            pod["spec"]["containers"]
        ])
    };
    same("the pod", &ours(&again), &ours(&first))
}

pub(crate) fn a_pod_without_the_label_is_not_touched(world: &World) -> Result<()> {
    let namespace = world.cluster.namespace("plain")?;
    let mut pod = samples::pod(&namespace, "pod", "llama", 0);
    pod["metadata"]["labels"] = json!({"app": "web"});
    pod["spec"]["hostNetwork"] = json!(true);
    let pod = stored(world, &pod)?;
    same("the pod's claims", &pod["spec"]["resourceClaims"], &Value::Null)?;
    same(
        "the annotation",
        &pod["metadata"]["annotations"]["railhead.dev/attach"],
        &Value::Null,
    )
}

pub(crate) fn the_label_with_host_network_is_refused(world: &World) -> Result<()> {
    let mut pod = samples::pod("default", "host-network", "llama", 0);
    pod["spec"]["hostNetwork"] = json!(true);
    world.cluster.refused(
        &world.cluster.admin(),
        &pod,
        &["hostNetwork", "llama", "remove hostNetwork"],
    )
}

pub(crate) fn a_label_that_can_be_no_networks_name_is_refused(world: &World) -> Result<()> {
    for name in ["Llama_3", ""] {
        let pod = samples::pod("default", "misnamed", name, 0);
        let words = [&*format!("railhead.dev/network={name} "), "kubectl get tnet"];
        world.cluster.refused(&world.cluster.admin(), &pod, &words)?;
    }
    Ok(())
}

pub(crate) fn the_annotation_without_the_label_is_refused(world: &World) -> Result<()> {
    let mut pod = samples::pod("default", "annotated", "llama", 0);
    pod["metadata"]["labels"] = json!({});
    pod["metadata"]["annotations"] = json!({"railhead.dev/attach": "llama"});
    let words = [
        "railhead.dev/attach",
        "join a network with the label railhead.dev/network",
    ];
    world.cluster.refused(&world.cluster.admin(), &pod, &words)
}

pub(crate) fn a_claim_entry_of_our_name_from_elsewhere_is_refused(world: &World) -> Result<()> {
    let mut pod = samples::pod("default", "own-claim", "llama", 0);
    pod["spec"]["resourceClaims"] = json!([{"name": "railhead", "resourceClaimName": "cheaper"}]);
    world.cluster.refused(
        &world.cluster.admin(),
        &pod,
        &["spec.resourceClaims", "llama-rails", "remove the entry"],
    )
}

/// Whoever writes the label, and when: a pod with it has its claim, or is refused. Which of the two it is depends on the order in which
/// the API server runs mutating policies, and that is the one in which a map of Go is read (`calculatePolicyData`,
/// k8s.io/apiserver/pkg/admission/plugin/policy/generic/policy_source.go, 1.36.3).
pub(crate) fn a_label_that_another_policy_writes_late_is_refused(world: &World) -> Result<()> {
    let admin = world.cluster.admin();
    let namespace = world.cluster.namespace("late-label")?;
    let name = format!("zz-{namespace}");
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
            "matchConditions": [{"name": "here", "expression": format!("request.namespace == '{namespace}'")}],
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {
                "expression": "Object{metadata: Object.metadata{labels: {'railhead.dev/network': 'llama'}}}"}}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name},
    });
    world.cluster.create(&admin, &[policy, binding])?;
    let mut pod = samples::pod(&namespace, "pod", "llama", 0);
    pod["metadata"]["labels"] = json!({});
    let words = [
        "railhead.dev/network=llama (the claim, the annotation railhead.dev/attach, the claim of container train)",
        "another admission policy",
        "template of the Job",
        "in no certain order",
    ];
    let refused = eventually("the other policy works", || {
        let output = world.cluster.feed(
            &admin,
            &["create", "--dry-run=server", "--filename", "-", "--output", "json"],
            std::slice::from_ref(&pod),
        )?;
        if !output.success() {
            return contains(&output.stderr, &words);
        }
        // Where the other policy came first, the pod has all that belongs to the label.
        let list: Value = serde_json::from_str(&output.stdout)?;
        let made = list["items"].get(0).unwrap_or(&list);
        let claim = &made["spec"]["resourceClaims"][0];
        ensure!(
            made["metadata"]["labels"]["railhead.dev/network"] == "llama",
            "the other policy does not work yet"
        );
        ensure!(
            claim["resourceClaimTemplateName"] == "llama-rails"
                && made["metadata"]["annotations"]["railhead.dev/attach"] == "llama"
                && made["spec"]["containers"][0]["resources"]["claims"][0]["name"] == "railhead",
            "a pod with the label and without what belongs to it: {made}"
        );
        Ok(())
    });
    let removed = world.cluster.kubectl(
        &admin,
        &[
            "delete",
            "mutatingadmissionpolicy,mutatingadmissionpolicybinding",
            &name,
        ],
    )?;
    refused?;
    removed.ok().map(drop)
}

/// Claims count when they are allocated: a pod that will not be wired must not have one, and no pod more than one.
pub(crate) fn a_pod_claims_rails_once_and_only_with_the_label(world: &World) -> Result<()> {
    let admin = world.cluster.admin();
    let mut unlabelled = samples::pod("default", "unlabelled", "llama", 0);
    unlabelled["metadata"]["labels"] = json!({});
    unlabelled["spec"]["resourceClaims"] = json!([{"name": "fast", "resourceClaimTemplateName": "llama-rails"}]);
    let words = [
        "entry fast",
        "rails of network llama",
        "railhead.dev/network",
        "--keep-labels",
    ];
    world.cluster.refused(&admin, &unlabelled, &words)?;
    let mut greedy = samples::pod("default", "greedy", "llama", 0);
    for template in ["llama-rails", "other-rails"] {
        greedy["spec"]["resourceClaims"] = json!([{"name": "more", "resourceClaimTemplateName": template}]);
        let words = ["entry more", "each rail once", "Remove the entry"];
        world.cluster.refused(&admin, &greedy, &words)?;
    }
    Ok(())
}

/// What people do to look into a pod that hangs.
pub(crate) fn a_copy_of_a_pod_without_its_labels_is_refused_with_the_next_step(world: &World) -> Result<()> {
    let namespace = world.cluster.namespace("copies")?;
    world
        .cluster
        .create(&world.cluster.admin(), &[samples::pod(&namespace, "pod", "llama", 0)])?;
    let copy = |name: &str, flags: &[&str]| {
        let copy_to = format!("--copy-to={name}");
        let command = [
            "debug",
            "pod",
            "--namespace",
            &namespace,
            &copy_to,
            "--image=tools",
            "--set-image=train=tools",
        ];
        world.cluster.kubectl(
            &world.cluster.admin(),
            &[&command[..], flags, &["--", "sleep", "600"]].concat(),
        )
    };
    let words = ["--keep-labels", "ephemeral container"];
    expect_refusal(&copy("copy", &[])?, &words)?;
    copy("twin", &["--keep-labels"])?.ok()?;
    Ok(())
}

pub(crate) fn the_label_of_a_pod_cannot_change(world: &World) -> Result<()> {
    let namespace = world.cluster.namespace("relabel")?;
    let mut plain = samples::pod(&namespace, "plain", "llama", 0);
    plain["metadata"]["labels"] = json!({});
    world.cluster.create(
        &world.cluster.admin(),
        &[samples::pod(&namespace, "pod", "llama", 0), plain],
    )?;
    let try_to = |arguments: &[&str]| {
        let arguments = [arguments, &["--namespace", &namespace]].concat();
        world.cluster.kubectl(&world.cluster.admin(), &arguments)
    };
    let words = ["railhead.dev/network of a pod cannot be changed", "make the pod anew"];
    expect_refusal(
        &try_to(&["label", "pod", "pod", "railhead.dev/network=other", "--overwrite"])?,
        &words,
    )?;
    expect_refusal(&try_to(&["label", "pod", "pod", "railhead.dev/network-"])?, &words)?;
    expect_refusal(
        &try_to(&["label", "pod", "plain", "railhead.dev/network=llama"])?,
        &words,
    )?;
    // The status has a door of its own, through which labels can be changed as well.
    let patch = r#"{"metadata": {"labels": {"railhead.dev/network": "other"}}}"#;
    let by_status = [
        "patch",
        "pod",
        "pod",
        "--subresource",
        "status",
        "--type",
        "merge",
        "--patch",
        patch,
    ];
    expect_refusal(&try_to(&by_status)?, &words)?;
    let annotate = ["annotate", "pod", "pod", "railhead.dev/attach=other", "--overwrite"];
    expect_refusal(&try_to(&annotate)?, &["railhead.dev/attach of a pod cannot be changed"])?;
    try_to(&["label", "pod", "pod", "unrelated=yes"])?.ok()?;
    Ok(())
}

pub(crate) fn the_pods_of_a_job_are_admitted(world: &World) -> Result<()> {
    let namespace = world.cluster.namespace("job")?;
    let job = crate::chart::repository()
        .join("examples/quickstart/job.yaml")
        .display()
        .to_string();
    world
        .cluster
        .ok(&["apply", "--namespace", &namespace, "--filename", &job])?;
    eventually("the Job has its two pods, with claims", || {
        let pods = world.cluster.list(&namespace, "pods")?;
        let indices: Vec<&str> = pods
            .iter()
            .filter(|pod| pod["spec"]["resourceClaims"] == json!([claim_entry("llama")]))
            .filter_map(|pod| pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"].as_str())
            .collect();
        if indices.len() == 2 {
            Ok(())
        } else {
            Err(anyhow::anyhow!("{indices:?}")).context("indices of pods with a claim")
        }
    })
}

pub(crate) fn a_label_cannot_come_with_the_binding_to_a_node(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("bound")?;
    let mut plain = samples::pod(&namespace, "plain", "llama", 0);
    plain["metadata"]["labels"] = json!({});
    plain["spec"]["schedulerName"] = json!("nobody");
    cluster.create(&cluster.admin(), &[plain])?;
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": "plain", "namespace": namespace, "labels": {"railhead.dev/network": "llama"}},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "bound-node"},
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/plain/binding");
    let output = cluster.raw(
        &cluster.admin(),
        &["create", "--raw", &path, "--filename", "-"],
        &binding,
    )?;
    expect_refusal(&output, &["binding of pod plain", "joins a network when it is made"])
}

/// kubelet prepares a claim once: a second pod would get the devices, and nobody would unwire them when the first one ends.
pub(crate) fn the_claim_of_another_pod_is_refused(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    let mut shared = samples::pod("default", "sharer", "llama", 0);
    shared["metadata"]["labels"] = json!({});
    shared["spec"]["resourceClaims"] = json!([{"name": "b", "resourceClaimName": "llama-0-railhead-x7k2p"}]);
    cluster.refused(
        &admin,
        &shared,
        &["llama-0-railhead-x7k2p", "not shared", "Remove the entry b"],
    )?;
    // Others may call their templates and claims as they like, as long as these are no rails.
    let namespace = cluster.namespace("others")?;
    let mut other = samples::pod(&namespace, "other", "llama", 0);
    other["metadata"]["labels"] = json!({});
    other["spec"]["resourceClaims"] = json!([
        {"name": "railhead", "resourceClaimTemplateName": "gpus"},
        {"name": "b", "resourceClaimName": "gpu-7"},
    ]);
    cluster.create(&admin, &[other])
}

pub(crate) fn a_copy_of_a_jobs_pod_is_refused_with_its_labels_too(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("copies")?;
    let job = crate::chart::repository().join("examples/quickstart/job.yaml");
    cluster.ok(&[
        "apply",
        "--namespace",
        &namespace,
        "--filename",
        &job.display().to_string(),
    ])?;
    let pod = eventually("the Job has a pod", || {
        let pods = cluster.list(&namespace, "pods")?;
        let name = pods.first().and_then(|pod| pod["metadata"]["name"].as_str());
        name.map(str::to_owned).context("there is none")
    })?;
    let copy = |keep: &[&str]| {
        let debug = [
            "debug",
            &pod,
            "--namespace",
            &namespace,
            "--copy-to=copy",
            "--image=tools",
        ];
        cluster.kubectl(&cluster.admin(), &[&debug[..], keep].concat())
    };
    let inside = "kubectl debug -it <pod> --image=<image>";
    expect_refusal(&copy(&[])?, &["rails of network llama", "ephemeral container", inside])?;
    expect_refusal(&copy(&["--keep-annotations"])?, &["rails of network llama", inside])?;
    let keep = ["--keep-labels", "--keep-annotations"];
    for keep in [&keep[..1], &keep[..]] {
        expect_refusal(
            &copy(keep)?,
            &[
                "copy of a pod of Job llama",
                "the index belongs to the pod itself",
                inside,
            ],
        )?;
    }
    let pods = cluster.list(&namespace, "pods")?;
    if pods.iter().any(|pod| pod["metadata"]["name"] == "copy") {
        bail!("the copy is there all the same");
    }
    // What the message proposes works.
    let ephemeral = [
        "debug",
        &pod,
        "--namespace",
        &namespace,
        "--image=tools",
        "--attach=false",
    ];
    cluster.kubectl(&cluster.admin(), &ephemeral)?.ok()?;
    Ok(())
}

/// A workload with the label of a network.
fn workload(kind: &str, namespace: &str, name: &str, spec: &Value) -> Value {
    let labels = json!({"railhead.dev/network": "small", "app": name});
    let mut spec = spec.clone();
    spec["template"] = json!({
        "metadata": {"labels": labels},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "train", "image": "train"}]},
    });
    if kind != "Job" {
        spec["selector"] = json!({"matchLabels": {"app": name}});
        spec["template"]["spec"]["restartPolicy"] = json!("Always");
    }
    let group = if kind == "Job" { "batch/v1" } else { "apps/v1" };
    json!({"apiVersion": group, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

pub(crate) fn what_makes_more_pods_than_its_network_has_places_is_refused(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    let namespace = cluster.namespace("counts")?;
    let try_out = |object: &Value| {
        cluster.feed(
            &admin,
            &["create", "--dry-run=server", "--filename", "-"],
            std::slice::from_ref(object),
        )
    };
    let indexed = |completions: u32| json!({"completionMode": "Indexed", "completions": completions, "parallelism": 1});
    // Nobody knows how large a network is that is still to come, and what exists by then is left alone.
    let early = workload("Job", &namespace, "early", &indexed(3));
    cluster.create(&admin, std::slice::from_ref(&early))?;
    let networks = [
        samples::network(&namespace, "small", "none", 2),
        samples::network(&namespace, "other", "none", 9),
    ];
    cluster.create(&admin, &networks)?;
    eventually("the policy has heard of the network", || {
        let output = try_out(&workload("Job", &namespace, "large", &indexed(3)))?;
        let words = [
            "makes 3 pods",
            "railhead.dev/network: small",
            "places for 2",
            "lower spec.completions",
            "pods: 3",
        ];
        expect_refusal(&output, &words)
    })?;
    for (kind, spec, field) in [
        ("Job", json!({"parallelism": 3}), "spec.parallelism"),
        ("Job", json!({"parallelism": 3, "completions": 10}), "spec.parallelism"),
        ("Deployment", json!({"replicas": 3}), "spec.replicas"),
        (
            "StatefulSet",
            json!({"replicas": 3, "serviceName": "x"}),
            "spec.replicas",
        ),
    ] {
        let output = try_out(&workload(kind, &namespace, "large", &spec))?;
        expect_refusal(&output, &["makes 3 pods", field]).with_context(|| format!("{kind} {spec}"))?;
    }
    for (kind, spec) in [
        ("Job", indexed(2)),
        ("Job", json!({"parallelism": 2, "completions": 10})),
        ("Job", json!({"parallelism": 9, "completions": 2})),
        ("Job", json!({})),
        ("Deployment", json!({"replicas": 2})),
        ("Deployment", json!({})),
    ] {
        try_out(&workload(kind, &namespace, "fits", &spec))?
            .ok()
            .with_context(|| format!("{kind} {spec}"))?;
    }
    cluster.ok(&["label", "job", "early", "seen=yes", "--namespace", &namespace])?;
    let patch = |spec: &str| {
        let patch = ["patch", "job", "early", "--namespace", &namespace, "--patch", spec];
        cluster.kubectl(&admin, &patch)
    };
    patch(r#"{"spec": {"suspend": true}}"#)?.ok()?;
    expect_refusal(&patch(r#"{"spec": {"parallelism": 3}}"#)?, &["makes 3 pods"])?;
    cluster.ok(&["delete", "job", "early", "--namespace", &namespace])?;
    Ok(())
}
