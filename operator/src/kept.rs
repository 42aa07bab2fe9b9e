//! What little is kept of objects of which little is read: of claims what they hold, of ResourceSlices their ports. There are as
//! many claims as pods, and whole they would be most of the operator's memory.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use kube::{Resource, runtime::watcher::Event};
use tokio::sync::watch;

use crate::observe::{Named, named};

/// What is kept, by the name of its object; filled by a watch.
pub(crate) struct Kept<V> {
    objects: Arc<RwLock<Objects<V>>>,
    listed_once: watch::Sender<bool>,
}

struct Objects<V> {
    now: HashMap<Named, V>,
    /// While the watch lists: what it has listed.
    listed: HashMap<Named, V>,
}

/// What is kept, to be looked at for a moment.
pub(crate) struct Values<'a, V>(RwLockReadGuard<'a, Objects<V>>);

impl<V> Values<'_, V> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &V> {
        self.0.now.values()
    }
}

impl<V> Clone for Kept<V> {
    fn clone(&self) -> Self {
        Self {
            objects: Arc::clone(&self.objects),
            listed_once: self.listed_once.clone(),
        }
    }
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        let objects = Objects {
            now: HashMap::new(),
            listed: HashMap::new(),
        };
        Self {
            objects: Arc::new(RwLock::new(objects)),
            listed_once: watch::Sender::new(false),
        }
    }
}

impl<V: PartialEq> Kept<V> {
    /// Follows a watch; `of` says what is kept of an object, if anything. Returns whether anything may be otherwise than before.
    pub(crate) fn follow<K: Resource>(&self, event: Event<K>, of: impl Fn(&K) -> Option<V>) -> bool {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(object) => match of(&object) {
                Some(value) => {
                    // Nobody is told of a change of what is not kept.
                    let is_new = objects.now.get(&named(&object)) != Some(&value);
                    objects.now.insert(named(&object), value);
                    is_new
                }
                None => objects.now.remove(&named(&object)).is_some(),
            },
            Event::Delete(object) => objects.now.remove(&named(&object)).is_some(),
            Event::Init => {
                objects.listed = HashMap::new();
                false
            }
            Event::InitApply(object) => {
                if let Some(value) = of(&object) {
                    objects.listed.insert(named(&object), value);
                }
                false
            }
            Event::InitDone => {
                objects.now = std::mem::take(&mut objects.listed);
                self.listed_once.send_replace(true);
                true
            }
        }
    }

    pub(crate) fn values(&self) -> Values<'_, V> {
        Values(self.objects.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until everything has been listed once.
    pub(crate) async fn wait_until_ready(&self) {
        // An error means that the sender is gone, which `self` holds.
        let _ = self.listed_once.subscribe().wait_for(|listed| *listed).await;
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::resource::v1::ResourceClaim;
    use railhead_planner::bandwidth::Held;
    use serde_json::json;

    use super::*;

    fn claim(name: &str, driver: &str, mbps: u32) -> ResourceClaim {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "team-a"}, "spec": {},
            "status": {"allocation": {"devices": {"results": [{"driver": driver, "pool": "node1", "device": "rail0",
                "request": "rail0", "consumedCapacity": {"bandwidth": format!("{mbps}M"), "vfs": "1"}}]}}},
        }))
        .unwrap()
    }

    #[test]
    fn claims_of_other_drivers_are_not_kept_and_what_is_kept_changes_only_with_what_is_held() {
        let kept = Kept::default();
        assert!(!kept.follow(Event::Apply(claim("gpus", "gpu.example.com", 1)), Held::by));
        assert!(kept.follow(Event::Apply(claim("rails", "railhead.dev", 1)), Held::by));
        let mut touched = claim("rails", "railhead.dev", 1);
        touched.metadata.resource_version = Some("7".to_owned());
        assert!(!kept.follow(Event::Apply(touched), Held::by));
        assert!(kept.follow(Event::Apply(claim("rails", "railhead.dev", 2)), Held::by));
        assert_eq!(kept.values().iter().count(), 1);
        assert!(!kept.follow(Event::Delete(claim("gpus", "gpu.example.com", 1)), Held::by));
        let mut freed = claim("rails", "railhead.dev", 2);
        freed.status = None;
        assert!(kept.follow(Event::Apply(freed), Held::by));
        assert_eq!(kept.values().iter().count(), 0);
    }

    #[tokio::test]
    async fn after_a_new_list_what_went_meanwhile_is_kept_no_more() {
        let kept = Kept::default();
        kept.follow(Event::Init, Held::by);
        kept.follow(Event::InitApply(claim("a", "railhead.dev", 1)), Held::by);
        assert_eq!(kept.values().iter().count(), 0, "not before all is listed");
        kept.follow(Event::InitDone, Held::by);
        kept.wait_until_ready().await;
        assert_eq!(kept.values().iter().count(), 1);
        kept.follow::<ResourceClaim>(Event::Init, Held::by);
        kept.follow::<ResourceClaim>(Event::InitDone, Held::by);
        assert_eq!(kept.values().iter().count(), 0);
    }
}
