//! The verbs of the protocol, each one function from a request to an answer.

mod add;
mod check;
mod del;
mod gc;
mod release;

pub(crate) use add::add;
pub(crate) use check::check;
pub(crate) use del::del;
pub(crate) use gc::gc;

use std::path::Path;

use railhead_host::boot_id;
use railhead_plan::{AttachmentPlan, Layout};
use railhead_store::{self as store, ReadError};

use crate::{
    context::Context,
    protocol::{CniError, Code, Request, shorten},
};

/// The pod's plan: all that is asked of the file system for a pod that wants no network.
///
/// A pod with the annotation and without a plan is an error: its claim was not prepared here, so it must not start. A pod
/// without the annotation does not suffer from what is found in the place of a plan. Should it want rails all the same,
/// because its runtime hands over no annotations, then its containers lack a source to mount and do not start either.
fn plan(context: &Context, request: &Request) -> Result<Option<AttachmentPlan>, CniError> {
    let absent = || match &request.config.attach {
        None => Ok(None),
        Some(network) => Err(CniError::new(
            Code::NoPlan,
            format!(
                "pod {} asks for network {} but this node has no attachment plan for it; look at the events of the pod and its claim, and at the railhead-agent on this node",
                request.pod.full_name(),
                shorten(network)
            ),
        )),
    };
    let Some(uid) = &request.pod.uid else {
        return absent();
    };
    let path = context.layout.plan(uid);
    let read = match store::read(&path) {
        Err(error) if error.is_absent() => return absent(),
        Err(error @ ReadError::Format { .. }) => Err(CniError::new(Code::Decode, error.to_string())),
        Err(error) if error.is_damaged() => Err(CniError::new(
            Code::Decode,
            format!("the attachment plan {error}, then delete the pod so that it is prepared again"),
        )),
        Err(error) => Err(CniError::new(Code::Io, format!("the attachment plan: {error}"))),
        Ok(plan) => of_pod(&path, uid, plan),
    };
    match read {
        Err(error) if request.config.attach.is_none() => {
            context
                .log
                .note(format!("pod {} asks for no network: {error}", request.pod.full_name()));
            Ok(None)
        }
        read => read.map(Some),
    }
}

fn of_pod(path: &Path, uid: &str, plan: AttachmentPlan) -> Result<AttachmentPlan, CniError> {
    if plan.pod.uid != uid {
        return Err(CniError::new(
            Code::Decode,
            format!(
                "{}: the attachment plan is for pod UID {}; delete the pod so that it is prepared again",
                path.display(),
                shorten(&plan.pod.uid)
            ),
        ));
    }
    Ok(plan)
}

fn this_boot() -> Result<String, CniError> {
    boot_id(Layout::boot_id()).map_err(|error| CniError::new(Code::Io, error.to_string()))
}
