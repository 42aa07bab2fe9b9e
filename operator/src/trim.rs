//! What is left out of the stored objects: at thousands of pods, what nobody reads would be most of the memory.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{Pod, PodSpec},
    resource::v1::{ResourceClaim, ResourceClaimSpec, ResourceClaimTemplate},
};
use kube::{Resource, ResourceExt as _};
use railhead_crds::names::{ATTACH_ANNOTATION, DRIVER, JOB_COMPLETION_INDEX, NETWORK_LABEL, REQUEUE_ANNOTATION};

/// Every object: who wrote which field is of no interest here.
pub(crate) fn metadata<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// A pod: node, phase, conditions, claims and whose it is; no containers, volumes or environment.
pub(crate) fn pod(pod: &mut Pod) {
    metadata(pod);
    keep(pod.labels_mut(), &[NETWORK_LABEL, JOB_COMPLETION_INDEX]);
    keep(
        pod.annotations_mut(),
        &[ATTACH_ANNOTATION, REQUEUE_ANNOTATION, JOB_COMPLETION_INDEX],
    );
    if let Some(spec) = &mut pod.spec {
        *spec = PodSpec {
            node_name: spec.node_name.take(),
            resource_claims: spec.resource_claims.take(),
            scheduling_gates: spec.scheduling_gates.take(),
            ..PodSpec::default()
        };
    }
    if let Some(status) = &mut pod.status {
        status.container_statuses = None;
        status.init_container_statuses = None;
        status.ephemeral_container_statuses = None;
        status.pod_ips = None;
        status.host_ips = None;
    }
}

/// A claim: what it was allocated.
pub(crate) fn claim(claim: &mut ResourceClaim) {
    metadata(claim);
    claim.metadata.annotations = None;
    claim.spec = ResourceClaimSpec::default();
    if let Some(status) = &mut claim.status {
        status.reserved_for = None;
        status.devices = None;
    }
}

/// A claim template: whose it is.
pub(crate) fn template(template: &mut ResourceClaimTemplate) {
    metadata(template);
    template.metadata.annotations = None;
    template.spec.metadata = None;
    if let Some(devices) = &mut template.spec.spec.devices {
        devices.requests = None;
        devices.constraints = None;
        if let Some(config) = &mut devices.config {
            config.retain(|config| config.opaque.as_ref().is_some_and(|opaque| opaque.driver == DRIVER));
        }
    }
}

fn keep(map: &mut BTreeMap<String, String>, keys: &[&str]) {
    map.retain(|key, _| keys.contains(&key.as_str()));
}
