//! Reasons that arise at nodes.

use super::{
    place::{Kind, Place, fabric, node},
    reasons,
};

/// Why a node is not ready: the Fabric repeats it of the first such node.
const NOT_READY: &[Place] = &[node("Ready"), fabric("NodesReady"), fabric("Ready")];
/// The same where it is the chain's doing.
const NO_CHAIN: &[Place] = &[node("ChainReady"), node("Ready"), fabric("NodesReady"), fabric("Ready")];
/// The same where containers could not be created.
const NO_CDI: &[Place] = &[node("CdiReady"), node("Ready"), fabric("NodesReady"), fabric("Ready")];
const NODE: Place = Place::Event(Kind::NodeNetwork);

reasons! {
    Ready on &[node("Ready")],
        means "the node's ports, chain and CDI specs are in order: pods with rails can run there";
    FunctionsMissing on NOT_READY,
        means "a port has no virtual functions, or fewer than vfsPerPort",
        next "with none, make them or set management.vfs: Managed; with too few, drain the node and make them anew";
    VfsUnusable on NOT_READY,
        means "virtual functions exist, and some have no driver, or pods can have none of them",
        next "the message counts and names them, with the command; keep NetworkManager and netplan off them";
    ForeignOwner on NOT_READY,
        means "a device plugin gives virtual functions of the port to pods; a port has one owner",
        next "take the port out of the plugin's configuration, or out of the Fabric";
    Switchdev on NOT_READY,
        means "the port is in switchdev mode, in which no pod would work",
        next "the message has the command that changes the mode";
    DpuManaged on NOT_READY,
        means "the port's functions are managed by the card itself, so no pod would work",
        next "the message has the command that changes the mode";
    RdmaExclusive on NOT_READY,
        means "the node's RDMA devices are one to each network namespace, which Railhead does not wire",
        next "the message has the command that changes the mode";
    PortDown on NOT_READY,
        means "a port has no signal; running pods are left alone",
        next "look at cable, transceiver and switch port";
    PortSlow on NOT_READY,
        means "a port's link is slower than the Fabric expects; running pods are left alone",
        next "look at cable, transceiver and switch port, or correct the rail's speed";
    MtuTooSmall on NOT_READY,
        means "a port cannot carry the Fabric's MTU; no new pod is placed on it",
        next "the message names the port and the ways out";
    NoRdma on NOT_READY,
        means "functions of a port have no RDMA device although the Fabric needs one; no new pod is placed on it",
        next "the message names the port and the ways out";
    NotRegistered on NOT_READY,
        means "kubelet has not registered the agent's plugin yet",
        next "if it stays so, see the agent's log and kubelet's plugin folder";
    NotReadable on NOT_READY,
        means "the agent could not look at the node's ports",
        next "the message says what failed; it is tried again";
    TearingDown on NOT_READY,
        means "what Railhead changed on the node is being given back",
        next "the condition TornDown says what it waits for; unset spec.teardown of the Fabric to keep the node";

    Loaded on &[node("ChainReady")],
        means "the container runtime calls Railhead's CNI binary";
    PutBack on &[node("ChainReady")],
        means "somebody removed or replaced the CNI binary in the last ten minutes, and it was put back at once",
        next "if it comes again, find who does it: while no agent runs nobody puts it back, and every pod of the node waits";
    ChainPutBack on &[NODE],
        means "somebody removed or replaced the CNI binary, and it was put back at once",
        next "if it comes again, find who does it: while no agent runs nobody puts it back, and every pod of the node waits";
    ChainWithdrawn on &[NODE],
        means "the entry was taken out of the CNI chain, since every pod of the node would fail with it",
        next "the message says why; pods without rails start, those with rails wait for it to be mended";
    ChainNotLoaded on NO_CHAIN,
        means "the container runtime has not loaded the CNI chain entry",
        next "see in the file that the message names whether loadOnlyInlinedPlugins is set, or the first configuration is no list";
    ChainOverwritten on NO_CHAIN,
        means "somebody wrote the CNI configuration anew, and the container runtime has not loaded the entry in it yet",
        next "if it stays so, see the file that the message names";
    VersionNotSpoken on NO_CHAIN,
        means "the cluster network's conflist has a cniVersion that the CNI binary does not speak, so the entry is not in it",
        next "have the cluster network write one of the versions that the message lists";
    BinaryNotUsable on NO_CHAIN,
        means "the CNI binary cannot be started on the node",
        next "the message has the folder and what is wrong there: agent.paths.cniBinaries, cniBinariesMount";
    OtherFolder on &[
            node("ChainReady"), node("CdiReady"), node("Ready"), fabric("NodesReady"), fabric("Ready"),
        ],
        means "the container runtime looks in another folder than the agent writes to",
        next "the message names both folders and the value of the chart to set";

    Read on &[node("CdiReady")],
        means "the container runtime reads Railhead's CDI specs";
    NotTold on &[node("CdiReady")],
        means "the container runtime does not tell whether and where it reads CDI specs";
    CdiDisabled on NO_CDI,
        means "the container runtime resolves no CDI devices: containers with rails could not be created",
        next "set enable_cdi = true in containerd's CRI plugin and restart it";
    FolderMoved on NO_CDI,
        means "the folder of CDI specs was replaced under the agent's mount",
        next "delete the agent's pod on that node, so that the folder is mounted anew";
    NoLink on NO_CDI,
        means "the link by which agent and CNI binary find the CDI specs could not be made",
        next "remove what lies where the message says";

    Shared on &[node("RdmaReady")],
        means "RDMA devices can be given to pods, and programs can connect by rdma_cm";
    Exclusive on &[node("RdmaReady")],
        means "each network namespace has RDMA devices of its own, which Railhead does not wire: no pod is placed here",
        next "drain the node, run rdma system set netns shared and reboot; the ports' messages say more";
    NoConnectionManager on &[node("RdmaReady")],
        means "there is no /dev/infiniband/rdma_cm: programs that connect by rdma_cm fail, NCCL does not",
        next "modprobe rdma_ucm, and name it in /etc/modules-load.d";

    TornDown on &[node("TornDown")],
        means "what Railhead changed on the node is given back, but for what the message names";
    AttachmentsLeft on &[node("TornDown"), Place::Condition(Kind::NetworkSlice, "Releasable")],
        means "pods are still attached, and what they hold is not taken from them",
        next "delete the pods that the message names";
    Failed on &[node("TornDown")],
        means "something on the node could not be given back yet",
        next "the message says what; it is tried again";
}
