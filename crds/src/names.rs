//! Names that more than one part writes or looks for: labels, annotations, finalizers, DRA names, reasons.

/// Pod label with which an ML engineer attaches a pod: the value is the name of a TrainingNetwork of the same namespace.
pub const NETWORK_LABEL: &str = "railhead.dev/network";
/// Pod annotation that the admission policy sets beside the claim; a sandbox with it and without a plan fails ADD.
pub const ATTACH_ANNOTATION: &str = "railhead.dev/attach";
/// Pod annotation that is patched to make Kubernetes look again at a pod whose claim template appeared after it.
pub const REQUEUE_ANNOTATION: &str = "railhead.dev/template-created";
/// Pod annotation that is patched to make kubelet look again at a pod that waits for an index which is free by now. Its value
/// is the UID of the attachment that went.
pub const INDEX_FREE_ANNOTATION: &str = "railhead.dev/index-free";
/// Label of a NetworkAttachment: its slice.
pub const SLICE_LABEL: &str = "railhead.dev/slice";
/// Label of a NetworkAttachment: its node.
pub const NODE_LABEL: &str = "railhead.dev/node";

/// Finalizer of a TrainingNetwork: held until its slice and its ledger entry are gone.
pub const NETWORK_FINALIZER: &str = "railhead.dev/slice";
/// Finalizer of a NetworkSlice: held until no attachment of it is left.
pub const SLICE_FINALIZER: &str = "railhead.dev/attachments";
/// Finalizer of a NetworkAttachment: held until its node has unwired the pod, or is known to run it no more.
pub const ATTACHMENT_FINALIZER: &str = "railhead.dev/unwired";
/// Finalizer of a Fabric: held until no network uses it.
pub const FABRIC_FINALIZER: &str = "railhead.dev/networks";

/// Condition of a NetworkSlice: somebody else has its addresses or its VLAN as well, and no more pods are attached.
pub const QUARANTINED: &str = "Quarantined";

/// Name of the DRA driver.
pub const DRIVER: &str = "railhead.dev";
/// Name of the DeviceClass of a rail port.
pub const DEVICE_CLASS: &str = "rail.railhead.dev";
/// Name of the pod's claim entry (`spec.resourceClaims[].name`).
pub const POD_CLAIM: &str = "railhead";
/// Device attribute (domain [`DRIVER`]): absolute rail id.
pub const RAIL_ATTRIBUTE: &str = "rail";
/// Device attribute (domain [`DRIVER`]): name of the Fabric.
pub const FABRIC_ATTRIBUTE: &str = "fabric";
/// Device capacity: bits per second.
pub const BANDWIDTH_CAPACITY: &str = "bandwidth";
/// Device capacity: virtual functions.
pub const VFS_CAPACITY: &str = "vfs";

/// The label and annotation in which an Indexed Job gives a pod its index.
pub const JOB_COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// Name of a network's ResourceClaimTemplate.
pub fn claim_template(network: &str) -> String {
    format!("{network}-rails")
}

/// The network whose ResourceClaimTemplate would have this name.
pub fn network_of_claim_template(template: &str) -> Option<&str> {
    template.strip_suffix("-rails")
}

/// Name of a network's slice: the network's name and 8 hex digits of its UID.
pub fn slice(network: &str, uid: &str) -> String {
    let digits: String = uid.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    format!("{network}-{digits}")
}

/// Value of [`SLICE_LABEL`] for a slice: its name, or where that is longer than a label value may be (63) its end, which has
/// the digits of the network's UID.
pub fn slice_label(slice: &str) -> &str {
    let start = slice.len().saturating_sub(63);
    slice
        .get(start..)
        .unwrap_or(slice)
        .trim_start_matches(|c: char| !c.is_ascii_alphanumeric())
}

/// Value of [`NODE_LABEL`] for a node: its name, or the start of one that is longer than a label value may be. Who selects by
/// it compares `spec.nodeName` as well.
pub fn node_label(node: &str) -> &str {
    node.get(..63)
        .unwrap_or(node)
        .trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
}

/// Name of the attachment that locks `index` of a slice.
pub fn attachment(slice: &str, index: u32) -> String {
    format!("{slice}-{index}")
}

/// Whether an object of the API can have this name: what others wrote may become part of a request's path only then, where
/// `a/../../b` or `a?watch=true` would ask for something else (RFC 1123 subdomain; `validation.IsDNS1123Subdomain`,
/// k8s.io/apimachinery).
pub fn is_object_name(text: &str) -> bool {
    let label = |label: &str| {
        let ends = [label.as_bytes().first(), label.as_bytes().last()];
        label
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && ends.iter().all(|end| end.is_some_and(|byte| *byte != b'-'))
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Whether the API server can have made this UID, which names files on nodes. It makes UUIDs; of others, none that leaves its
/// folder or is longer than a file name may be.
pub fn is_uid(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Name of a rail's device in a ResourceSlice and of its request in a claim.
pub fn rail_device(rail: u32) -> String {
    format!("rail{rail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_a_path_is_the_name_of_nothing() {
        for name in ["llama", "llama-3.1", "a", "0", &"n".repeat(253)] {
            assert!(is_object_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "a/../b",
            "a?watch=true",
            "a#b",
            "a b",
            "-a",
            "a-",
            "a..b",
            "A",
            "a%2fb",
            "\u{e9}",
            &"n".repeat(254),
        ] {
            assert!(!is_object_name(name), "{name}");
        }
        assert!(is_uid("7f3a9c21-0000-4000-8000-000000000000"));
        for uid in ["", "../x", "a/b", "a.b", &"u".repeat(129)] {
            assert!(!is_uid(uid), "{uid}");
        }
    }

    #[test]
    fn the_longest_network_name_still_gives_valid_names_and_labels() {
        let network = "n".repeat(56) + "-";
        assert!(claim_template(&network).len() <= 63);
        let slice = slice(&network, "7f3a9c21-0000-4000-8000-000000000000");
        assert_eq!(slice.len(), 66);
        let label = slice_label(&slice);
        assert!(
            label.len() <= 63 && label.ends_with("7f3a9c21") && label.starts_with('n'),
            "{label}"
        );
        assert_eq!(slice_label("llama-7f3a9c21"), "llama-7f3a9c21");
        assert_eq!(node_label("gpu-044"), "gpu-044");
        assert_eq!(node_label(&("n".repeat(62) + ".example")), "n".repeat(62));
    }
}
