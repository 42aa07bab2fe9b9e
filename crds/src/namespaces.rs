//! Which namespaces may use something that the platform team offers.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Selects namespaces by labels; there is at least one.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("size(self.matchLabels) > 0")
        .message("allowedNamespaces names no label, and would allow every namespace: leave allowedNamespaces out where that is meant, else write matchLabels"),
    validation = Rule::new("self.matchLabels.all(label, dyn(self.matchLabels[label]) != null)")
        .message("a label of allowedNamespaces.matchLabels has no value, and would be left out: write one, \"\" where the label has none on the namespaces")
)]
pub struct NamespaceSelector {
    /// Labels that a namespace must carry with these values.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {"type": "string", "nullable": true}))]
    pub match_labels: BTreeMap<String, String>,
}
