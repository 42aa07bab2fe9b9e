//! The verbs of the protocol, each one function from a request to an answer.

mod add;
mod check;
mod del;
mod gc;
mod release;
mod status;

pub(crate) use add::add;
pub(crate) use check::check;
pub(crate) use del::del;
pub(crate) use gc::gc;
pub(crate) use status::status;

use std::{fs, io};

use railhead_host::boot_id;
use railhead_plan::{AttachmentPlan, Layout};

use crate::{
    context::Context,
    protocol::{CniError, Code, Request, shorten},
};

/// The pod's plan: all that is asked of the file system for a pod that wants no network.
///
/// A pod with the annotation and without a plan is an error: its claim was not prepared here, so it must not start.
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
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return absent(),
        Err(error) => {
            return Err(CniError::new(
                Code::Io,
                format!("read the attachment plan {}: {error}", path.display()),
            ));
        }
    };
    let plan = AttachmentPlan::parse(&bytes)
        .map_err(|error| CniError::new(Code::Decode, format!("{}: {error}", path.display())))?;
    if plan.pod.uid != *uid {
        return Err(CniError::new(
            Code::Decode,
            format!(
                "{}: the attachment plan is for pod UID {}; delete the pod so that it is prepared again",
                path.display(),
                plan.pod.uid
            ),
        ));
    }
    Ok(Some(plan))
}

fn this_boot() -> Result<String, CniError> {
    boot_id(Layout::boot_id()).map_err(|error| CniError::new(Code::Io, error.to_string()))
}
