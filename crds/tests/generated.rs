//! The chart ships what the types say.

use std::{fs, path::Path};

#[test]
fn the_charts_definitions_are_those_of_the_types() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/railhead/crds");
    let files = railhead_crds::yaml::files().unwrap();
    for (name, content) in &files {
        let shipped = fs::read_to_string(directory.join(name)).unwrap_or_default();
        assert!(
            shipped == *content,
            "charts/railhead/crds/{name} is stale: run `make generate`"
        );
    }
    assert_eq!(
        fs::read_dir(&directory).unwrap().count(),
        files.len(),
        "files in charts/railhead/crds that no type makes"
    );
}

#[test]
fn the_api_reference_is_that_of_the_types() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let shipped = fs::read_to_string(page).unwrap_or_default();
    assert!(
        shipped == railhead_crds::reference::markdown(),
        "docs/api.md is stale: run `make generate`"
    );
}

#[test]
fn every_field_has_a_text_for_kubectl_explain() {
    for crd in railhead_crds::all() {
        let kind = &crd.spec.names.kind;
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let root = &schema["openAPIV3Schema"]["properties"];
        for part in ["spec", "status"] {
            check(&format!("{kind}.{part}"), &root[part]);
        }
    }
}

fn check(path: &str, schema: &serde_json::Value) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        assert!(property["description"].is_string(), "{path} has no description");
        if !path.ends_with(".conditions") {
            check(&path, property);
            check(&path, &property["items"]);
        }
    }
}
