//! CHECK: is everything that ADD made still there?

use std::path::Path;

use railhead_host::Netns;
use railhead_plan::AttachmentRecord;

use super::{add::lock, plan};
use crate::{
    context::Context,
    journal::Journal,
    protocol::{CniError, Code, Request},
    wiring::{Rail, check_rail, repair_rail},
};

/// Compares plan, record, kernel and PF; an error names everything that differs.
pub(crate) fn check(context: &Context, request: &Request) -> Result<(), CniError> {
    let journal = Journal::read(&context.layout, &request.container_id);
    let Some(plan) = plan(context, request)? else {
        return match journal {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(CniError::new(
                Code::Drifted,
                format!(
                    "pod {} is wired but its attachment plan is gone; delete the pod to have it wired again",
                    request.pod.full_name()
                ),
            )),
            // A pod that wants no rails: the state of the node's folders is nothing to it.
            Err(error) => {
                context.log.note(error.to_string());
                Ok(())
            }
        };
    };
    if request.config.previous_result.is_none() {
        return Err(CniError::new(
            Code::InvalidConfig,
            "CHECK needs the result of ADD as prevResult",
        ));
    }
    let mut drift = Vec::new();
    match journal {
        Ok(Some(_)) => {}
        Ok(None) => drift.push(format!("sandbox {} was never wired", request.container_id)),
        Err(error) => drift.push(error.to_string()),
    }
    let record = record(context, &plan.pod.uid, &request.container_id)
        .map_err(|what| drift.push(what))
        .ok();
    let rails = Rail::all(&plan).map_err(|error| CniError::new(Code::Decode, error.to_string()))?;
    let netns = Netns::open(Path::new(&request.netns))
        .map_err(|error| CniError::new(Code::InvalidEnvironment, format!("CNI_NETNS: {error}")))?;
    let mut rail_drift = compare(context, &netns, &rails, record.as_ref());
    if context.repair && drift.is_empty() && !rail_drift.is_empty() {
        repair(context, request, &netns, &rails)?;
        rail_drift = compare(context, &netns, &rails, record.as_ref());
    }
    drift.extend(rail_drift);
    if drift.is_empty() {
        return Ok(());
    }
    let mut error = CniError::new(
        Code::Drifted,
        format!(
            "pod {}/{} is not wired as planned: {}; delete the pod to have it wired again",
            plan.pod.namespace,
            plan.pod.name,
            drift.join("; ")
        ),
    );
    // For the agent: one difference a line.
    error.details = drift.join("\n");
    Err(error)
}

/// What of the rails is not as ADD made it.
fn compare(context: &Context, netns: &Netns, rails: &[Rail], record: Option<&AttachmentRecord>) -> Vec<String> {
    let mut drift = Vec::new();
    for rail in rails {
        let of_rail = record.and_then(|record| record.rails.iter().find(|other| other.rail == rail.id));
        match check_rail(context, netns, rail, of_rail) {
            Ok(found) => drift.extend(found),
            Err(error) => drift.push(format!("rail {}: {error}", rail.id)),
        }
    }
    drift
}

/// Under the locks under which a sandbox is wired and given back: what DEL is taking away is not set again.
fn repair(context: &Context, request: &Request, netns: &Netns, rails: &[Rail]) -> Result<(), CniError> {
    let _locks = lock(context, rails)?;
    let Some(plan) = plan(context, request)? else {
        return Ok(());
    };
    let wired = record(context, &plan.pod.uid, &request.container_id).is_ok()
        && matches!(Journal::read(&context.layout, &request.container_id), Ok(Some(_)));
    if !wired {
        return Ok(());
    }
    for rail in rails {
        if let Err(error) = repair_rail(context, netns, rail) {
            context.log.note(format!("{} cannot be put right: {error}", rail.name));
        }
    }
    Ok(())
}

fn record(context: &Context, pod_uid: &str, container_id: &str) -> Result<AttachmentRecord, String> {
    let path = context.layout.record(pod_uid);
    let record: AttachmentRecord = railhead_store::read(&path).map_err(|error| error.to_string())?;
    if record.container_id == container_id {
        Ok(record)
    } else {
        Err(format!("{} is of sandbox {}", path.display(), record.container_id))
    }
}
