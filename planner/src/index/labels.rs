//! The labels and annotations by which frameworks say who a pod is, as their sources have them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use railhead_crds::names;

/// A key under which a framework writes, as label or as annotation or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) &'static str);

impl Key {
    pub(super) fn label(self, metadata: &ObjectMeta) -> Option<&str> {
        get(metadata.labels.as_ref(), self)
    }

    pub(super) fn annotation(self, metadata: &ObjectMeta) -> Option<&str> {
        get(metadata.annotations.as_ref(), self)
    }

    pub(super) fn is_on(self, metadata: &ObjectMeta) -> bool {
        self.label(metadata).or_else(|| self.annotation(metadata)).is_some()
    }
}

fn get(map: Option<&BTreeMap<String, String>>, key: Key) -> Option<&str> {
    map?.get(key.0).map(String::as_str)
}

/// Label (Kubernetes 1.28) and annotation of the pods of an Indexed Job (`pkg/controller/job/indexed_job_utils.go`).
pub(super) const JOB_COMPLETION_INDEX: Key = Key(names::JOB_COMPLETION_INDEX);
/// Label of the pods of a StatefulSet (Kubernetes 1.28, `updateIdentity` in `pkg/controller/statefulset/stateful_set_utils.go`).
pub(super) const POD_INDEX: Key = Key("apps.kubernetes.io/pod-index");

/// Labels and annotations of `JobSet` (`labelAndAnnotateObject` in `pkg/controllers/jobset_controller.go`, v0.5 to v0.12): each of
/// them is written as both, on the Job and on its pods.
pub(super) const JOBSET_NAME: Key = Key("jobset.sigs.k8s.io/jobset-name");
/// Name of the replicated job.
pub(super) const REPLICATED_JOB: Key = Key("jobset.sigs.k8s.io/replicatedjob-name");
/// How many Jobs the replicated job has.
pub(super) const REPLICATED_JOB_REPLICAS: Key = Key("jobset.sigs.k8s.io/replicatedjob-replicas");
/// How many Jobs the `JobSet` has (v0.6).
pub(super) const GLOBAL_REPLICAS: Key = Key("jobset.sigs.k8s.io/global-replicas");
/// Which of the replicated job's Jobs. `job-global-index` beside it counts those of replicated jobs without our label as well
/// (`globalJobIndex`), and is not read: a launcher in front would shift everybody.
pub(super) const JOB_INDEX: Key = Key("jobset.sigs.k8s.io/job-index");

/// Labels of training-operator 1.9 (`pkg/apis/kubeflow.org/v1/common_types.go`) and mpi-operator (`pkg/apis/kubeflow/v2beta1/constants.go`).
pub(super) const KUBEFLOW_REPLICA_INDEX: Key = Key("training.kubeflow.org/replica-index");
/// `master`, `worker`: the replica type in lower case.
pub(super) const KUBEFLOW_REPLICA_TYPE: Key = Key("training.kubeflow.org/replica-type");
/// Which operator made the pod.
pub(super) const KUBEFLOW_OPERATOR: Key = Key("training.kubeflow.org/operator-name");
/// Name of the job, as the pod's owner or its Job's owner has it.
pub(super) const KUBEFLOW_JOB_NAME: Key = Key("training.kubeflow.org/job-name");
/// `launcher` or `worker` of an `MPIJob`.
pub(super) const KUBEFLOW_JOB_ROLE: Key = Key("training.kubeflow.org/job-role");

/// Labels of `LeaderWorkerSet` (`api/leaderworkerset/v1/leaderworkerset_types.go`, v0.7 to v0.9): its name.
pub(super) const LWS_NAME: Key = Key("leaderworkerset.sigs.k8s.io/name");
/// The group of the pod.
pub(super) const LWS_GROUP_INDEX: Key = Key("leaderworkerset.sigs.k8s.io/group-index");
/// Its place in the group; the leader has 0.
pub(super) const LWS_WORKER_INDEX: Key = Key("leaderworkerset.sigs.k8s.io/worker-index");

/// Labels of `KubeRay` (`ray-operator/controllers/ray/utils/constant.go`): `head` or `worker`.
pub(super) const RAY_NODE_TYPE: Key = Key("ray.io/node-type");
/// The worker group; the head's is `headgroup`.
pub(super) const RAY_GROUP: Key = Key("ray.io/group");
/// Which replica of its group (feature gate `RayMultiHostIndexing`: off in v1.5, on since v1.6; `BuildPodTemplate…` in `common/pod.go`).
pub(super) const RAY_REPLICA_INDEX: Key = Key("ray.io/worker-group-replica-index");
/// Which host of a replica that has several; absent where each has one.
pub(super) const RAY_HOST_INDEX: Key = Key("ray.io/replica-host-index");

/// Those that number pods.
pub(super) const NUMBERS: [Key; 6] = [
    JOB_COMPLETION_INDEX,
    POD_INDEX,
    JOB_INDEX,
    KUBEFLOW_REPLICA_INDEX,
    LWS_WORKER_INDEX,
    RAY_REPLICA_INDEX,
];

/// All keys that are read here, for whoever keeps of a pod what is read.
pub const READ: [&str; 19] = [
    JOB_COMPLETION_INDEX.0,
    POD_INDEX.0,
    JOBSET_NAME.0,
    REPLICATED_JOB.0,
    REPLICATED_JOB_REPLICAS.0,
    GLOBAL_REPLICAS.0,
    JOB_INDEX.0,
    KUBEFLOW_REPLICA_INDEX.0,
    KUBEFLOW_REPLICA_TYPE.0,
    KUBEFLOW_OPERATOR.0,
    KUBEFLOW_JOB_NAME.0,
    KUBEFLOW_JOB_ROLE.0,
    LWS_NAME.0,
    LWS_GROUP_INDEX.0,
    LWS_WORKER_INDEX.0,
    RAY_NODE_TYPE.0,
    RAY_GROUP.0,
    RAY_REPLICA_INDEX.0,
    RAY_HOST_INDEX.0,
];
