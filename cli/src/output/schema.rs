//! The JSON schema of what programs get.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::json;

use super::{API_VERSION, Report};
use crate::{events, exit::Exit, fsck, plan, status, why};

/// Prints it.
pub(crate) fn schema() -> Exit {
    let text = serde_json::to_string_pretty(&all()).expect("keys are texts") + "\n";
    super::print(text.as_bytes());
    Exit::Fine
}

/// One document for all reports; `kind` tells which.
fn all() -> Schema {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let reports = vec![
        of::<status::StatusReport>(&mut generator),
        of::<why::WhyReport>(&mut generator),
        of::<events::EventsReport>(&mut generator),
        of::<fsck::FsckReport>(&mut generator),
        of::<plan::PlanReport>(&mut generator),
    ];
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Reports of kubectl railhead",
        "type": "object",
        "required": ["apiVersion", "kind", "readAt", "notRead", "exitCode"],
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"type": "string", "description": "Which report it is."},
            "readAt": {"type": "string", "format": "date-time", "description": "When the cluster was read; ages count from here."},
            "notRead": {"type": "array", "items": {"type": "string"}, "description": "What could not be read, a sentence each."},
            "exitCode": {"type": "integer", "minimum": 0, "maximum": 4, "description": "How the command ended."},
        },
        "oneOf": reports,
    });
    schema["$defs"] = generator.take_definitions(true).into();
    schema.try_into().expect("an object")
}

/// A report's own fields, under its kind.
fn of<R: Report + JsonSchema>(generator: &mut SchemaGenerator) -> serde_json::Value {
    let fields = generator.subschema_for::<R>();
    json!({"allOf": [{"properties": {"kind": {"const": R::KIND}}}, fields]})
}
