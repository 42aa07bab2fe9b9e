//! Events on the objects that people look at. Each says the next step, and each is said once.
//!
//! Texts may carry numbers that change all the time while thousands of objects wait for the same thing. A recorder can be
//! [sparing](Recorder::sparing): of one object and reason it says a few texts at once, and then one now and then. That is for
//! whoever looks again and again, and says the latest one then.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1 as events},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, Resource, api::PostParams};
use railhead_crds::reasons::Reason;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::chain;

/// What still holds is said again after this time, because the API server forgets events after an hour by default.
const AGAIN: Duration = Duration::from_mins(50);
/// How many texts of one object and reason are said whatever comes.
const BURST: u32 = 3;
/// How long until one more is said.
const REFILL: Duration = Duration::from_mins(12);
/// How often what was said long ago is forgotten.
const SWEEP: Duration = Duration::from_mins(1);
/// The API server takes at most this many bytes for an event's note.
const MAX_NOTE: usize = 1024;

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether somebody has to do something.
    pub kind: Kind,
    /// Why, in one word to search for.
    pub reason: Reason,
    /// What was being done, in one word.
    pub action: &'static str,
    /// For people.
    pub note: String,
}

/// Whether somebody has to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nobody.
    Normal,
    /// The note says what.
    Warning,
}

/// UID of the object, and the reason.
type Topic = (String, &'static str);

/// What was said of a topic.
struct Said {
    note: String,
    when: Instant,
    /// How many other texts may follow, as of `refilled`.
    left: u32,
    refilled: Instant,
}

/// All that was said.
struct Memory {
    topics: HashMap<Topic, Said>,
    swept: Instant,
}

/// Publishes events. kube's own recorder is not used: for it, an event with the same reason and another text is a repetition
/// of the first text, which people then see for ever.
pub struct Recorder {
    client: Client,
    reporter: &'static str,
    instance: String,
    said: Mutex<Memory>,
    sparing: bool,
    /// Whose turn it is.
    turns: Semaphore,
}

/// How many events are published at a time: nothing else is to be slow because of them.
const AT_ONCE: usize = 2;

impl Recorder {
    /// Events of `reporter` (`reportingController`), of which `instance` is one process.
    pub fn new(client: Client, reporter: &'static str, instance: String) -> Self {
        Self {
            client,
            reporter,
            instance,
            said: Mutex::new(Memory::new(Instant::now())),
            sparing: false,
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// The same, for many objects whose texts change all the time.
    #[must_use]
    pub fn sparing(self) -> Self {
        Self { sparing: true, ..self }
    }

    /// Publishes `event` about `object`, unless just that was said before.
    pub async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, event: &Event) {
        self.publish_about(object.object_ref(&()), event).await;
    }

    /// The same about an object that is only known by name. A failure is logged: events are not worth a retry.
    pub async fn publish_about(&self, reference: ObjectReference, event: &Event) {
        debug_assert!(
            event.reason.is_of_event(reference.kind.as_deref().unwrap_or_default()),
            "{} is not listed for events about {:?}: add the place to railhead_crds::reasons",
            event.reason,
            reference.kind,
        );
        if !self.is_new(reference.uid.clone().unwrap_or_default(), event) {
            return;
        }
        debug!(
            kind = reference.kind,
            name = reference.name,
            reason = event.reason.name(),
            note = event.note,
            "event"
        );
        let namespace = reference.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<events::Event> = Api::namespaced(self.client.clone(), &namespace);
        let published = self.object(reference, &namespace, event);
        // Without turns, which are never closed, nobody waits.
        let _turn = self.turns.acquire().await.ok();
        if let Err(error) = api.create(&PostParams::default(), &published).await {
            warn!(
                reason = event.reason.name(),
                error = chain(&error),
                "event was not published"
            );
        }
    }

    fn is_new(&self, uid: String, event: &Event) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.is_new((uid, event.reason.name()), &event.note, Instant::now(), self.sparing)
    }

    fn object(&self, regarding: ObjectReference, namespace: &str, event: &Event) -> events::Event {
        let now = Timestamp::now();
        let mut note = event.note.clone();
        if note.len() > MAX_NOTE {
            let end = (0..=MAX_NOTE - 3).rev().find(|end| note.is_char_boundary(*end));
            note.truncate(end.unwrap_or(0));
            note.push_str("...");
        }
        events::Event {
            metadata: ObjectMeta {
                name: Some(format!(
                    "{}.{:x}",
                    regarding.name.as_deref().unwrap_or("railhead"),
                    now.as_nanosecond()
                )),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some(match event.kind {
                Kind::Normal => "Normal".to_owned(),
                Kind::Warning => "Warning".to_owned(),
            }),
            reason: Some(event.reason.into()),
            action: Some(event.action.to_owned()),
            note: Some(note),
            regarding: Some(regarding),
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(self.reporter.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..events::Event::default()
        }
    }
}

impl Memory {
    fn new(now: Instant) -> Self {
        Self {
            topics: HashMap::new(),
            swept: now,
        }
    }

    /// Whether the text is to be said; then it counts as said.
    fn is_new(&mut self, topic: Topic, note: &str, now: Instant, sparing: bool) -> bool {
        if now.duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.topics.retain(|_, said| now.duration_since(said.when) < AGAIN);
        }
        let said = self.topics.entry(topic).or_insert_with(|| Said {
            note: String::new(),
            when: now,
            left: BURST,
            refilled: now,
        });
        let holds = said.note == note && now.duration_since(said.when) < AGAIN;
        while said.left < BURST && now.duration_since(said.refilled) >= REFILL {
            said.left += 1;
            said.refilled += REFILL;
        }
        if holds || (sparing && said.left == 0) {
            return false;
        }
        if said.left == BURST {
            said.refilled = now;
        }
        said.left = said.left.saturating_sub(1);
        note.clone_into(&mut said.note);
        said.when = now;
        true
    }
}

impl Event {
    /// Something went as it should.
    pub fn normal(action: &'static str, reason: Reason, note: impl Into<String>) -> Self {
        Self {
            kind: Kind::Normal,
            reason,
            action,
            note: note.into(),
        }
    }

    /// Something needs attention.
    pub fn warning(action: &'static str, reason: Reason, note: impl Into<String>) -> Self {
        Self {
            kind: Kind::Warning,
            reason,
            action,
            note: note.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use http::{Request, Response};
    use http_body_util::BodyExt;
    use k8s_openapi::api::core::v1::Pod;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// An API server that keeps what is posted.
    fn server() -> (Client, Arc<Mutex<Vec<Value>>>) {
        let posted = Arc::new(Mutex::new(Vec::new()));
        let keep = posted.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let keep = keep.clone();
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                keep.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                Ok::<_, Infallible>(Response::new(Body::from(body.to_vec())))
            }
        });
        (Client::new(service, "default"), posted)
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "llama-7", "namespace": "team-a", "uid": "u1"}})).unwrap()
    }

    #[tokio::test]
    async fn a_second_text_under_the_same_reason_is_shown_and_the_same_text_is_said_once() {
        let (client, posted) = server();
        let recorder = Recorder::new(client, "railhead.dev/agent", "agent-1".to_owned());
        for note in ["held by llama-3", "held by llama-3", "none of 4 is free"] {
            recorder
                .publish(&pod(), &Event::warning("Prepare", Reason::NotPrepared, note))
                .await;
        }
        let posted = posted.lock().unwrap();
        let notes: Vec<&str> = posted.iter().map(|event| event["note"].as_str().unwrap()).collect();
        assert_eq!(notes, ["held by llama-3", "none of 4 is free"]);
        assert_ne!(posted[0]["metadata"]["name"], posted[1]["metadata"]["name"]);
        assert_eq!(posted[0]["regarding"]["uid"], "u1");
        assert_eq!(posted[0]["reportingController"], "railhead.dev/agent");
    }

    #[test]
    fn a_text_whose_numbers_change_every_second_is_said_less_than_ten_times_an_hour() {
        let start = Instant::now();
        let mut memory = Memory::new(start);
        let mut said = Vec::new();
        for second in 0..3600 {
            let note = format!("free: {second} of 4000");
            let now = start + Duration::from_secs(second);
            if memory.is_new(("u1".to_owned(), "BandwidthUnavailable"), &note, now, true) {
                said.push(second);
            }
        }
        assert_eq!(said[..3], [0, 1, 2], "the first few at once");
        assert!((5..9).contains(&said.len()), "{said:?}");
        let other = ("u2".to_owned(), "BandwidthUnavailable");
        assert!(
            memory.is_new(other, "free: 0 of 4000", start, true),
            "each object has its own"
        );
    }

    #[tokio::test]
    async fn a_long_note_is_cut_to_what_the_api_server_accepts() {
        let (client, posted) = server();
        let recorder = Recorder::new(client, "railhead.dev/agent", "agent-1".to_owned());
        recorder
            .publish(&pod(), &Event::normal("Attach", Reason::Wired, "\u{e9}".repeat(600)))
            .await;
        let posted = posted.lock().unwrap();
        let note = posted[0]["note"].as_str().unwrap();
        assert!(note.len() <= MAX_NOTE && note.ends_with("..."));
    }
}
