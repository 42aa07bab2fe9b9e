//! Reasons that arise at pods and at what they hold.

use super::{
    place::{Kind, NETWORK, POD, Place, attachment, fabric, network, node},
    reasons,
};

/// Why a pod can have no index: said on the pod, and on the network of the first such pod.
const NO_INDEX: &[Place] = &[POD, network("Attached"), NETWORK];
/// Why the agent did not prepare a claim.
const PREPARE: &[Place] = &[POD];
/// What is wrong with a pod that runs, by its agent; the network repeats it.
const DEGRADED: &[Place] = &[POD, attachment("Degraded"), network("Degraded")];
/// The same of a single rail, which the device in the claim says as well.
const RAIL: &[Place] = &[POD, attachment("Degraded"), network("Degraded"), CLAIM_READY];
const CLAIM_READY: Place = Place::Condition(Kind::ResourceClaim, "Ready");

reasons! {
    NetworkNotFound on &[POD],
        means "the label names no TrainingNetwork of this namespace",
        next "correct the label and make the pod anew, or apply the network: waiting pods go on by themselves";
    NetworkDeleting on &[POD],
        means "the network is being deleted and takes no new pods",
        next "apply it anew when it is gone";
    NetworkNotReserved on &[POD],
        means "the network has nothing to give to the pod yet, or no more",
        next "the message has the reason of the network's condition Reserved; see there";
    NetworkReserved on &[POD],
        means "the pod's network has its addresses and VLAN, and the message says which of them the pod gets";
    NonIndexedJob on &[POD],
        means "the Job does not number its pods: a pod that is replaced may get another index and address",
        next "set completionMode: Indexed";

    IndexOutOfRange on NO_INDEX,
        means "the workload has more pods than the network, or than its role or group there",
        next "raise the field that the message names, or apply a network with enough pods";
    IndexInvalid on NO_INDEX,
        means "a label that numbers the pod was edited, lost, or is not of the framework that made the pod",
        next "delete the pod, so that it is made anew; where it comes back the same, take the label out of its template";
    RolesNeeded on NO_INDEX,
        means "two parts of a workload have the label and each counts its pods from 0, or a part is none of the network's roles",
        next "take the label off one of them, or apply the network anew with the roles that the message names";
    GroupsNeeded on NO_INDEX,
        means "the workload consists of groups that each count their pods from 0",
        next "apply the network anew with spec.groups";

    IndexHeld on PREPARE,
        means "another pod still holds this index",
        next "the message names it and what it waits for; the pod starts within seconds of the index being free";
    NetworkFull on PREPARE,
        means "all indices that the pod may have are held",
        next "wait for a pod to end, or apply a larger network";
    ClaimRefused on PREPARE,
        means "the claim does not entitle this pod to the rails, or is of another fabric than the network",
        next "delete the pod, so that it gets a claim from its network's template, with no other claim on rails beside it";
    NoFreeFunction on PREPARE,
        means "a port has no free virtual function although the scheduler chose it",
        next "kubectl get networkattachments -A -l railhead.dev/node=<node> shows who has them; it is tried again";
    FunctionNotProgrammed on PREPARE,
        means "the kernel or the port's driver refused what was to be set on the virtual function",
        next "the message has the setting and the driver's answer; see the node's kernel log";
    NodeTearingDown on PREPARE,
        means "the node gives back what Railhead changed on it and takes no new pods",
        next "unset spec.teardown of the Fabric, or run the pod elsewhere";
    NotPrepared on PREPARE,
        means "the agent could not prepare the pod's claim",
        next "the message says what failed; kubelet tries again after 60 to 90 s";

    Wired on &[POD, attachment("Wired"), CLAIM_READY],
        means "the rails are in the pod";
    Prepared on &[attachment("Wired")],
        means "functions and addresses are the pod's, and its sandbox has not been wired yet";
    NotWired on &[attachment("Wired"), CLAIM_READY],
        means "the pod's sandbox is gone, or not all of its rails are wired; it is wired again with its next sandbox";

    AsPlanned on &[attachment("Degraded")],
        means "nothing of the pod's rails is less than was planned";
    Recovered on &[POD],
        means "the pod's rails are as they were wired again";
    ClaimShared on DEGRADED,
        means "a pod names the claim of another one, and kubelet gave it the same functions; they are held until it has ended",
        next "delete the pod that the message names";
    RailDown on RAIL,
        means "a rail of a running pod has no signal, is down or is gone; the pod is not touched",
        next "look at cable and switch port; a VF that is gone comes back only with a new pod";
    Drifted on RAIL,
        means "something in the pod or on the port is not as it was wired, and could not be set again without harm",
        next "undo the change that the message names, or delete the pod";
    MemlockLow on DEGRADED,
        means "a container with rails may lock little memory: registering RDMA memory fails",
        next "give the container runtime's service LimitMEMLOCK=infinity; the message says why it was refused";
    QosNotEnforced on &[attachment("Degraded"), network("Degraded")],
        means "the NIC cannot guarantee a minimum rate; admission still never oversells",
        next "nothing, or use a NIC that can";
    NcclOverridden on DEGRADED,
        means "NCCL_IB_GID_INDEX or NCCL_IB_HCA is set to what fits another cluster, and wins over what Railhead found",
        next "take the setting away where the message says; Railhead's nccl.conf in the pod has the right value";
    NcclConfHidden on &[POD],
        means "Railhead's nccl.conf is mounted over one of the container's image, which NCCL does not read then",
        next "write what it says into spec.nccl.settings, or set spec.nccl.inject: FileAndEnv for NCCL from 2.23 on";

    PortMissing on &[node("Ready"), fabric("NodesReady"), fabric("Ready"), POD],
        means "the node lacks a port that the Fabric lists, or its agent has not looked at its ports yet",
        next "kubectl get nodenet <node> -o yaml; correct rails[].ports of the Fabric, or look at the node";
}
