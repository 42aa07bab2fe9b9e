//! Reasons that arise at slices and quotas.

use super::{
    place::{Kind, Place},
    reasons,
};

const IN_USE: Place = Place::Condition(Kind::NetworkSlice, "InUse");
const EXCEEDED: Place = Place::Condition(Kind::NetworkQuota, "Exceeded");

reasons! {
    NoAttachment on &[IN_USE],
        means "no pod is attached";
    PodsAttached on &[IN_USE],
        means "pods are attached; the message names them";
    NotContested on &[Place::Condition(Kind::NetworkSlice, "Quarantined")],
        means "nobody else has the network's addresses or its VLAN";

    WithinLimits on &[EXCEEDED],
        means "no more is used than the limits allow";
    UsedAboveHard on &[EXCEEDED],
        means "the quota was written or lowered below what is used; nobody loses anything, and nothing new is reserved",
        next "delete networks that are not needed, or raise spec.hard";
    Exceeded on &[Place::Event(Kind::NetworkQuota)],
        means "more is used than the quota allows, since it was written or lowered below that",
        next "delete networks that are not needed, or raise spec.hard";
}
