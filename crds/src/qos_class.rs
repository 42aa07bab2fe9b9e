//! `QosClass`: what a class of traffic gets, like a PriorityClass for the network.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bandwidth, NamespaceSelector};

/// A QosClass is what a class of training traffic gets on every rail: marking, priority, guaranteed and maximum bandwidth.
/// Editing a class never alters a network that already has its slice.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "railhead.dev",
    version = "v1alpha1",
    kind = "QosClass",
    plural = "qosclasses",
    shortname = "qosc",
    category = "railhead",
    derive = "PartialEq",
    doc = "What a class of training traffic gets on every rail: marking, priority, guaranteed and maximum bandwidth.",
    status = "QosClassStatus",
    printcolumn(name = "DSCP", type_ = "integer", json_path = ".spec.dscp"),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(name = "Guaranteed", type_ = "string", json_path = ".spec.bandwidth.guaranteed"),
    printcolumn(name = "Maximum", type_ = "string", json_path = ".spec.bandwidth.maximum"),
    printcolumn(name = "Default", type_ = "boolean", json_path = ".spec.default"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Default')].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct QosClassSpec {
    /// Whether networks that name no class use this one. At most one class may say true; default false.
    #[serde(default)]
    pub default: bool,
    /// Differentiated services code point of the traffic, 0 to 63. NCCL_IB_TC is this value times four; an RDMA program that
    /// does not use NCCL sets that traffic class itself. RoCE is 26 on most fabrics.
    #[schemars(range(min = 0, max = 63))]
    pub dscp: u8,
    /// 802.1p priority, 0 to 7: the priority code point in the VLAN tag, and the PFC priority.
    #[schemars(range(min = 0, max = 7))]
    pub priority: u8,
    /// Bandwidth per pod and port.
    pub bandwidth: ClassBandwidth,
    /// Settings of the virtual function. With trust on or the spoof check off, a pod of any tenant that may use the class may send
    /// with addresses of others on its own VLAN: say in allowedNamespaces who that is.
    #[serde(default)]
    pub vf: ClassVf,
    /// The namespaces whose networks may use the class. Others are refused (ClassNotAllowed); a network that has its slice keeps it,
    /// whatever is changed here or at its namespace. Default: every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<NamespaceSelector>,
}

/// State of a class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QosClassStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Default: networks that name no class get this one (else NotDefault, or DefaultConflict: several say so, and none counts).
    #[serde(default)]
    #[schemars(schema_with = "crate::meta::conditions")]
    pub conditions: Vec<Condition>,
}

/// Bandwidth per pod and port.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.maximum) || !isQuantity(self.maximum) || !isQuantity(self.guaranteed) || quantity(self.maximum).compareTo(quantity(self.guaranteed)) >= 0")
        .message("bandwidth.maximum is below bandwidth.guaranteed: raise it, or leave it out for line rate"),
    validation = Rule::new("!has(self.largestGuarantee) || !isQuantity(self.largestGuarantee) || !isQuantity(self.guaranteed) || quantity(self.largestGuarantee).compareTo(quantity(self.guaranteed)) >= 0")
        .message("bandwidth.largestGuarantee is below bandwidth.guaranteed: raise it, or leave it out"),
    validation = Rule::new("!has(self.smallestGuarantee) || !isQuantity(self.smallestGuarantee) || !isQuantity(self.guaranteed) || quantity(self.smallestGuarantee).compareTo(quantity(self.guaranteed)) <= 0")
        .message("bandwidth.smallestGuarantee is above bandwidth.guaranteed: lower it, or leave it out")
)]
pub struct ClassBandwidth {
    /// What a pod is sure to get on each of its ports, for example 10G. Admitted by the scheduler and never oversold.
    pub guaranteed: Bandwidth,
    /// Cap of the virtual function, for example 100G. A network that asks for a larger guarantee is refused. Default: line
    /// rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<Bandwidth>,
    /// The largest guarantee that a network may ask for with spec.bandwidthPerRail, for example 100G, so that few pods cannot take
    /// whole ports from all others. It caps no traffic. Default: what maximum says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_guarantee: Option<Bandwidth>,
    /// The smallest guarantee that a network may ask for with spec.bandwidthPerRail, for example 5G, so that nobody gets the class's
    /// priority for less than it is meant for. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest_guarantee: Option<Bandwidth>,
}

/// Settings of the virtual function.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassVf {
    /// Whether the function may change its own MAC and receive filters. Default false.
    #[serde(default)]
    pub trust: bool,
    /// Whether the port drops frames whose source MAC is not the function's. Default true.
    #[serde(default = "yes")]
    pub spoof_check: bool,
}

impl Default for ClassVf {
    fn default() -> Self {
        Self {
            trust: false,
            spoof_check: true,
        }
    }
}

fn yes() -> bool {
    true
}
