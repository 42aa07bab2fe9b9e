//! Events on pods: where people look first.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use railhead_crds::reasons::Reason;
use railhead_plan::PodRef;
use railhead_service::events::{Event, Recorder};

/// Reporting controller of the agent's events.
const REPORTER: &str = "railhead.dev/agent";
/// What the agent does for pods, in one word.
const ACTION: &str = "Attach";

/// Writes events, while whoever has something to tell goes on. A lost event is logged and never an error of what it tells about.
pub struct Events {
    recorder: Arc<Recorder>,
}

impl Events {
    /// Events that say they come from the agent pod `instance`.
    pub fn new(client: Client, instance: Option<String>) -> Self {
        Self {
            recorder: Arc::new(Recorder::new(
                client,
                REPORTER,
                instance.unwrap_or_else(|| "railhead-agent".to_owned()),
            )),
        }
    }

    /// Something went as it should.
    pub fn normal(&self, pod: &PodRef, reason: Reason, note: String) {
        self.write(pod, Event::normal(ACTION, reason, note));
    }

    /// Something needs attention.
    pub fn warning(&self, pod: &PodRef, reason: Reason, note: String) {
        self.write(pod, Event::warning(ACTION, reason, note));
    }

    /// Something of the node needs attention.
    pub fn on(&self, object: &ObjectReference, reason: Reason, note: String) {
        let event = Event::warning(ACTION, reason, note);
        self.publish(object.clone(), event);
    }

    fn write(&self, pod: &PodRef, event: Event) {
        let reference = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
            ..ObjectReference::default()
        };
        self.publish(reference, event);
    }

    fn publish(&self, reference: ObjectReference, event: Event) {
        let recorder = self.recorder.clone();
        tokio::spawn(async move { recorder.publish_about(reference, &event).await });
    }
}
