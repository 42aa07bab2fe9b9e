//! Schema pieces that several kinds share.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use schemars::Schema;

use crate::reasons::Reason;

/// Takes out formats such as `uint32`, about which the API server warns everybody who installs the definitions.
pub(crate) fn without_unsigned_formats(crd: &mut CustomResourceDefinition) {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            strip(schema);
        }
    }
}

/// What people wait for is not ready before the operator has looked at it: tools such as Helm and kstatus take an object without
/// a status for one that is ready.
pub(crate) fn not_ready_at_first(crd: &mut CustomResourceDefinition) {
    if !["Fabric", "TrainingNetwork"].contains(&crd.spec.names.kind.as_str()) {
        return;
    }
    let status = serde_json::json!({"conditions": [{
        "type": "Ready", "status": "Unknown", "reason": Reason::Pending.name(), "message": "waits for the operator to look at it",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }]});
    for version in &mut crd.spec.versions {
        let schema = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut());
        let properties = schema.and_then(|schema| schema.properties.as_mut());
        if let Some(found) = properties.and_then(|properties| properties.get_mut("status")) {
            found.default = Some(JSON(status.clone()));
        }
    }
}

fn strip(schema: &mut JSONSchemaProps) {
    if schema.format.as_ref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
        schema.minimum.get_or_insert(0.0);
    }
    schema
        .properties
        .iter_mut()
        .flatten()
        .for_each(|(_, property)| strip(property));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        strip(items);
    }
}

/// `status.conditions` as a list-map by `type`, so that controllers can own single conditions.
pub(crate) fn conditions(generator: &mut schemars::SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>>();
    schema.insert("x-kubernetes-list-type".into(), "map".into());
    schema.insert("x-kubernetes-list-map-keys".into(), vec!["type"].into());
    schema
}
