//! The place that a workload gives a pod.

/// Where a workload puts a pod, before the network says which index that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Who says so: `JobSet llama`. Roles are told apart within it.
    pub(super) workload: String,
    /// The part of the workload: replicated job, replica type, worker group; of one that has no parts its own name.
    pub(super) role: String,
    /// Whether the workload may have other parts, which count from 0 as well.
    pub(super) has_parts: bool,
    pub(super) number: Number,
}

/// The number of a pod in its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// It has none.
    None,
    /// Counted through the role.
    Flat(u32),
    /// Counted through the role; and for a network without roles through the workload.
    Either {
        /// In the role.
        role: u32,
        /// In the workload.
        workload: u32,
    },
    /// Counted through one of the equal groups of the role.
    Grouped {
        /// Which group.
        group: u32,
        /// How many there are, where the framework says it.
        of: Option<u32>,
        /// The pod's number in it.
        number: u32,
    },
    /// The workload counts its roles apart, and says not how they lie behind one another.
    OnlyInRole(u32),
    /// A pod that computes only where its role is named: a launcher, a head.
    Apart,
}
