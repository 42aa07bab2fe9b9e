//! Where reasons stand: on a condition of a kind of object, or on events about it.

use std::fmt;

/// A kind of object that has conditions with these reasons, or events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A labelled pod: it has events only, its conditions are Kubernetes's.
    Pod,
    /// A claim of the driver: the conditions are those of its devices.
    ResourceClaim,
    /// A fabric.
    Fabric,
    /// A class.
    QosClass,
    /// A network.
    TrainingNetwork,
    /// A quota.
    NetworkQuota,
    /// What a network holds.
    NetworkSlice,
    /// What a pod holds.
    NetworkAttachment,
    /// A node.
    NodeNetwork,
}

impl Kind {
    /// As in `kind:`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::ResourceClaim => "ResourceClaim",
            Self::Fabric => "Fabric",
            Self::QosClass => "QosClass",
            Self::TrainingNetwork => "TrainingNetwork",
            Self::NetworkQuota => "NetworkQuota",
            Self::NetworkSlice => "NetworkSlice",
            Self::NetworkAttachment => "NetworkAttachment",
            Self::NodeNetwork => "NodeNetwork",
        }
    }
}

/// Where a reason stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// On the condition of this type of such an object.
    Condition(Kind, &'static str),
    /// On events about such an object.
    Event(Kind),
}

impl Place {
    /// Of what.
    pub fn kind(self) -> Kind {
        match self {
            Self::Condition(kind, _) | Self::Event(kind) => kind,
        }
    }

    /// The condition's type.
    pub fn condition(self) -> Option<&'static str> {
        match self {
            Self::Condition(_, type_) => Some(type_),
            Self::Event(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition(kind, type_) => write!(f, "{} {type_}", kind.name()),
            Self::Event(kind) => write!(f, "{} event", kind.name()),
        }
    }
}

/// Events about pods.
pub(super) const POD: Place = Place::Event(Kind::Pod);
/// Events about networks.
pub(super) const NETWORK: Place = Place::Event(Kind::TrainingNetwork);
/// Events about fabrics.
pub(super) const FABRIC: Place = Place::Event(Kind::Fabric);

/// A condition of a network.
pub(super) const fn network(type_: &'static str) -> Place {
    Place::Condition(Kind::TrainingNetwork, type_)
}

/// A condition of a fabric.
pub(super) const fn fabric(type_: &'static str) -> Place {
    Place::Condition(Kind::Fabric, type_)
}

/// A condition of a node.
pub(super) const fn node(type_: &'static str) -> Place {
    Place::Condition(Kind::NodeNetwork, type_)
}

/// A condition of what a pod holds.
pub(super) const fn attachment(type_: &'static str) -> Place {
    Place::Condition(Kind::NetworkAttachment, type_)
}
