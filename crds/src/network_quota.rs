//! `NetworkQuota`: how much of a fabric the networks of a namespace may take.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Bandwidth;

/// A NetworkQuota limits what the networks of its namespace take of a Fabric, as a ResourceQuota does with other things. The platform
/// team writes it, the tenants read it; where a namespace has several, all of them hold. What is above a limit is not reserved
/// (QuotaExceeded) and gets its turn, the oldest first, when there is room. A network that has its slice is never altered by a quota.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "railhead.dev",
    version = "v1alpha1",
    kind = "NetworkQuota",
    plural = "networkquotas",
    shortname = "nquota",
    category = "railhead",
    derive = "PartialEq",
    doc = "Limits what the networks of a namespace take of a Fabric. Written by the platform team, read by the tenants.",
    namespaced,
    status = "NetworkQuotaStatus",
    printcolumn(name = "Fabric", type_ = "string", json_path = ".status.summary.fabric"),
    printcolumn(name = "Networks", type_ = "string", json_path = ".status.summary.networks"),
    printcolumn(name = "Pods", type_ = "string", json_path = ".status.summary.pods"),
    printcolumn(name = "Bandwidth", type_ = "string", json_path = ".status.summary.bandwidth"),
    printcolumn(name = "VLANs", type_ = "string", json_path = ".status.summary.vlans"),
    printcolumn(
        name = "Exceeded",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Exceeded')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NetworkQuotaSpec {
    /// The Fabric of which the networks of the namespace may take so much. Default: of every Fabric, of each so much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 57))]
    pub fabric_name: Option<String>,
    /// The limits, of which there is at least one. What is left out is not limited.
    pub hard: QuotaLimits,
}

/// The limits of a quota.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.networks) || has(self.pods) || has(self.bandwidth) || has(self.vlans)")
        .message("hard names no limit, and would limit nothing: write networks, pods, bandwidth or vlans")
)]
pub struct QuotaLimits {
    /// Networks that are reserved. 0 keeps the namespace off the fabric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4094))]
    pub networks: Option<u32>,
    /// Pods of all of them together, as their specs have them, whether or not they run. A network that has become smaller counts with as many
    /// as it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 268_435_456))]
    pub pods: Option<u32>,
    /// What all of them together are guaranteed, for example 20T: of each network guarantee x pods x rails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// VLANs that they hold. A network has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4094))]
    pub vlans: Option<u32>,
}

/// What of a quota is used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkQuotaStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// In short: the fabric of which the largest share of a limit is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<QuotaSummary>,
    /// What is used, by fabric.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<QuotaUse>,
    /// Exceeded: more is used than the limits allow, since they were written or lowered later (UsedAboveHard). What has its slice goes on, and
    /// nothing new is reserved.
    #[serde(default)]
    #[schemars(schema_with = "crate::meta::conditions")]
    pub conditions: Vec<Condition>,
}

/// What is used of one fabric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuotaUse {
    /// Name of the Fabric.
    pub fabric_name: String,
    /// Networks that are reserved.
    pub networks: u32,
    /// Pods of all of them together.
    pub pods: u32,
    /// What all of them together are guaranteed.
    pub bandwidth: String,
    /// VLANs that they hold.
    pub vlans: u32,
}

/// A quota in short: what is used, of what is allowed, as in 3/4; what is not limited stands alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuotaSummary {
    /// Name of the Fabric.
    pub fabric: String,
    /// Networks that are reserved.
    pub networks: String,
    /// Pods of all of them together.
    pub pods: String,
    /// What all of them together are guaranteed.
    pub bandwidth: String,
    /// VLANs that they hold.
    pub vlans: String,
}
