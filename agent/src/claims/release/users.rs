//! Who uses a claim beside the pod that it was prepared for.
//!
//! A pod may name the claim of another one (`resourceClaimName`), and kubelet starts it with that pod's devices without asking the
//! driver. The chart's policies refuse such a pod; one that is older than they are, or that came while they were off, is there all
//! the same. When the first pod ends, kubelet asks for nothing as long as the second one runs, and for the collector the first one is gone. So
//! the claim itself is read before its functions go to others: it says for which pods it is reserved.

use k8s_openapi::api::{core::v1::Pod, resource::v1::ResourceClaim};
use kube::Api;
use railhead_plan::{AttachmentPlan, PodRef};

use super::{Programs, ReleaseError};
use railhead_crds::reasons::Reason;

use crate::agent::Agent;

/// The pods that a claim is reserved for and that have not ended.
#[derive(Debug, Default)]
pub(in crate::claims) struct Users {
    /// The pod of the plan is among them.
    own: bool,
    others: Vec<User>,
}

#[derive(Debug)]
struct User {
    pod: PodRef,
    /// Its containers were started.
    runs: bool,
}

/// Asks the API server now who uses the claim of a plan. Nobody does if the claim is gone; a plan of release 0.1 does not name it.
pub(in crate::claims) async fn of_plan(agent: &Agent, plan: &AttachmentPlan) -> Result<Users, ReleaseError> {
    let mut users = Users::default();
    let Some(name) = &plan.claim_name else {
        return Ok(users);
    };
    let namespace = &plan.pod.namespace;
    let failed = |kind, name: &str, source| ReleaseError::Read {
        kind,
        namespace: namespace.clone(),
        name: name.to_owned(),
        source: Box::new(source),
    };
    let claims: Api<ResourceClaim> = Api::namespaced(agent.client.clone(), namespace);
    let claim = claims
        .get_opt(name)
        .await
        .map_err(|source| failed("ResourceClaim", name, source))?;
    let Some(claim) = claim.filter(|claim| claim.metadata.uid.as_ref() == Some(&plan.claim_uid)) else {
        return Ok(users);
    };
    let reserved: Vec<_> = claim.status.and_then(|status| status.reserved_for).unwrap_or_default();
    // The usual case: one more request would be one for each pod that ends.
    if reserved.iter().all(|consumer| consumer.uid == plan.pod.uid) {
        users.own = !reserved.is_empty();
        return Ok(users);
    }
    let pods: Api<Pod> = Api::namespaced(agent.client.clone(), namespace);
    for consumer in reserved.into_iter().filter(|consumer| consumer.resource == "pods") {
        let pod = pods
            .get_opt(&consumer.name)
            .await
            .map_err(|source| failed("Pod", &consumer.name, source))?;
        let Some(pod) = pod.filter(|pod| pod.metadata.uid.as_deref() == Some(&*consumer.uid)) else {
            continue;
        };
        match pod.status.and_then(|status| status.phase).as_deref() {
            Some("Succeeded" | "Failed") => {}
            _ if consumer.uid == plan.pod.uid => users.own = true,
            phase => users.others.push(User {
                pod: PodRef {
                    namespace: namespace.clone(),
                    name: consumer.name,
                    uid: consumer.uid,
                },
                runs: phase == Some("Running"),
            }),
        }
    }
    Ok(users)
}

impl Users {
    /// Names of the pods because of which the functions stay where they are; none if they may be given back.
    ///
    /// kubelet calls Unprepare when the last pod that it knows with the claim has ended, and that pod does not count as ended before
    /// the call has succeeded. So a single one that lives is the one it speaks of; if there are two that run, kubelet has
    /// forgotten one. Where nobody says that programs have ended, everybody who lives counts.
    pub(super) fn hindering(&self, programs: Programs) -> Vec<String> {
        let names = |users: &[&User]| users.iter().map(|user| user.pod.name.clone()).collect();
        let others: Vec<&User> = self.others.iter().collect();
        match programs {
            Programs::Unknown => names(&others),
            Programs::Ended => {
                let running: Vec<&User> = others.into_iter().filter(|user| user.runs).collect();
                if running.len() + usize::from(self.own) > 1 {
                    names(&running)
                } else {
                    Vec::new()
                }
            }
        }
    }

    /// Says on both pods and on the attachment that others use the claim, or that nobody does any more.
    pub(in crate::claims) fn tell(&self, agent: &Agent, plan: &AttachmentPlan) {
        let uid = &plan.pod.uid;
        if self.others.is_empty() {
            forget(agent, uid);
            return;
        }
        let message = message(plan, &self.others);
        let is_news = agent
            .shared
            .send_if_modified(|shared| shared.insert(uid.clone(), message.clone()).as_ref() != Some(&message));
        if is_news {
            tracing::warn!(pod = plan.pod.name, namespace = plan.pod.namespace, "{message}");
            for other in &self.others {
                agent.events.warning(&other.pod, Reason::ClaimShared, message.clone());
            }
            // Says it on the attachment, and on the pod of the plan.
            agent.attachments_changed.notify_one();
        }
    }
}

/// Nobody but the pod itself uses its claim, or nobody at all.
pub(in crate::claims) fn forget(agent: &Agent, pod_uid: &str) {
    let was_there = agent.shared.send_if_modified(|shared| shared.remove(pod_uid).is_some());
    if was_there {
        agent.attachments_changed.notify_one();
    }
}

fn message(plan: &AttachmentPlan, others: &[User]) -> String {
    let names: Vec<&str> = others.iter().map(|user| user.pod.name.as_str()).collect();
    let names = names.join(", ");
    format!(
        "claim {} of pod {} is used by {names} too, which kubelet starts with the same functions: one claim is for one pod. They stay held, \
         also after {} has ended; delete {names}",
        plan.claim_name.as_deref().unwrap_or(&plan.claim_uid),
        plan.pod.name,
        plan.pod.name,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(own: bool, others: &[(&str, bool)]) -> Users {
        let others = others.iter().map(|(name, runs)| User {
            pod: PodRef {
                namespace: "team-a".to_owned(),
                name: (*name).to_owned(),
                uid: format!("uid-{name}"),
            },
            runs: *runs,
        });
        Users {
            own,
            others: others.collect(),
        }
    }

    #[test]
    fn kubelet_speaks_of_the_last_pod_and_nobody_speaks_for_those_that_the_collector_finds() {
        let both = |users: &Users| [Programs::Ended, Programs::Unknown].map(|programs| users.hindering(programs));
        let none: [Vec<String>; 2] = [vec![], vec![]];
        assert_eq!(both(&users(true, &[])), none, "its own pod, which ends");
        assert_eq!(both(&users(false, &[])), none);
        let forgotten = both(&users(true, &[("b", true)]));
        assert_eq!(forgotten, [["b"], ["b"]], "kubelet has forgotten one of two");
        let last = both(&users(false, &[("b", true)]));
        assert_eq!(last, [vec![], vec!["b".to_owned()]], "the last one, which ends");
        let waiting = both(&users(true, &[("b", false)]));
        assert_eq!(
            waiting,
            [vec![], vec!["b".to_owned()]],
            "it has nothing of the claim yet"
        );
        let two = both(&users(false, &[("b", true), ("c", true)]));
        assert_eq!(two, [["b", "c"], ["b", "c"]]);
    }
}
