//! Events on the objects that people look at.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use railhead_plan::PodRef;

/// Reporting controller of the agent's events.
const CONTROLLER: &str = "railhead.dev/agent";
/// Longest note that the API server accepts.
const MAX_NOTE: usize = 1024;

/// Writes events. A lost event is logged and never an error of what it tells about.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events that say they come from the agent pod `instance`.
    pub fn new(client: Client, instance: Option<String>) -> Self {
        let reporter = Reporter {
            controller: CONTROLLER.to_owned(),
            instance,
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Something went as it should.
    pub async fn normal(&self, pod: &PodRef, reason: &str, note: String) {
        self.write(pod, EventType::Normal, reason, note).await;
    }

    /// Something needs attention.
    pub async fn warning(&self, pod: &PodRef, reason: &str, note: String) {
        self.write(pod, EventType::Warning, reason, note).await;
    }

    /// Something of the node needs attention.
    pub async fn on(&self, object: &ObjectReference, reason: &str, note: String) {
        self.publish(object, EventType::Warning, reason, note).await;
    }

    async fn write(&self, pod: &PodRef, type_: EventType, reason: &str, note: String) {
        let reference = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
            ..ObjectReference::default()
        };
        self.publish(&reference, type_, reason, note).await;
    }

    async fn publish(&self, object: &ObjectReference, type_: EventType, reason: &str, note: String) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shortened(note)),
            action: "Attach".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, object).await {
            tracing::warn!(
                kind = object.kind, namespace = object.namespace, name = object.name, reason, %error,
                "an event could not be written"
            );
        }
    }
}

fn shortened(mut note: String) -> String {
    if note.len() > MAX_NOTE {
        let mut end = MAX_NOTE - 3;
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        note.truncate(end);
        note.push_str("...");
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_to_what_the_api_server_accepts() {
        assert_eq!(shortened("short".to_owned()), "short");
        let cut = shortened("\u{e9}".repeat(600));
        assert!(cut.len() <= MAX_NOTE && cut.ends_with("..."));
    }
}
