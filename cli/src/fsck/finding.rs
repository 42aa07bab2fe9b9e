//! What was found: which rule is broken, by which object, and who can make it right.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::Serialize;

use super::repair::Repair;
use crate::lookup::named;

/// The rules, each about one thing. Scripts tell findings by these names, which stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub(crate) enum Check {
    /// Two networks have one slot, and so one address on every rail.
    SlotsTwice,
    /// Two networks of a fabric have one VLAN.
    VlanTwice,
    /// The ledger and the slice of a network say different things.
    SliceOtherEntry,
    /// The ledger does not know what a slice has.
    SliceWithoutEntry,
    /// A slice of a network that is gone.
    SliceWithoutNetwork,
    /// A slice of a Fabric that is gone.
    SliceWithoutFabric,
    /// A slice has addresses that its block does not have in the fabric's pools.
    SliceOutsidePool,
    /// A slice has lost the finalizer that holds it until no pod is attached.
    SliceUnguarded,
    /// The ledger holds something for a network that has neither slice nor object.
    EntryOfNobody,
    /// An entry of a ledger is no aligned block.
    EntryMisshapen,
    /// An entry of a ledger lies in no pool.
    EntryOutsidePools,
    /// An entry has a number to which its ledger has not counted.
    EntryAhead,
    /// Pods have something that their ledger did not know of.
    Quarantined,
    /// A ledger was put back to an older state, and not all nodes have said what their pods have.
    LedgerRestored,
    /// A ledger was written by a later release.
    LedgerNewer,
    /// Somebody wrote a number into a ledger from which it cannot count on.
    LedgerNumbers,
    /// A network says that it is reserved and has no slice.
    NetworkWithoutSlice,
    /// A network is reserved and no pod is attached for a long time.
    ReservedIdle,
    /// Two attachments have one index.
    IndexTwice,
    /// An attachment has an index that its slice does not have.
    IndexOutOfRange,
    /// Two attachments have one virtual function.
    VfTwice,
    /// Two attachments have one address.
    AddressTwice,
    /// A pod has two attachments.
    PodTwice,
    /// An attachment has another address or VLAN than its index has.
    AttachmentOtherAddress,
    /// An attachment of a slice that is gone.
    AttachmentWithoutSlice,
    /// An attachment of a pod that is gone.
    PodGone,
    /// An attachment on a Node that is gone while its pod's object is still there.
    NodeGone,
    /// A pod runs on another node than its attachment says.
    AttachmentOtherNode,
    /// Labels by which an attachment is found say otherwise than its spec.
    AttachmentLabels,
    /// An attachment has lost the finalizer that holds it until its node has unwired the pod.
    AttachmentUnguarded,
    /// A node does not answer, and what its pods have is held.
    HeldByLostNode,
    /// A claim holds ports for a network that is gone.
    ClaimWithoutNetwork,
    /// A claim holds other rails, or less, than its network has.
    ClaimOther,
    /// More is promised on a port than it has.
    PortOversold,
    /// A network with a slice has no claim template.
    TemplateMissing,
    /// A claim template of a network that is gone.
    TemplateWithoutNetwork,
    /// A claim template asks for other rails, or another guarantee, than its network has.
    TemplateOther,
    /// The NodeNetwork of a Node that is gone.
    NodeNetworkWithoutNode,
    /// Pods on a node have something of which no ledger knows.
    NodeHoldsUnknown,
    /// A node says that its pods have more than its ports can carry.
    NodeDoubted,
    /// An object is being deleted, what its finalizer waits for is gone, and it does not go.
    Stuck,
}

impl Check {
    /// Whether it is found because something was not seen: what could not be read was not seen either.
    pub(super) fn rests_on_absence(self) -> bool {
        match self {
            Self::SliceWithoutEntry
            | Self::SliceWithoutNetwork
            | Self::SliceWithoutFabric
            | Self::SliceOutsidePool
            | Self::EntryOfNobody
            | Self::EntryOutsidePools
            | Self::LedgerRestored
            | Self::NetworkWithoutSlice
            | Self::ReservedIdle
            | Self::AttachmentWithoutSlice
            | Self::PodGone
            | Self::NodeGone
            | Self::ClaimWithoutNetwork
            | Self::TemplateMissing
            | Self::TemplateWithoutNetwork
            | Self::NodeNetworkWithoutNode
            | Self::NodeHoldsUnknown
            | Self::Stuck => true,
            Self::SlotsTwice
            | Self::VlanTwice
            | Self::SliceOtherEntry
            | Self::SliceUnguarded
            | Self::EntryMisshapen
            | Self::EntryAhead
            | Self::Quarantined
            | Self::LedgerNewer
            | Self::LedgerNumbers
            | Self::IndexTwice
            | Self::IndexOutOfRange
            | Self::VfTwice
            | Self::AddressTwice
            | Self::PodTwice
            | Self::AttachmentOtherAddress
            | Self::AttachmentOtherNode
            | Self::AttachmentLabels
            | Self::AttachmentUnguarded
            | Self::HeldByLostNode
            | Self::ClaimOther
            | Self::PortOversold
            | Self::TemplateOther
            | Self::NodeDoubted => false,
        }
    }
}

/// Who makes it right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// `--repair` does, and nobody else would.
    Repair(Repair),
    /// It comes right by itself: who does it, and when.
    ByItself(String),
    /// Somebody has to decide: why this is not repaired here.
    ByHand(String),
}

/// Who makes it right, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub(crate) enum Who {
    /// `fsck --repair`.
    Repairable,
    /// Operator, agent or Kubernetes.
    ByItself,
    /// A person.
    ByHand,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// Which rule is broken.
    pub(super) check: Check,
    /// By which object: `NetworkSlice team-a/llama-7f3a9c21`.
    pub(super) object: String,
    /// The sentence.
    pub(super) text: String,
    /// What to do.
    pub(super) help: String,
    /// Who makes it right.
    pub(super) who: Who,
    /// How `--repair` would, how it comes right by itself, or why it is not repaired.
    pub(super) why: String,
    /// What became of the repair, if one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) repaired: Option<Repaired>,
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) repair: Option<Repair>,
}

/// What became of a repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Repaired {
    /// Whether it was done.
    pub(super) done: bool,
    /// What was done, or what stood in the way.
    pub(super) text: String,
}

impl Finding {
    pub(super) fn new(
        check: Check,
        object: String,
        text: impl Into<String>,
        help: impl Into<String>,
        remedy: Remedy,
    ) -> Self {
        let (who, why, repair) = match remedy {
            Remedy::Repair(repair) => (Who::Repairable, repair.to_string(), Some(repair)),
            Remedy::ByItself(why) => (Who::ByItself, why, None),
            Remedy::ByHand(why) => (Who::ByHand, why, None),
        };
        Self {
            check,
            object,
            text: text.into(),
            help: help.into(),
            who,
            why,
            repaired: None,
            repair,
        }
    }

    /// Whether it names an object of a namespace.
    pub(super) fn concerns(&self, namespace: &str) -> bool {
        let named = format!(" {namespace}/");
        self.object.contains(&named) || self.text.contains(&named)
    }

    /// By which it is known as the same at another look.
    pub(super) fn id(&self) -> (Check, &str) {
        (self.check, &self.object)
    }

    /// Nothing is repaired where not all was seen.
    pub(super) fn leave(&mut self) {
        if self.repair.take().is_some() {
            self.who = Who::ByHand;
            "not everything could be read, and nothing is repaired before it can".clone_into(&mut self.why);
        }
    }
}

/// `NetworkSlice team-a/llama-7f3a9c21` of a slice, and so on.
pub(super) fn slice(metadata: &ObjectMeta) -> String {
    named("NetworkSlice", metadata)
}

pub(super) fn attachment(metadata: &ObjectMeta) -> String {
    named("NetworkAttachment", metadata)
}

pub(super) fn ledger(fabric: &str) -> String {
    format!("FabricLedger {fabric}")
}

impl Remedy {
    pub(super) fn by_itself(why: impl Into<String>) -> Self {
        Self::ByItself(why.into())
    }

    pub(super) fn by_hand(why: impl Into<String>) -> Self {
        Self::ByHand(why.into())
    }
}
