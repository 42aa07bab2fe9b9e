//! The indices of a network.

use railhead_crds::{NetworkRole, TrainingNetwork};

/// The indices of a network, in the order of its roles or groups.
#[derive(Clone, Copy, Debug)]
pub struct Space<'a> {
    pub(super) network: &'a str,
    /// Indices 0 to pods-1 exist.
    pub(super) pods: u32,
    /// For how many there is room, if `spec.pods` is raised.
    pub(super) room: Option<u32>,
    pub(super) roles: &'a [NetworkRole],
    pub(super) groups: u32,
    /// Pods per group, if there are groups.
    pub(super) per_group: u32,
}

/// Indices that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first one.
    pub first: u32,
    /// How many.
    pub pods: u32,
}

impl Span {
    /// Whether it is one of them.
    pub fn contains(&self, index: u32) -> bool {
        index.checked_sub(self.first).is_some_and(|number| number < self.pods)
    }
}

impl<'a> Space<'a> {
    /// The network's, of which the first `pods` can be given: its slice may not have grown yet. Of one that has shrunk, the slice is as it
    /// was, and the network says how many.
    pub fn new(network: &'a TrainingNetwork, pods: u32) -> Self {
        let groups = network.spec.groups.unwrap_or(1).max(1);
        Self {
            network: network.metadata.name.as_deref().unwrap_or_default(),
            pods: pods.min(network.spec.pods),
            room: network.spec.max_pods,
            roles: &network.spec.roles,
            groups,
            per_group: network.spec.pods / groups,
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Span {
        Span {
            first: 0,
            pods: self.pods,
        }
    }

    /// Those of a role.
    pub(super) fn of_role(&self, name: &str) -> Option<Span> {
        let mut first = 0_u32;
        for role in self.roles {
            if role.name == name {
                return Some(Span { first, pods: role.pods });
            }
            first = first.saturating_add(role.pods);
        }
        None
    }
}
