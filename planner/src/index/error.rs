//! Why a pod can have no index: the texts that the pod's owner reads.

use railhead_crds::reasons::Reason;
use thiserror::Error;

/// What to do for a pod of this index.
fn more(index: u32, room: Option<u32>) -> String {
    let needed = u64::from(index) + 1;
    match room {
        Some(room) if needed <= u64::from(room) => {
            format!("raise spec.pods to at least {needed} (spec.maxPods: {room}), or have the workload make fewer")
        }
        Some(room) => format!(
            "spec.maxPods: {room} cannot be changed; delete the network and apply it anew with at least {needed}, or have the workload make fewer"
        ),
        None => format!("apply a network with at least {needed} pods"),
    }
}

/// Why a pod can have no index. The text is shown as an event on the pod.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexError {
    /// The network has fewer pods.
    #[error("index {index} is not in network {network}, which has pods: {pods} (indices 0 to {last}): {next}", last = pods.saturating_sub(1), next = more(*index, *room))]
    OutOfRange {
        /// The pod's index.
        index: u32,
        /// The network.
        network: String,
        /// Its size.
        pods: u32,
        /// Its `spec.maxPods`.
        room: Option<u32>,
    },
    /// The role has fewer pods.
    #[error(
        "{workload} has a pod {number} (from 0) of role {role}, which has pods: {pods} in spec.roles of network {network}: raise it and spec.pods (the last role may grow, for another one delete the network and apply it anew), or have the workload make fewer"
    )]
    RoleFull {
        /// The workload.
        workload: String,
        /// The role.
        role: String,
        /// The pod's number in it.
        number: u64,
        /// The role's pods.
        pods: u32,
        /// The network.
        network: String,
    },
    /// The groups have fewer pods, or there are fewer of them.
    #[error(
        "pod {number} of group {group} of {workload} (both from 0) is not in network {network}, which has groups: {groups} of {per_group} pods each: apply it with pods = groups x pods of a group"
    )]
    GroupFull {
        /// The workload.
        workload: String,
        /// The pod's group.
        group: u32,
        /// The pod's number in it.
        number: u32,
        /// Groups of the network.
        groups: u32,
        /// Pods of each.
        per_group: u32,
        /// The network.
        network: String,
    },
    /// Several groups, each with a pod 0, and the network has one.
    #[error(
        "group {group} of {workload} has a pod {number} as group 0 has, and network {network} counts one group: delete it and apply it anew with spec.groups: <groups of the workload> and spec.pods: <groups x pods of a group>"
    )]
    GroupsNeeded {
        /// The workload.
        workload: String,
        /// The pod's group.
        group: u32,
        /// The pod's number in it.
        number: u32,
        /// The network.
        network: String,
    },
    /// The pods are not a multiple of the Jobs.
    #[error(
        "role {role} of {workload} has {groups} Jobs, and its pods: {pods} in network {network} are no multiple of that: delete the network and apply it anew with pods = Jobs x pods of a Job"
    )]
    Uneven {
        /// The workload.
        workload: String,
        /// The role.
        role: String,
        /// How many Jobs it has.
        groups: u32,
        /// Pods of the role, or of the network.
        pods: u32,
        /// The network.
        network: String,
    },
    /// Several roles, each with a pod 0, and the network has none.
    #[error(
        "{workload} has pods with the label in more than one role ({first} and {second}), each of which counts from 0: take the label off one of them, or delete network {network} and apply it anew with spec.roles: [{{name: {first}, pods: ...}}, {{name: {second}, pods: ...}}]",
        first = roles[0],
        second = roles[1]
    )]
    RolesNeeded {
        /// The workload.
        workload: String,
        /// The pod's and another one.
        roles: [String; 2],
        /// The network.
        network: String,
    },
    /// A role that only `spec.roles` can place.
    #[error(
        "{workload} counts the pods of its role {role} apart, and network {network} has no roles: delete it and apply it anew with spec.roles, one entry {{name: {role}, pods: ...}} for each of the workload's roles with the label"
    )]
    RoleNotPlaced {
        /// The workload.
        workload: String,
        /// The pod's role.
        role: String,
        /// The network.
        network: String,
    },
    /// A launcher or head with the label.
    #[error(
        "the {role} of {workload} has the label and no place among those that compute: take the label {label} off its template, or apply a network anew that names {role} in spec.roles; {hint}", label = railhead_crds::names::NETWORK_LABEL
    )]
    Apart {
        /// The workload.
        workload: String,
        /// Its launcher or head.
        role: String,
        /// What else may be meant.
        hint: &'static str,
    },
    /// The pod's role is none of the network's.
    #[error(
        "role {role} of {workload} is none of network {network}, which has {known}: take the label off that role's pods, or apply a network anew with {role} in spec.roles"
    )]
    UnknownRole {
        /// The workload.
        workload: String,
        /// The pod's role.
        role: String,
        /// The network.
        network: String,
        /// Its roles.
        known: String,
    },
    /// What should be a number is none.
    #[error(
        "{key} of pod {pod} is {value:?}, not a number; it is set by the controller of {owner} and must be left alone: delete the pod so that it is made anew"
    )]
    NotANumber {
        /// Label or annotation.
        key: &'static str,
        /// As found.
        value: String,
        /// The pod.
        pod: String,
        /// Who controls it.
        owner: String,
    },
    /// A label that the framework sets is not there.
    #[error("pod {pod} of {owner} has lost {key}, which its controller sets: delete the pod so that it is made anew")]
    Missing {
        /// Label or annotation.
        key: &'static str,
        /// The pod.
        pod: String,
        /// Who controls it.
        owner: String,
    },
    /// A label says other than the pod's name or annotation, or its owner's name.
    #[error(
        "{key} says {value:?} and pod {pod} of {owner} is {other}: somebody edited what the controller set; delete the pod so that it is made anew, or take the label out of the pod template"
    )]
    Contradicts {
        /// Label or annotation.
        key: &'static str,
        /// As found.
        value: String,
        /// The pod.
        pod: String,
        /// Who controls it.
        owner: String,
        /// What the other place says.
        other: String,
    },
    /// A label by which another framework counts.
    #[error(
        "pod {pod} has {key}, which the controller of {owner} does not set: take it out of the pod template; who makes a pod numbers it"
    )]
    Foreign {
        /// Label or annotation.
        key: &'static str,
        /// The pod.
        pod: String,
        /// Who controls it.
        owner: String,
    },
}

impl IndexError {
    /// Reason of the event and of the network's condition: a word to search for.
    pub fn reason(&self) -> Reason {
        match self {
            Self::OutOfRange { .. } | Self::RoleFull { .. } | Self::GroupFull { .. } => Reason::IndexOutOfRange,
            Self::GroupsNeeded { .. } | Self::Uneven { .. } => Reason::GroupsNeeded,
            Self::RolesNeeded { .. } | Self::RoleNotPlaced { .. } | Self::Apart { .. } | Self::UnknownRole { .. } => {
                Reason::RolesNeeded
            }
            Self::NotANumber { .. } | Self::Missing { .. } | Self::Contradicts { .. } | Self::Foreign { .. } => {
                Reason::IndexInvalid
            }
        }
    }
}
