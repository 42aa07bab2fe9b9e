//! Schema pieces that several kinds share.

use schemars::Schema;

/// `status.conditions` as a list-map by `type`, so that controllers can own single conditions.
pub(crate) fn conditions(generator: &mut schemars::SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>>();
    schema.insert("x-kubernetes-list-type".into(), "map".into());
    schema.insert("x-kubernetes-list-map-keys".into(), vec!["type"].into());
    schema
}
