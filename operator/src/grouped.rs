//! A store whose objects are also found by whom they belong to: pods by network, attachments by slice. With thousands of pods of
//! other networks beside it, a network looks at its own only.

use std::{
    collections::{HashMap, HashSet},
    ops::Deref,
    sync::{Arc, PoisonError, RwLock},
};

use kube::{
    Resource,
    runtime::{
        reflector::{ObjectRef, Store},
        watcher::Event,
    },
};

use crate::observe::{Named, named};

/// A store, and the names in it by group. A group is in the namespace of its members.
#[derive(Clone)]
pub(crate) struct Grouped<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<K>,
    group: fn(&K) -> Named,
    names: Arc<RwLock<Names>>,
}

#[derive(Default)]
struct Names {
    of: Members,
    /// While the watch lists: what it has listed.
    listed: Members,
}

type Members = HashMap<Named, HashSet<String>>;

impl<K: Resource<DynamicType = ()> + Clone + 'static> Grouped<K> {
    /// `store` must be empty; what comes into it is told to [`Self::follow`] first.
    pub(crate) fn new(store: Store<K>, group: fn(&K) -> Named) -> Self {
        Self {
            store,
            group,
            names: Arc::default(),
        }
    }

    /// Follows the store. It is told before the store is: what the store has is found, then, and the store still says to
    /// which group an object belonged before.
    pub(crate) fn follow(&self, event: &Event<K>) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(object) => {
                self.forget(&mut names.of, object);
                enter(&mut names.of, (self.group)(object), object);
            }
            Event::Delete(object) => self.forget(&mut names.of, object),
            Event::Init => names.listed.clear(),
            Event::InitApply(object) => enter(&mut names.listed, (self.group)(object), object),
            Event::InitDone => names.of = std::mem::take(&mut names.listed),
        }
    }

    fn forget(&self, members: &mut Members, object: &K) {
        let Some(known) = self.store.get(&ObjectRef::from_obj(object)) else {
            return;
        };
        let group = (self.group)(&known);
        if let Some(names) = members.get_mut(&group) {
            names.remove(&named(object).name);
            if names.is_empty() {
                members.remove(&group);
            }
        }
    }

    /// The objects of a group.
    pub(crate) fn members(&self, group: &Named) -> Vec<Arc<K>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let members = names.of.get(group).into_iter().flatten();
        members
            .filter_map(|name| self.store.get(&ObjectRef::new(name).within(&group.namespace)))
            .filter(|object| (self.group)(object) == *group)
            .collect()
    }

    /// The groups of a namespace that have members.
    pub(crate) fn groups_in(&self, namespace: &str) -> Vec<Named> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let groups = names.of.keys();
        groups.filter(|group| group.namespace == namespace).cloned().collect()
    }
}

fn enter<K: Resource>(members: &mut Members, group: Named, object: &K) {
    members.entry(group).or_default().insert(named(object).name);
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Deref for Grouped<K> {
    type Target = Store<K>;

    fn deref(&self) -> &Store<K> {
        &self.store
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::{store, store::Writer};
    use railhead_crds::names::NETWORK_LABEL;

    use super::*;
    use crate::{known::Pod, network::fixtures, world};

    fn llama() -> Named {
        fixtures::named("llama")
    }

    fn tell(pods: &Grouped<Pod>, writer: &mut Writer<Pod>, event: &Event<Pod>) {
        pods.follow(event);
        writer.apply_watcher_event(event);
    }

    fn names_of(pods: &Grouped<Pod>, group: &Named) -> Vec<String> {
        let mut names: Vec<String> = pods.members(group).iter().map(|pod| named(&**pod).name).collect();
        names.sort_unstable();
        names
    }

    fn of_network(index: u32, network: &str) -> Pod {
        let mut pod = fixtures::pod(index);
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(NETWORK_LABEL.to_owned(), network.to_owned());
        pod
    }

    #[test]
    fn a_network_finds_its_own_pods_as_they_come_change_hands_and_go() {
        let (reader, mut writer) = store();
        let pods = Grouped::new(reader, world::network_of_pod);
        for index in 0..3 {
            tell(&pods, &mut writer, &Event::Apply(of_network(index, "llama")));
        }
        let mut elsewhere = of_network(0, "llama");
        elsewhere.metadata.namespace = Some("team-b".to_owned());
        tell(&pods, &mut writer, &Event::Apply(elsewhere));
        assert_eq!(names_of(&pods, &llama()), ["llama-0", "llama-1", "llama-2"]);
        tell(&pods, &mut writer, &Event::Apply(of_network(1, "other")));
        tell(&pods, &mut writer, &Event::Delete(of_network(2, "llama")));
        assert_eq!(names_of(&pods, &llama()), ["llama-0"]);
        assert_eq!(names_of(&pods, &fixtures::named("other")), ["llama-1"]);
        tell(&pods, &mut writer, &Event::Delete(of_network(0, "llama")));
        assert_eq!(
            pods.groups_in("team-a"),
            [fixtures::named("other")],
            "nothing is kept of a group without members"
        );
    }

    #[test]
    fn after_a_new_list_only_what_is_in_it_is_found() {
        let (reader, mut writer) = store();
        let pods = Grouped::new(reader, world::network_of_pod);
        for index in 0..3 {
            tell(&pods, &mut writer, &Event::Apply(of_network(index, "llama")));
        }
        // A list that breaks off, and one that does not.
        tell(&pods, &mut writer, &Event::Init);
        tell(&pods, &mut writer, &Event::InitApply(of_network(7, "ghost")));
        assert_eq!(names_of(&pods, &llama()), ["llama-0", "llama-1", "llama-2"]);
        tell(&pods, &mut writer, &Event::Init);
        tell(&pods, &mut writer, &Event::InitApply(of_network(1, "llama")));
        tell(&pods, &mut writer, &Event::InitApply(of_network(2, "other")));
        tell(&pods, &mut writer, &Event::InitDone);
        assert_eq!(names_of(&pods, &llama()), ["llama-1"]);
        assert_eq!(names_of(&pods, &fixtures::named("other")), ["llama-2"]);
        assert_eq!(
            pods.groups_in("team-a").len(),
            2,
            "nothing is kept of the list that broke off"
        );
    }
}
