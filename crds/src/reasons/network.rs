//! Reasons that arise at networks.

use super::{
    place::{FABRIC, Kind, NETWORK, POD, Place, fabric, network},
    reasons,
};

/// Why nothing is reserved.
const REFUSED: &[Place] = &[network("Reserved"), network("Ready"), NETWORK];

reasons! {
    Pending on &[network("Ready"), fabric("Ready")],
        means "the operator has not looked at it yet",
        next "if it stays so for more than a second, see whether the operator's pod runs";
    Usable on &[network("Ready")],
        means "addresses and VLAN are reserved and the claim template is there: pods with the label get their claims";
    Reserved on &[network("Reserved"), NETWORK],
        means "addresses on every rail and a VLAN are the network's until it is deleted";
    NotReserved on &[NETWORK],
        means "nothing is reserved for the network",
        next "the message and the network's condition Reserved say why";

    PoolExhausted on REFUSED,
        means "no free block of addresses is large enough for the network's pods",
        next "append a pool to the Fabric's rails, delete networks that are not needed, or ask for fewer pods; it is reserved by itself when there is room";
    VlanExhausted on REFUSED,
        means "every VLAN of the Fabric's range is held by a network",
        next "widen the Fabric's vlan.range, or delete networks that are not needed; it is reserved by itself then";
    QuotaExceeded on REFUSED,
        means "a NetworkQuota of the namespace has no room for it",
        next "delete networks that are not needed, ask for less, or ask the platform team; it is reserved by itself when there is room, the oldest first";
    FabricNotFound on REFUSED,
        means "the Fabric that the network is to be on does not exist, is being deleted, or none is the default",
        next "correct spec.fabricName, or have the platform team apply the Fabric";
    ClassNotFound on REFUSED,
        means "the QosClass of the network does not exist, or none is the default",
        next "correct spec.qosClassName, or have the platform team apply the class";
    RailNotFound on REFUSED,
        means "the network asks for a rail that the Fabric does not have, or for more rails than it has",
        next "correct spec.rails";
    FabricNotAllowed on REFUSED,
        means "the Fabric is for namespaces with other labels",
        next "apply the network anew with a Fabric that the message names, or ask the platform team, who label the namespace";
    ClassNotAllowed on REFUSED,
        means "the QosClass is for namespaces with other labels",
        next "apply the network anew with a class that the message names, or ask the platform team, who label the namespace";
    BandwidthUnavailable on &[network("Reserved"), network("Ready"), NETWORK, POD],
        means "a rail has no port with that much bandwidth, or no node has that much left",
        next "lower spec.bandwidthPerRail or choose another class; where it is only in use, wait for pods to end";
    BandwidthAboveClass on REFUSED,
        means "spec.bandwidthPerRail is more than the class lets a network guarantee",
        next "lower it, or name a class that allows it";
    BandwidthBelowClass on REFUSED,
        means "spec.bandwidthPerRail is less than the class lets a network guarantee",
        next "raise it, leave it out, or name a class that allows it";
    FabricInvalid on REFUSED,
        means "none of the Fabric's pools can be used for a new network",
        next "the platform team corrects the Fabric; the message and its conditions say what";
    TemplateConflict on REFUSED,
        means "a ResourceClaimTemplate of the network's name exists that Railhead did not make",
        next "delete it, or give the network another name";
    SliceConflict on REFUSED,
        means "a NetworkSlice of the network's name belongs to another network",
        next "wait until that slice is gone, or delete the network and apply it under another name";
    SliceDeleted on REFUSED,
        means "somebody deleted the NetworkSlice; attached pods keep it and new ones wait",
        next "nothing: it is made again when the last pod is gone";
    LedgerMismatch on &[
            network("Reserved"), network("Ready"), NETWORK, POD, Place::Condition(Kind::NetworkSlice, "Quarantined"),
        ],
        means "slice and FabricLedger disagree, or two networks have the same addresses or VLAN; neither gets new pods",
        next "end the pods of one of the two that the message names, delete that network and apply it anew";
    LedgerNewer on REFUSED,
        means "the Fabric's FabricLedger was written by a later release and is left as it is",
        next "run that release again, or a later one; networks with a slice go on";
    LedgerUnreadable on REFUSED,
        means "the Fabric's FabricLedger cannot be read and is left as it is",
        next "run the release that wrote it, or a later one; one that was spoilt by hand is repaired by a break-glass group";
    LedgerRestored on &[network("Reserved"), network("Ready"), fabric("Ready"), FABRIC],
        means "the Fabric's FabricLedger is older than what pods on nodes have, as after a restore of etcd: nothing new is reserved",
        next "wait until the agents of all nodes have answered; the message names those that have not";
    SchemaOlder on &[
            network("Reserved"), network("Ready"), fabric("SchemasCurrent"), fabric("Ready"), FABRIC,
        ],
        means "the cluster's CustomResourceDefinitions are older than the operator: nothing new is reserved",
        next "kubectl apply --server-side --force-conflicts -f charts/railhead/crds, from the chart of the operator's release";

    CannotGrow on &[network("Reserved"), NETWORK],
        means "spec.pods was raised beyond what the network can have; it goes on with the pods that it has",
        next "the message says what is in the way; undo it, or delete the network and apply it anew";

    AllAttached on &[network("Attached"), NETWORK],
        means "every index of the network has a pod whose rails are wired";
    WaitingForPods on &[network("Attached")],
        means "indices of the network have no wired pod yet; the message says which, and for whom they wait";
    PodsEnded on &[network("Attached")],
        means "the network's pods have ended, and it stays for others until it is deleted";
    Oversubscribed on &[network("Attached"), NETWORK, POD],
        means "more pods carry the label than the network has places; each that has a node holds a port on every rail",
        next "delete the pods that the message names, or give the second workload a network of its own";

    AsDeclared on &[network("Degraded")],
        means "no pod of the network reports less than was declared";
    Degraded on &[NETWORK],
        means "a pod of the network has less than was declared",
        next "the message names the pod and what it lacks";

    DeletingWaitingForPods on &[network("Ready"), NETWORK],
        means "the network is deleted and pods are still attached, which keep it",
        next "delete the pods, or the Job, that the message names";
    DeletingWaitingForTemplate on &[network("Ready")],
        means "the network is deleted and somebody's finalizer holds its claim template, from which pods still get claims",
        next "whoever put the finalizer there takes it away; the message names it";
    DeletingWaitingForLedger on &[network("Ready"), fabric("Ready"), FABRIC],
        means "a network or its Fabric is deleted, and the FabricLedger is of a later release or unreadable, so that nothing is freed in it",
        next "run the later release again; one that was spoilt by hand is repaired by a break-glass group";
}
