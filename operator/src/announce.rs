//! Events on the objects that people look at. Each says the next step, and each is said once.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, Resource, api::PostParams};
use tracing::{debug, warn};

use crate::controller::chain;

/// `reportingController` of the operator's events.
const REPORTER: &str = "railhead.dev/operator";
/// What still holds is said again after this time, because the API server forgets events after an hour by default.
const AGAIN: Duration = Duration::from_mins(50);
/// The API server takes at most this many bytes for an event's note.
const MAX_NOTE: usize = 1024;

/// One piece of news about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) kind: Kind,
    pub(crate) reason: &'static str,
    /// What the operator was doing, in one word.
    pub(crate) action: &'static str,
    pub(crate) note: String,
}

/// Whether somebody has to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Warning,
}

/// UID of the object, and the reason.
type Topic = (String, &'static str);

/// Publishes news. kube's own recorder is not used: for it, an event with the same reason and another text is a repetition
/// of the first text.
pub(crate) struct Announcer {
    client: Client,
    instance: String,
    said: Mutex<HashMap<Topic, (String, Instant)>>,
}

impl Announcer {
    pub(crate) fn new(client: Client, instance: String) -> Self {
        Self {
            client,
            instance,
            said: Mutex::default(),
        }
    }

    /// Publishes `news` about `object`, unless just that was said before. A failure is logged: events are not worth a retry.
    pub(crate) async fn say<K: Resource<DynamicType = ()>>(&self, object: &K, news: &News) {
        let reference = object.object_ref(&());
        if !self.is_new(reference.uid.clone().unwrap_or_default(), news) {
            return;
        }
        debug!(
            kind = reference.kind,
            name = reference.name,
            reason = news.reason,
            note = news.note,
            "event"
        );
        let namespace = reference.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let event = self.event(reference, &namespace, news);
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            warn!(reason = news.reason, error = chain(&error), "event was not published");
        }
    }

    fn is_new(&self, uid: String, news: &News) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        said.retain(|_, (_, when)| now.duration_since(*when) < AGAIN);
        let key = (uid, news.reason);
        if said.get(&key).is_some_and(|(note, _)| *note == news.note) {
            return false;
        }
        said.insert(key, (news.note.clone(), now));
        true
    }

    fn event(&self, regarding: ObjectReference, namespace: &str, news: &News) -> Event {
        let now = Timestamp::now();
        let mut note = news.note.clone();
        if note.len() > MAX_NOTE {
            let end = (0..=MAX_NOTE - 3).rev().find(|end| note.is_char_boundary(*end));
            note.truncate(end.unwrap_or(0));
            note.push_str("...");
        }
        Event {
            metadata: ObjectMeta {
                name: Some(format!(
                    "{}.{:x}",
                    regarding.name.as_deref().unwrap_or("railhead"),
                    now.as_nanosecond()
                )),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some(match news.kind {
                Kind::Normal => "Normal".to_owned(),
                Kind::Warning => "Warning".to_owned(),
            }),
            reason: Some(news.reason.to_owned()),
            action: Some(news.action.to_owned()),
            note: Some(note),
            regarding: Some(regarding),
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(REPORTER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}

impl News {
    pub(crate) fn normal(action: &'static str, reason: &'static str, note: impl Into<String>) -> Self {
        Self {
            kind: Kind::Normal,
            reason,
            action,
            note: note.into(),
        }
    }

    pub(crate) fn warning(action: &'static str, reason: &'static str, note: impl Into<String>) -> Self {
        Self {
            kind: Kind::Warning,
            reason,
            action,
            note: note.into(),
        }
    }
}
