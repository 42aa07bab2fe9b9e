//! Which fields a definition has. Helm installs CustomResourceDefinitions once and never updates them, so those of a cluster may be
//! older than the program that works with them: the API server then drops fields without a word, or refuses whole objects.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use crate::VERSION;

/// An installed definition beside the one that this release brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Fields of this release that the installed one lacks: it is older.
    pub lacks: Vec<String>,
    /// Fields that only the installed one has: it is newer.
    pub adds: Vec<String>,
}

/// Compares an installed definition with the one of this release. One that is not installed lacks everything.
pub fn compare(installed: Option<&CustomResourceDefinition>, own: &CustomResourceDefinition) -> Difference {
    let Some(installed) = installed else {
        return Difference {
            lacks: vec!["all of it".to_owned()],
            adds: Vec::new(),
        };
    };
    let (installed, own) = (fields(installed), fields(own));
    Difference {
        lacks: own.difference(&installed).cloned().collect(),
        adds: installed.difference(&own).cloned().collect(),
    }
}

/// The paths of all fields, as in `spec.rails[].prefixes[].pool`.
fn fields(definition: &CustomResourceDefinition) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let version = definition.spec.versions.iter().find(|version| version.name == VERSION);
    let schema = version.and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    if let Some(schema) = schema {
        walk("", schema, &mut found);
    }
    found
}

fn walk(path: &str, schema: &JSONSchemaProps, found: &mut BTreeSet<String>) {
    for (name, field) in schema.properties.iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        walk(&path, field, found);
        found.insert(path);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        walk(&format!("{path}[]"), item, found);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &schema.additional_properties {
        walk(&format!("{path}{{}}"), value, found);
    }
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt as _;

    use super::*;
    use crate::NetworkSlice;

    #[test]
    fn a_definition_without_a_field_is_older_and_one_with_another_is_newer() {
        let own = NetworkSlice::crd();
        assert_eq!(compare(Some(&own), &own), Difference::default());
        assert_eq!(compare(None, &own).lacks, ["all of it"], "it is not there");
        let mut other = own.clone();
        let schema = other.spec.versions[0].schema.as_mut().unwrap();
        let spec = schema.open_api_v3_schema.as_mut().unwrap().properties.as_mut().unwrap();
        let spec = spec.get_mut("spec").unwrap().properties.as_mut().unwrap();
        let capacity = spec.remove("capacity").unwrap();
        spec.insert("groups".to_owned(), capacity);
        let found = compare(Some(&other), &own);
        assert_eq!(found.lacks, ["spec.capacity"]);
        assert_eq!(found.adds, ["spec.groups"]);
        let inner = fields(&own);
        assert!(inner.contains("spec.rails[].prefixes[].pool"), "{inner:?}");
    }
}
