//! `TrainingNetwork`: what an ML engineer applies. Six lines are enough.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Bandwidth;

/// A TrainingNetwork gives one training job its own slice of the backend network: contiguous addresses with a stable one
/// per index, a VLAN, and on every rail an SR-IOV function with RDMA and guaranteed bandwidth.
///
/// Pods join it with the label `railhead.dev/network: <name>`.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "railhead.dev",
    version = "v1alpha1",
    kind = "TrainingNetwork",
    plural = "trainingnetworks",
    shortname = "tnet",
    category = "railhead",
    derive = "PartialEq",
    doc = "Gives one training job its own slice of the backend network. Pods join it with the label railhead.dev/network.",
    namespaced,
    status = "TrainingNetworkStatus",
    printcolumn(name = "Pods", type_ = "integer", json_path = ".spec.pods"),
    printcolumn(name = "Attached", type_ = "string", json_path = ".status.summary.attached"),
    printcolumn(name = "Rails", type_ = "integer", json_path = ".status.summary.rails"),
    printcolumn(name = "Class", type_ = "string", json_path = ".status.qosClassName"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Prefix", type_ = "string", json_path = ".status.summary.prefix", priority = 1),
    printcolumn(name = "VLAN", type_ = "string", json_path = ".status.summary.vlan", priority = 1),
    printcolumn(name = "Slice", type_ = "string", json_path = ".status.sliceName", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 57")
        .message("the name of a TrainingNetwork has at most 57 characters: it is part of the names of its claim template and its slice"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of a TrainingNetwork is a label value and part of other names: lower case letters, digits and dashes")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.maxPods) || self.pods >= oldSelf.pods")
        .message("pods can become fewer in a network with maxPods only; delete the network and apply it anew, with maxPods: the largest number that it shall ever have"),
    validation = Rule::new("has(self.maxPods) || self.pods <= oldSelf.pods || [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536].exists(block, oldSelf.pods <= block && block < 2 * oldSelf.pods && self.pods <= block)")
        .message("pods can grow up to the next power of two only, which is the size of the network's block of addresses; delete the network and apply it anew, with maxPods for more room"),
    validation = Rule::new("!has(self.maxPods) || self.pods <= self.maxPods")
        .message("pods is at most maxPods, for which the network has addresses; for more, delete the network and apply it anew"),
    validation = Rule::new("has(self.maxPods) == has(oldSelf.maxPods) && (!has(self.maxPods) || self.maxPods == oldSelf.maxPods)")
        .message("maxPods cannot be changed: the network's block of addresses has its size from the beginning; delete the network and apply it anew"),
    validation = Rule::new("!has(self.roles) || self.roles.map(role, role.pods).sum() == self.pods")
        .message("the pods of roles add up to pods: every index belongs to a role"),
    validation = Rule::new("!has(self.roles) || !has(self.groups) || self.groups == 1")
        .message("a network has roles or groups, not both: give a workload that consists of groups a network of its own"),
    validation = Rule::new("!has(self.groups) || self.pods % self.groups == 0")
        .message("pods is a multiple of groups: groups x pods of a group"),
    validation = Rule::new("has(self.roles) == has(oldSelf.roles) && (!has(self.roles) || (size(self.roles) >= size(oldSelf.roles) && [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].all(i, i >= size(oldSelf.roles) || (self.roles[i].name == oldSelf.roles[i].name && (self.roles[i].pods == oldSelf.roles[i].pods || (i == size(oldSelf.roles) - 1 && (self.roles[i].pods > oldSelf.roles[i].pods || (has(self.maxPods) && size(self.roles) == size(oldSelf.roles)))))))))")
        .message("roles keep their order and their pods, or pods of other roles would get other indices: only the last may grow (and with maxPods shrink, while none comes behind it), and new ones come behind it; else delete the network and apply it anew"),
    validation = Rule::new("!has(oldSelf.groups) || oldSelf.groups == 1 || (has(self.groups) && self.pods * oldSelf.groups == oldSelf.pods * self.groups)")
        .message("groups keep their size, or pods would get other indices: pods and groups change together; else delete the network and apply it anew"),
    validation = Rule::new("(has(oldSelf.groups) && oldSelf.groups > 1) || !has(self.groups) || self.groups == 1 || self.pods >= oldSelf.pods * self.groups")
        .message("groups are as large as the network was without them, or pods would get other indices: raise pods too, or delete the network and apply it anew"),
    validation = Rule::new("has(self.fabricName) == has(oldSelf.fabricName) && (!has(self.fabricName) || self.fabricName == oldSelf.fabricName)")
        .message("fabricName cannot be changed; delete the network and apply it anew"),
    validation = Rule::new("has(self.qosClassName) == has(oldSelf.qosClassName) && (!has(self.qosClassName) || self.qosClassName == oldSelf.qosClassName)")
        .message("qosClassName cannot be changed; delete the network and apply it anew"),
    validation = Rule::new("has(self.rails) == has(oldSelf.rails) && (!has(self.rails) || self.rails == oldSelf.rails)")
        .message("rails cannot be changed: all pods of a network have the same; delete the network and apply it anew"),
    validation = Rule::new("has(self.bandwidthPerRail) == has(oldSelf.bandwidthPerRail) && (!has(self.bandwidthPerRail) || self.bandwidthPerRail == oldSelf.bandwidthPerRail)")
        .message("bandwidthPerRail cannot be changed in this version; delete the network and apply it anew")
)]
pub struct TrainingNetworkSpec {
    /// How many pods the network has. Their indices are 0 to pods-1. It may grow, and with maxPods shrink, while pods run, which notice
    /// nothing of it: up to maxPods, or without that up to the next power of two, which is the size of the block of addresses that the
    /// network has. When it shrinks, pods with higher indices keep them as long as they live, and no new ones get them.
    #[schemars(range(min = 1, max = 65536))]
    pub pods: u32,
    /// How many pods the network may have one day. Addresses for so many are reserved from the beginning, and `pods` may be anything from 1
    /// to it at any time. Ports and bandwidth are held by pods that exist only. Default: none; `pods` may grow a little. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    pub max_pods: Option<u32>,
    /// The parts of the workload, where more than one has the label, each with the number of its pods; together they are `pods`. Each
    /// counts its pods from 0, and the order here says how they lie behind one another: of
    /// `[{name: launcher, pods: 1}, {name: trainer, pods: 8}]` the launcher has index 0 and the trainers have 1 to 8. A name is that of a
    /// JobSet's replicated job (`node` in a TrainJob), of a PyTorchJob's or MPIJob's replica type (`master`, `worker`, `launcher`), of a
    /// RayCluster's group (the head's is `headgroup`), or of a whole Job or StatefulSet. The Jobs of a replicated job share its pods
    /// evenly. Default: none; one part counts through the network. The last role may grow and others may follow it; with maxPods it may shrink; else immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub roles: Vec<NetworkRole>,
    /// Of how many equal groups the workload consists, each of which counts its pods from 0: the replicas of a LeaderWorkerSet, the Jobs
    /// of a JobSet's only replicated job, the replicas of a RayCluster's group with several hosts. Pod w of group g has index
    /// g x pods / groups + w. Default 1. `pods` and `groups` may change together, so that groups keep their size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    pub groups: Option<u32>,
    /// The Fabric. Default: the one that says `default: true`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 57))]
    pub fabric_name: Option<String>,
    /// The QosClass. Default: the one that says `default: true`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub qos_class_name: Option<String>,
    /// Which rails the pods get, the same for all of them. Default: all rails of the fabric. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rails: Option<NetworkRails>,
    /// Guaranteed bandwidth per pod and rail in decimal bits per second, for example 200G. Between the class's smallestGuarantee and
    /// largestGuarantee, and at most its maximum.
    /// Default: the class's guarantee. Immutable in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_per_rail: Option<Bandwidth>,
    /// NCCL settings derived from the attachment. Changes reach pods that start later.
    #[serde(default)]
    pub nccl: Nccl,
}

impl TrainingNetworkSpec {
    /// For how many pods the network has addresses at least.
    pub fn room(&self) -> u32 {
        self.max_pods.unwrap_or(self.pods).max(self.pods)
    }
}

/// A part of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkRole {
    /// Name, as the workload has it.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub name: String,
    /// How many pods it has.
    #[schemars(range(min = 1, max = 65536))]
    pub pods: u32,
}

/// Which rails the pods of a network get.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.count) != has(self.names)").message("rails are chosen by exactly one of count and names"))]
pub struct NetworkRails {
    /// The first `count` rails of the fabric, by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub count: Option<u32>,
    /// Rails by name, for example [rail0, rail4].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(max = 15)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Option<Vec<String>>,
}

/// NCCL settings.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.settings) || self.settings.all(name, name.matches('^[A-Z][A-Z0-9_]{0,63}$'))")
        .message("a name in nccl.settings is none of NCCL's: capital letters, digits and underscores, for example NCCL_ALGO"),
    validation = Rule::new("!has(self.settings) || self.settings.all(name, self.settings[name].matches('^[ -~]{0,256}$'))")
        .message("a value in nccl.settings is one line of at most 256 printable ASCII characters")
)]
pub struct Nccl {
    /// File mounts the settings at /etc/nccl.conf, which every NCCL reads, over a file of the image. FileAndEnv leaves the image's and
    /// names ours in NCCL_CONF_FILE: NCCL from 2.23 on reads both, ours first, and no
    /// ~/.nccl.conf. If a container of the pod sets the variable in its env, no container of the pod gets ours; one from envFrom or the
    /// image is replaced. Set it when all agents are of a release that knows it.
    /// In either case other variables in a program's environment win. None leaves NCCL alone. Default File.
    #[serde(default)]
    pub inject: NcclInject,
    /// Settings of your own, added to the file; they win over the derived ones. Names as NCCL_ALGO, values of one line.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 256}))]
    pub settings: BTreeMap<String, String>,
}

/// How NCCL settings reach the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NcclInject {
    /// As /etc/nccl.conf.
    #[default]
    File,
    /// As the file that NCCL_CONF_FILE names.
    FileAndEnv,
    /// Not at all.
    None,
}

/// What a network got and how far its pods are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrainingNetworkStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The network's NetworkSlice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice_name: Option<String>,
    /// The Fabric that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fabric_name: Option<String>,
    /// The QosClass that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos_class_name: Option<String>,
    /// In short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<NetworkSummary>,
    /// Ready: pods can use the network, whether or not there are any. Reserved: it has its addresses and VLAN. Attached: all of its
    /// pods are wired (else WaitingForPods, PodsEnded, IndexOutOfRange, IndexInvalid, RolesNeeded, GroupsNeeded). Degraded: a pod has less than was declared.
    #[serde(default)]
    #[schemars(schema_with = "crate::meta::conditions")]
    pub conditions: Vec<Condition>,
}

/// A network in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSummary {
    /// Pods that are wired, of those declared: 30/32.
    pub attached: String,
    /// Number of rails.
    pub rails: i32,
    /// Prefix on the first rail.
    pub prefix: String,
    /// VLAN, the same on all rails.
    pub vlan: String,
    /// How far an index keeps its address when its pod moves: Network = to any node.
    pub stability: Stability,
}

/// How far an index keeps its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Stability {
    /// On every node of the fabric.
    #[default]
    Network,
}
