//! Reasons that arise at fabrics.

use super::{
    place::{FABRIC, Kind, Place, fabric},
    reasons,
};

const CLASS_DEFAULT: Place = Place::Condition(Kind::QosClass, "Default");
const LEFT: &[Place] = &[fabric("Ready"), FABRIC];

reasons! {
    AllReady on &[fabric("NodesReady"), fabric("Ready")],
        means "every node that the Fabric selects has all ports and is ready";
    SomeNodesNotReady on &[fabric("Ready")],
        means "some nodes are not ready; networks run on those that are",
        next "the condition NodesReady names them and what they lack";
    NodesNotReady on &[FABRIC],
        means "not all nodes that the Fabric selects are ready",
        next "the message names the nodes and what they lack";
    NoNodes on &[fabric("NodesReady"), fabric("Ready")],
        means "no node carries the labels of spec.nodeSelector, or the cluster has none",
        next "label the nodes, or correct spec.nodeSelector";
    NodeOfOtherFabric on &[fabric("NodesReady"), fabric("Ready")],
        means "a node that the Fabric selects belongs to another Fabric already",
        next "change spec.nodeSelector of one of the two, so that each node is of one Fabric";
    AgentNotReporting on &[fabric("NodesReady"), fabric("Ready")],
        means "a node's agent has not said yet how its ports are",
        next "see whether the agent's pod runs on that node";
    NoVfs on &[fabric("NodesReady"), fabric("Ready")],
        means "a port of a node has no virtual functions, or fewer than vfsPerPort",
        next "make them, or set management.vfs: Managed; with too few, drain the node and make them anew";

    Valid on &[fabric("PoolsHealthy")],
        means "the pools are disjoint and alike on all rails";
    PoolsInvalid on &[fabric("PoolsHealthy"), fabric("Ready"), FABRIC],
        means "nothing new is cut from the named pools: they overlap with something or were edited against live networks",
        next "choose other addresses; a pool of which no network has anything may be changed at once, else drain it";
    Draining on &[fabric("PoolsHealthy")],
        means "a drained pool is still in use by networks; nothing new is cut from it",
        next "wait for the networks that the message names to be deleted";
    Drained on &[fabric("PoolsHealthy")],
        means "no network has anything of the drained pools: they may be taken out of the Fabric";

    NoConflict on &[fabric("EditConflict")],
        means "the spec says nothing against live networks";
    LiveNetworks on &[fabric("EditConflict")],
        means "the spec was changed against live networks; the change has no effect on them",
        next "take the change back, or end the networks that the message names";
    EditConflict on &[fabric("Ready")],
        means "the spec was changed against live networks, and the rest of the Fabric is in use",
        next "the condition EditConflict names field and networks";

    NoOtherFabric on &[fabric("VlansShared")],
        means "no other Fabric has VLANs of vlan.range";
    OtherFabric on &[fabric("VlansShared")],
        means "another Fabric's vlan.range has the same VLANs",
        next "nothing, if no switch carries both fabrics; else give each a range of its own";

    NotRestored on &[fabric("LedgerRestored")],
        means "the FabricLedger has all that nodes say that their pods hold";
    NodesAsked on &[fabric("LedgerRestored")],
        means "the FabricLedger is older than what nodes have, and every node is asked what its pods hold",
        next "wait; each node that the message names needs a running agent of this release, or its Node is deleted if it is off for good";
    AllAnswered on &[fabric("LedgerRestored")],
        means "every node has said what its pods hold; what the ledger did not know is kept for those pods until they end";
    NodesDoubted on &[FABRIC],
        means "nodes say that their pods hold more than their ports can carry, and of that nothing is entered",
        next "see who writes the status of the NodeNetworks that the message names";

    Current on &[fabric("SchemasCurrent")],
        means "the cluster's CustomResourceDefinitions are those of the operator's release";
    SchemaNewer on &[fabric("SchemasCurrent")],
        means "the cluster's CustomResourceDefinitions are of a later release than the operator, as after a rollback",
        next "run the later release again; what this one does not know it leaves as it is";
    NotRead on &[fabric("SchemasCurrent")],
        means "the cluster's CustomResourceDefinitions could not be compared with those of the operator's release",
        next "the operator's log says why";

    Default on &[fabric("Default"), CLASS_DEFAULT],
        means "networks that name none get this one";
    NotDefault on &[fabric("Default"), CLASS_DEFAULT],
        means "only networks get it that name it";
    DefaultConflict on &[fabric("Default"), CLASS_DEFAULT, FABRIC, Place::Event(Kind::QosClass)],
        means "several say default: true, so networks that name none get none",
        next "leave one default";

    DeletingWaitingForNetworks on LEFT,
        means "the Fabric is deleted, and networks or pods still have something of it",
        next "delete the networks, or end the pods, that the message names";
    DeletingWaitingForNodes on LEFT,
        means "the Fabric is deleted, and nodes have not given back what was changed on them",
        next "end the pods there and start the agent; kubectl delete node ends the wait for a node that does not come back";
}
