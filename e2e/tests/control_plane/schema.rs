//! What the API server refuses by the CRDs' own rules, with which words, and what `kubectl explain` knows.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::World;
use crate::cluster::{contains, expect_refusal};
use crate::samples;
use crate::simulated_node::SimulatedNode;

pub(crate) fn overlapping_pools_of_a_rail_are_refused(world: &World) -> Result<()> {
    let mut fabric = samples::fabric("overlapping");
    for rail in 0..2 {
        fabric["spec"]["rails"][rail]["pools"] = json!([{"cidr": "10.0.0.0/16"}, {"cidr": "10.0.128.0/24"}]);
    }
    world
        .cluster
        .refused(&world.cluster.admin(), &fabric, &["spec.rails[0]", "overlap"])
}

pub(crate) fn a_pool_that_is_no_network_address_is_refused(world: &World) -> Result<()> {
    let mut fabric = samples::fabric("unmasked");
    fabric["spec"]["rails"][1]["pools"][0]["cidr"] = json!("10.161.0.7/16");
    world.cluster.refused(
        &world.cluster.admin(),
        &fabric,
        &["spec.rails[1].pools[0]", "write the network address"],
    )
}

pub(crate) fn one_port_on_two_rails_is_refused(world: &World) -> Result<()> {
    let admin = world.cluster.admin();
    let words = ["spec.rails", "two rails name the same port"];
    for port in [json!({"netdev": "eth1"}), json!({"pciAddress": "0000:18:00.0"})] {
        let mut fabric = samples::fabric("one-port");
        for rail in 0..2 {
            fabric["spec"]["rails"][rail]["ports"] = json!([{"netdev": format!("other{rail}")}, port]);
        }
        world.cluster.refused(&admin, &fabric, &words)?;
        // On the same nodes as well; but what is rail 0 on one kind of node may be rail 1 on another.
        for (rail, kind) in [(0, "a"), (1, "a")] {
            fabric["spec"]["rails"][rail]["ports"][1]["nodeSelector"] = json!({"matchLabels": {"kind": kind}});
        }
        world.cluster.refused(&admin, &fabric, &words)?;
        fabric["spec"]["rails"][1]["ports"][1]["nodeSelector"]["matchLabels"]["kind"] = json!("b");
        world
            .cluster
            .feed(&admin, &["create", "--dry-run=server", "--filename", "-"], &[fabric])?
            .ok()?;
    }
    Ok(())
}

/// Domains above ffff exist (Intel VMD, large machines), and a BIOS prints capital letters.
pub(crate) fn a_pci_address_is_accepted_as_lspci_prints_it_or_refused_with_a_sentence(world: &World) -> Result<()> {
    let admin = world.cluster.admin();
    let with = |address: &str| {
        let mut fabric = samples::fabric("pci");
        fabric["spec"]["rails"][0]["ports"] = json!([{"pciAddress": address}]);
        fabric
    };
    for address in ["0000:3b:00.0", "10002:01:00.0", "5d050000:01:00.0"] {
        world
            .cluster
            .feed(
                &admin,
                &["create", "--dry-run=server", "--filename", "-"],
                &[with(address)],
            )?
            .ok()?;
    }
    for address in ["0000:3B:00.0", "3b:00.0", "0000:3b:00.8", "0000:3b:00.0 "] {
        world.cluster.refused(
            &admin,
            &with(address),
            &["spec.rails[0].ports[0]", "`lspci -D`", "lower case"],
        )?;
    }
    Ok(())
}

/// They become lines of a file that NCCL reads.
pub(crate) fn nccl_settings_are_names_and_values_of_one_line(world: &World) -> Result<()> {
    let admin = world.cluster.admin();
    let with = |settings: Value| {
        let mut network = samples::network("default", "nccl", "backend", 2);
        network["spec"]["nccl"] = json!({"settings": settings});
        network
    };
    let good = with(json!({"NCCL_DEBUG": "INFO", "NCCL_IB_TC": "106", "NCCL_ALGO": "Ring,Tree=1"}));
    world
        .cluster
        .feed(&admin, &["create", "--dry-run=server", "--filename", "-"], &[good])?
        .ok()?;
    let inject = |how: &str| {
        let mut network = samples::network("default", "nccl", "backend", 2);
        network["spec"]["nccl"] = json!({"inject": how});
        network
    };
    for how in ["File", "FileAndEnv", "None"] {
        let arguments = ["create", "--dry-run=server", "--filename", "-"];
        world.cluster.feed(&admin, &arguments, &[inject(how)])?.ok()?;
    }
    world
        .cluster
        .refused(&admin, &inject("Env"), &["spec.nccl.inject", "FileAndEnv"])?;
    for name in ["NCCL_DEBUG=INFO", "FOO BAR", "", "#NCCL_ALGO", "nccl_debug"] {
        world
            .cluster
            .refused(&admin, &with(json!({name: "x"})), &["spec.nccl", "capital letters"])?;
    }
    for value in ["a\nNCCL_ALGO=Ring", "\u{7}", "\u{e9}"] {
        world.cluster.refused(
            &admin,
            &with(json!({"NCCL_ALGO": value})),
            &["spec.nccl", "is one line"],
        )?;
    }
    let long = with(json!({"NCCL_ALGO": "x".repeat(1 << 20)}));
    world
        .cluster
        .refused(&admin, &long, &["spec.nccl.settings.NCCL_ALGO", "256"])
}

/// The rule compares all ports with all others; the API server must not run out of patience with the largest fabric.
pub(crate) fn the_largest_fabric_is_accepted(world: &World) -> Result<()> {
    let mut fabric = samples::fabric("largest");
    let rails: Vec<Value> = (0..16)
        .map(|rail| {
            let ports: Vec<Value> = (0..16)
                .map(|port| json!({"netdev": format!("eth{rail}n{port}")}))
                .collect();
            let pools: Vec<Value> = (0..4)
                .map(|pool| json!({"cidr": format!("10.{rail}.{}.0/24", pool * 16)}))
                .collect();
            json!({"id": rail, "name": format!("rail{rail}"), "ports": ports, "pools": pools})
        })
        .collect();
    fabric["spec"]["rails"] = Value::Array(rails);
    let try_out = ["create", "--dry-run=server", "--filename", "-"];
    world.cluster.feed(&world.cluster.admin(), &try_out, &[fabric])?.ok()?;
    Ok(())
}

/// Agents make paths of them.
pub(crate) fn an_attachment_names_uids(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let node = SimulatedNode::add(cluster, "uids-node", "any")?;
    let attachment = samples::attachment("default", "uids-00000000", 0, &node.name);
    let try_out = ["create", "--dry-run=server", "--filename", "-"];
    cluster
        .feed(&node.agent, &try_out, std::slice::from_ref(&attachment))?
        .ok()?;
    for field in ["podUID", "claimUID"] {
        for text in ["../../etc", "", "a.b"] {
            let mut wrong = attachment.clone();
            wrong["spec"][field] = json!(text);
            cluster.refused(&node.agent, &wrong, &[&format!("spec.{field}"), "should match"])?;
        }
    }
    Ok(())
}

pub(crate) fn vlan_0_is_refused(world: &World) -> Result<()> {
    let mut fabric = samples::fabric("vlan-0");
    fabric["spec"]["vlan"]["range"] = json!({"min": 0, "max": 100});
    world.cluster.refused(
        &world.cluster.admin(),
        &fabric,
        &["spec.vlan.range.min", "greater than or equal to 1"],
    )
}

pub(crate) fn vlan_5000_is_refused(world: &World) -> Result<()> {
    let mut fabric = samples::fabric("vlan-5000");
    fabric["spec"]["vlan"]["range"] = json!({"min": 100, "max": 5000});
    world.cluster.refused(
        &world.cluster.admin(),
        &fabric,
        &["spec.vlan.range.max", "less than or equal to 4094"],
    )
}

pub(crate) fn a_reversed_vlan_range_is_refused(world: &World) -> Result<()> {
    let mut fabric = samples::fabric("vlan-reversed");
    fabric["spec"]["vlan"]["range"] = json!({"min": 200, "max": 100});
    world.cluster.refused(
        &world.cluster.admin(),
        &fabric,
        &["spec.vlan.range", "min is larger than max"],
    )
}

pub(crate) fn binary_bandwidth_is_refused(world: &World) -> Result<()> {
    let mut network = samples::network("default", "binary", "any", 2);
    network["spec"]["bandwidthPerRail"] = json!("100Gi");
    let words = [
        "spec.bandwidthPerRail",
        "decimal bits per second such as 200M, 10G or 1T",
    ];
    world.cluster.refused(&world.cluster.admin(), &network, &words)
}

pub(crate) fn a_largest_guarantee_below_the_guarantee_is_refused(world: &World) -> Result<()> {
    let class = json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "QosClass", "metadata": {"name": "upside-down"},
        "spec": {"dscp": 26, "priority": 3, "bandwidth": {"guaranteed": "10G", "largestGuarantee": "1000M"}},
    });
    let words = ["bandwidth.largestGuarantee is below bandwidth.guaranteed"];
    world.cluster.refused(&world.cluster.admin(), &class, &words)
}

pub(crate) fn a_smallest_guarantee_above_the_guarantee_is_refused(world: &World) -> Result<()> {
    let class = |smallest: &str| {
        json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "QosClass", "metadata": {"name": "narrow"},
            "spec": {"dscp": 26, "priority": 3, "bandwidth": {"guaranteed": "10G", "smallestGuarantee": smallest}},
        })
    };
    let admin = world.cluster.admin();
    let words = ["bandwidth.smallestGuarantee is above bandwidth.guaranteed"];
    world.cluster.refused(&admin, &class("10001M"), &words)?;
    for smallest in ["10000M", "1G"] {
        let try_out = ["create", "--dry-run=server", "--filename", "-"];
        world.cluster.feed(&admin, &try_out, &[class(smallest)])?.ok()?;
    }
    Ok(())
}

pub(crate) fn a_maximum_below_the_guarantee_is_refused(world: &World) -> Result<()> {
    let class = json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "QosClass", "metadata": {"name": "upside-down"},
        "spec": {"dscp": 26, "priority": 3, "bandwidth": {"guaranteed": "10G", "maximum": "1000M"}},
    });
    let words = ["spec.bandwidth", "bandwidth.maximum is below bandwidth.guaranteed"];
    world.cluster.refused(&world.cluster.admin(), &class, &words)
}

pub(crate) fn a_network_of_0_pods_is_refused(world: &World) -> Result<()> {
    let network = samples::network("default", "empty", "any", 0);
    world.cluster.refused(
        &world.cluster.admin(),
        &network,
        &["spec.pods", "greater than or equal to 1"],
    )
}

pub(crate) fn a_name_that_is_too_long_is_refused(world: &World) -> Result<()> {
    let name = "n".repeat(58);
    let network = samples::network("default", &name, "any", 1);
    world
        .cluster
        .refused(&world.cluster.admin(), &network, &[&name, "at most 57 characters"])?;
    world.cluster.refused(
        &world.cluster.admin(),
        &samples::fabric(&name),
        &[&name, "at most 57 characters"],
    )
}

pub(crate) fn a_network_grows_up_to_the_next_power_of_two_and_never_shrinks(world: &World) -> Result<()> {
    let namespace = world.cluster.namespace("resize")?;
    let patch = |before: u32, after: u32| {
        let name = format!("from-{before}");
        let network = samples::network(&namespace, &name, "nowhere", before);
        world
            .cluster
            .feed(&world.cluster.admin(), &["apply", "--filename", "-"], &[network])?
            .ok()?;
        let patch = json!({"spec": {"pods": after}});
        let object = (&*namespace, "tnet", &*name);
        let admin = world.cluster.admin();
        world.cluster.patch(&admin, object, &patch, &["--dry-run=server"])
    };
    for (before, after) in [(5, 5), (5, 8), (3, 4), (33_000, 65_536)] {
        patch(before, after)?.ok()?;
    }
    for (before, after) in [(5, 9), (4, 5), (1, 2)] {
        let words = [
            "pods can grow up to the next power of two only",
            "delete the network and apply it anew",
        ];
        expect_refusal(&patch(before, after)?, &words)?;
    }
    let words = [
        "pods can become fewer in a network with maxPods only",
        "with maxPods: the largest number",
    ];
    expect_refusal(&patch(5, 4)?, &words)
}

pub(crate) fn a_network_with_max_pods_grows_and_shrinks_within_it(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("elastic-schema")?;
    let admin = cluster.admin();
    let mut network = samples::network(&namespace, "elastic", "nowhere", 5);
    network["spec"]["maxPods"] = json!(4);
    let apply = |network: &Value| cluster.feed(&admin, &["apply", "--filename", "-"], std::slice::from_ref(network));
    expect_refusal(&apply(&network)?, &["pods is at most maxPods"])?;
    network["spec"]["maxPods"] = json!(100);
    network["spec"]["roles"] = json!([{"name": "head", "pods": 1}, {"name": "workers", "pods": 4}]);
    apply(&network)?.ok()?;
    let object = (&*namespace, "tnet", "elastic");
    let patch = |spec: Value| cluster.patch(&admin, object, &json!({"spec": spec}), &["--dry-run=server"]);
    let with = |head: u64, workers: u64| json!({"pods": head + workers, "roles": [{"name": "head", "pods": head}, {"name": "workers", "pods": workers}]});
    for (head, workers) in [(1, 99), (1, 1), (1, 4)] {
        patch(with(head, workers))?.ok()?;
    }
    expect_refusal(
        &patch(with(1, 100))?,
        &["pods is at most maxPods", "delete the network and apply it anew"],
    )?;
    // The workers would get other indices.
    expect_refusal(&patch(with(2, 4))?, &["only the last may grow"])?;
    let mut followed = with(1, 2);
    followed["pods"] = json!(5);
    followed["roles"]
        .as_array_mut()
        .context("no roles")?
        .push(json!({"name": "eval", "pods": 2}));
    expect_refusal(&patch(followed)?, &["while none comes behind it"])?;
    expect_refusal(&patch(json!({"maxPods": 200}))?, &["maxPods cannot be changed"])?;
    expect_refusal(&patch(json!({"maxPods": null}))?, &["maxPods cannot be changed"])?;
    expect_refusal(
        &patch(json!({"maxPods": 0}))?,
        &["spec.maxPods", "greater than or equal to 1"],
    )
}

pub(crate) fn roles_and_groups_that_do_not_fit_are_refused(world: &World) -> Result<()> {
    let admin = world.cluster.admin();
    let with = |field: &str, value: Value| {
        let mut network = samples::network("default", "llama", "any", 8);
        network["spec"][field] = value;
        network
    };
    let role = |name: &str, pods: u64| json!({"name": name, "pods": pods});
    let many: Vec<Value> = (0..17).map(|number| role(&format!("r{number}"), 1)).collect();
    for (roles, words) in [
        (json!([role("a", 4), role("b", 5)]), "the pods of roles add up to pods"),
        (json!([role("a", 4), role("a", 4)]), "Duplicate value"),
        (json!([role("a", 8), role("b", 0)]), "greater than or equal to 1"),
        (json!([role("a", 4_294_967_295)]), "less than or equal to 65536"),
        (json!([role("", 8)]), "at least 1 chars"),
        (json!([role("-a", 8)]), "should match"),
        (json!([role(&"a".repeat(64), 8)]), "may not be more than 63"),
        (json!([]), "at least 1 items"),
        (json!(many), "must have at most 16 items"),
    ] {
        world.cluster.refused(&admin, &with("roles", roles), &["spec", words])?;
    }
    for (groups, words) in [
        (json!(3), "pods is a multiple of groups"),
        (json!(0), "greater than or equal to 1"),
        (json!(65_537), "less than or equal to 65536"),
    ] {
        world.cluster.refused(&admin, &with("groups", groups), &[words])?;
    }
    let mut both = with("groups", json!(2));
    both["spec"]["roles"] = json!([role("a", 8)]);
    world
        .cluster
        .refused(&admin, &both, &["a network has roles or groups, not both"])
}

pub(crate) fn roles_and_groups_that_would_move_indices_are_refused(world: &World) -> Result<()> {
    let namespace = world.cluster.namespace("regroup")?;
    let number = std::cell::Cell::new(0);
    let change = |before: Value, after: Value| {
        let name = format!("n{}", number.replace(number.get() + 1));
        let mut network = samples::network(&namespace, &name, "nowhere", 0);
        for (field, value) in before.as_object().into_iter().flatten() {
            network["spec"][field] = value.clone();
        }
        world.cluster.create(&world.cluster.admin(), &[network])?;
        let patch = json!({"spec": after});
        let object = (&*namespace, "tnet", &*name);
        let admin = world.cluster.admin();
        world.cluster.patch(&admin, object, &patch, &["--dry-run=server"])
    };
    let role = |name: &str, pods: u64| json!({"name": name, "pods": pods});
    let two = json!({"pods": 5, "roles": [role("a", 2), role("b", 3)]});
    let longer = json!({"pods": 8, "roles": [role("a", 2), role("b", 4), role("c", 2)]});
    change(two.clone(), longer)?.ok()?;
    let words = [
        "roles keep their order and their pods",
        "delete the network and apply it anew",
    ];
    for after in [
        json!({"roles": [role("b", 3), role("a", 2)]}),
        json!({"pods": 6, "roles": [role("a", 3), role("b", 3)]}),
        json!({"roles": [role("a", 2), role("c", 3)]}),
        json!({"roles": [role("a", 5)]}),
        json!({"roles": null}),
    ] {
        expect_refusal(&change(two.clone(), after)?, &words)?;
    }
    expect_refusal(&change(json!({"pods": 5}), json!({"roles": [role("a", 5)]}))?, &words)?;
    let groups = |pods: u64, groups: u64| json!({"pods": pods, "groups": groups});
    change(groups(6, 3), groups(8, 4))?.ok()?;
    change(json!({"pods": 3}), groups(4, 1))?.ok()?;
    change(json!({"pods": 1}), groups(1, 1))?.ok()?;
    let size = "groups keep their size";
    for (before, after) in [
        (groups(6, 3), groups(8, 2)),
        (groups(6, 2), groups(6, 3)),
        (groups(6, 2), json!({"groups": null})),
    ] {
        expect_refusal(&change(before, after)?, &[size])?;
    }
    let words = "groups are as large as the network was without them";
    expect_refusal(&change(json!({"pods": 6}), groups(8, 2))?, &[words])
}

pub(crate) fn every_field_has_text_for_kubectl_explain(world: &World) -> Result<()> {
    let document: Value =
        serde_json::from_str(
            &world
                .cluster
                .ok(&["get", "--raw", "/openapi/v3/apis/railhead.dev/v1alpha1"])?,
        )?;
    let Some(schemas) = document["components"]["schemas"].as_object() else {
        bail!("the API server publishes no schemas")
    };
    let mut silent = Vec::new();
    let mut kinds = 0;
    for (name, schema) in schemas
        .iter()
        .filter(|(name, _)| name.starts_with("dev.railhead.v1alpha1.") && !name.ends_with("List"))
    {
        kinds += 1;
        without_text(name.trim_start_matches("dev.railhead.v1alpha1."), schema, &mut silent);
    }
    if kinds != 8 {
        bail!("the API server knows {kinds} kinds of railhead.dev instead of 8");
    }
    if !silent.is_empty() {
        bail!("these fields say nothing in kubectl explain: {}", silent.join(", "));
    }
    let text = world
        .cluster
        .ok(&["explain", "trainingnetwork.spec.bandwidthPerRail"])?;
    contains(&text, &["Guaranteed bandwidth per pod and rail"])
}

fn without_text(path: &str, schema: &Value, silent: &mut Vec<String>) {
    // apiVersion, kind and metadata are Kubernetes' own.
    let own = |name: &str| !["apiVersion", "kind", "metadata"].contains(&name);
    for (name, field) in schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| own(name))
    {
        let path = format!("{path}.{name}");
        if field["description"].as_str().unwrap_or_default().is_empty() {
            silent.push(path.clone());
        }
        without_text(&path, field, silent);
        without_text(&path, &field["items"], silent);
    }
}

pub(crate) fn the_quickstart_is_accepted_as_it_stands(world: &World) -> Result<()> {
    let quickstart = crate::chart::repository().join("examples/quickstart");
    let folder = quickstart.display().to_string();
    world
        .cluster
        .ok(&["apply", "--dry-run=server", "--validate=strict", "--filename", &folder])?;
    Ok(())
}

/// The API server leaves out what is null where null is no value, and fewer labels select more nodes.
pub(crate) fn a_node_selector_that_would_select_every_node_is_refused(world: &World) -> Result<()> {
    let admin = world.cluster.admin();
    let none = "nodeSelector names no label, and would select every node";
    let null = "a label of nodeSelector.matchLabels has no value";
    for (selector, words) in [
        (json!({}), none),
        (json!({"matchLabels": {}}), none),
        (json!({"matchLabels": null}), none),
        (json!({"matchLabels": {"gpu": null}}), null),
        (json!({"matchLabels": {"gpu": "h100", "zone": null}}), null),
    ] {
        let mut fabric = samples::fabric("selects-all");
        fabric["spec"]["nodeSelector"] = selector.clone();
        world.cluster.refused(&admin, &fabric, &["spec.nodeSelector", words])?;
        let mut fabric = samples::fabric("selects-all");
        fabric["spec"]["rails"][0]["ports"] = json!([{"netdev": "eth1", "nodeSelector": selector}]);
        world
            .cluster
            .refused(&admin, &fabric, &["ports[0].nodeSelector", words])?;
    }
    let accepted = |selector: Option<Value>| {
        let mut fabric = samples::fabric("selects-some");
        match selector {
            Some(selector) => fabric["spec"]["nodeSelector"] = selector,
            None => drop(fabric["spec"].as_object_mut().map(|spec| spec.remove("nodeSelector"))),
        }
        let arguments = ["create", "--dry-run=server", "--filename", "-"];
        world.cluster.feed(&admin, &arguments, &[fabric])?.ok()
    };
    accepted(None)?;
    accepted(Some(json!({"matchLabels": {"node-role.kubernetes.io/gpu": ""}})))?;
    Ok(())
}

/// As with the selectors of nodes: fewer labels allow more namespaces.
pub(crate) fn an_allow_list_that_would_allow_every_namespace_is_refused(world: &World) -> Result<()> {
    let admin = world.cluster.admin();
    let none = "allowedNamespaces names no label, and would allow every namespace";
    let null = "a label of allowedNamespaces.matchLabels has no value";
    for (list, words) in [
        (json!({}), none),
        (json!({"matchLabels": {}}), none),
        (json!({"matchLabels": null}), none),
        (json!({"matchLabels": {"tier": null}}), null),
    ] {
        let mut fabric = samples::fabric("allows-all");
        fabric["spec"]["allowedNamespaces"] = list.clone();
        world
            .cluster
            .refused(&admin, &fabric, &["spec.allowedNamespaces", words])?;
        let class = json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "QosClass", "metadata": {"name": "allows-all"},
            "spec": {"dscp": 26, "priority": 3, "bandwidth": {"guaranteed": "10G"}, "allowedNamespaces": list},
        });
        world
            .cluster
            .refused(&admin, &class, &["spec.allowedNamespaces", words])?;
    }
    Ok(())
}
