//! ADD: carry out the plan, or change nothing.

use std::{path::Path, time::Instant};

use railhead_host::{FileLock, InterfaceName, Link, Netns, PciAddress, RouteSocket};
use railhead_plan::{AttachmentPlan, AttachmentRecord, JOURNAL_VERSION, RECORD_VERSION, RailRecord};
use railhead_vf::{HostError, LinkState, wait};
use serde_json::Value;

use super::{
    plan,
    release::{make_way, release},
    this_boot,
};
use crate::{
    attachment_folder, cdi_nodes,
    context::{Context, Step},
    journal::{Journal, RailJournal},
    protocol::{CniError, Code, InterfaceResult, Request, extend_result, previous_result},
    settings,
    wiring::{Pod, Rail, RailRdma, WireError, wire_rail},
};

/// Wires the pod's rails behind the plugins before us.
pub(crate) fn add(context: &Context, request: &Request) -> Result<Value, CniError> {
    let start = Instant::now();
    let Some(plan) = plan(context, request)? else {
        return Ok(previous_result(&request.config));
    };
    // Everything is checked before anything is touched.
    let boot_id = this_boot()?;
    if plan.boot_id != boot_id {
        return Err(CniError::new(
            Code::TryAgain,
            format!(
                "the attachment plan of pod {} was made before the last boot; kubelet prepares the claim again when the railhead-agent is back",
                request.pod.full_name()
            ),
        ));
    }
    let rails = Rail::all(&plan).map_err(|error| CniError::new(Code::Decode, error.to_string()))?;
    let netns = open_netns(&request.netns)?;
    // A result that cannot be extended is found out now and not when the rails are wired.
    extend_result(&request.config, &request.netns, &[])?;

    let functions: Vec<&PciAddress> = rails.iter().map(|rail| &rail.vf).collect();
    make_way(context, &plan.pod.uid, &request.container_id, &functions)?;
    let locks = lock(context, &rails)?;
    // Whoever gives the claim back holds the functions until the plan is gone: after a wait for them it may be.
    if super::plan(context, request)?.as_ref() != Some(&plan) {
        return Err(CniError::new(
            Code::TryAgain,
            format!(
                "the attachment plan of pod {} went or changed while this call waited for its functions; kubelet prepares the claim again if the pod is to run",
                request.pod.full_name()
            ),
        ));
    }
    let observed = observe(context, request, &plan, &rails, &netns, boot_id)?;
    observed
        .journal
        .write(&context.layout)
        .map_err(|error| CniError::new(Code::Io, error.to_string()))?;
    let journal = observed.journal.clone();
    match carry_out(context, &plan, &rails, observed, &netns, start) {
        Ok(records) => extend_result(
            &request.config,
            &request.netns,
            &records.iter().zip(&rails).map(interface).collect::<Vec<_>>(),
        ),
        Err(Failure::Stopped) => Err(CniError::new(Code::Io, "stopped")),
        Err(Failure::Reported(error)) => {
            // The release takes the locks itself.
            drop(locks);
            Err(roll_back(context, &journal, error))
        }
    }
}

enum Failure {
    Stopped,
    Reported(CniError),
}

impl Failure {
    fn io(error: &impl ToString) -> Self {
        Self::Reported(CniError::new(Code::Io, error.to_string()))
    }
}

fn open_netns(path: &str) -> Result<Netns, CniError> {
    let error =
        |error: railhead_host::NetnsError| CniError::new(Code::InvalidEnvironment, format!("CNI_NETNS: {error}"));
    let netns = Netns::open(Path::new(path)).map_err(error)?;
    if netns.id() == Netns::current().map_err(error)?.id() {
        return Err(CniError::new(
            Code::InvalidNetns,
            format!("CNI_NETNS {path} is the host's own network namespace; a pod with hostNetwork cannot have rails"),
        ));
    }
    Ok(netns)
}

/// In the order of their names, so that two calls never wait for each other.
pub(super) fn lock(context: &Context, rails: &[Rail]) -> Result<Vec<FileLock>, CniError> {
    let mut functions: Vec<&str> = rails.iter().map(|rail| rail.vf.as_str()).collect();
    functions.sort_unstable();
    functions
        .iter()
        .map(|function| {
            FileLock::take(&context.layout.function_lock(function), context.lock_patience)
                .map_err(|error| CniError::new(Code::TryAgain, error.to_string()))
        })
        .collect()
}

/// What was there before the first change.
struct Observed {
    /// What the functions are like now, and what they will be.
    journal: Journal,
    links: Vec<Link>,
    /// Whether the claim's CDI spec lacks what only ADD knows.
    completes_cdi: bool,
}

fn observe(
    context: &Context,
    request: &Request,
    plan: &AttachmentPlan,
    rails: &[Rail],
    netns: &Netns,
    boot_id: String,
) -> Result<Observed, CniError> {
    let mut host = RouteSocket::open().map_err(|error| CniError::new(Code::Io, error.to_string()))?;
    let mut links = Vec::with_capacity(rails.len());
    let mut rail_journals = Vec::with_capacity(rails.len());
    for rail in rails {
        let error = |source| cni_error(rail, &WireError::Host(source));
        // The VF may still be on its way back from a namespace that ended.
        let link = wait(&context.sysfs(), &mut host, &rail.vf, context.return_patience).map_err(error)?;
        rail_journals.push(rail_journal(rail, link.clone()).map_err(error)?);
        links.push(link);
    }
    let completes_cdi = rails.iter().any(|rail| rail.rdma != RailRdma::None);
    if completes_cdi {
        cdi_nodes::check(&context.layout, &plan.claim_uid)
            .map_err(|error| CniError::new(error.code(), error.to_string()))?;
    }
    let journal = Journal {
        version: JOURNAL_VERSION,
        boot_id,
        container_id: request.container_id.clone(),
        if_name: request.if_name.clone(),
        network: request.config.name.clone(),
        netns: netns.path().to_owned(),
        netns_id: netns.id(),
        pod: plan.pod.clone(),
        rails: rail_journals,
    };
    Ok(Observed {
        journal,
        links,
        completes_cdi,
    })
}

fn rail_journal(rail: &Rail, link: Link) -> Result<RailJournal, HostError> {
    Ok(RailJournal {
        rail: rail.id,
        vf: rail.vf.clone(),
        has_parent: link.parent.is_some(),
        original: LinkState::of(&rail.vf, link)?,
        mac: rail.mac,
        temporary_name: InterfaceName::temporary(&rail.vf),
        final_name: rail.name.clone(),
        soft_rdma: match &rail.rdma {
            RailRdma::Soft(device) => Some(device.clone()),
            _ => None,
        },
        rules: rail.rules(),
    })
}

fn carry_out(
    context: &Context,
    plan: &AttachmentPlan,
    rails: &[Rail],
    Observed {
        journal,
        links,
        completes_cdi,
    }: Observed,
    netns: &Netns,
    start: Instant,
) -> Result<Vec<RailRecord>, Failure> {
    let step = |step| {
        if (context.after_step)(0, step) {
            Ok(())
        } else {
            Err(Failure::Stopped)
        }
    };
    step(Step::Journaled)?;
    let records = wire(context, rails, &journal, &links, netns)?;
    if completes_cdi {
        let uverbs: Vec<String> = records
            .iter()
            .filter_map(|record| record.rdma.as_ref().map(|rdma| rdma.uverbs.clone()))
            .collect();
        cdi_nodes::complete(&context.layout, &plan.claim_uid, &uverbs, context.sysfs().has_rdma_cm())
            .map_err(|error| Failure::io(&error))?;
    }
    step(Step::CdiCompleted)?;
    let record = AttachmentRecord {
        version: RECORD_VERSION,
        container_id: journal.container_id,
        pod: plan.pod.clone(),
        network: plan.network.clone(),
        slice_name: plan.slice_name.clone(),
        index: plan.index,
        pods: plan.pods,
        wired_in_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        rails: records,
    };
    let files = settings::files(plan, &record.rails);
    attachment_folder::make(&context.layout, &record, &files).map_err(|error| Failure::io(&error))?;
    step(Step::Recorded)?;
    Ok(record.rails)
}

/// All rails at once: most of the time is spent waiting for the kernel and the signal.
fn wire(
    context: &Context,
    rails: &[Rail],
    journal: &Journal,
    links: &[Link],
    netns: &Netns,
) -> Result<Vec<RailRecord>, Failure> {
    let pod = Pod::default();
    let jobs = rails.iter().zip(&journal.rails).zip(links);
    let results: Vec<Result<RailRecord, WireError>> = netns
        .run_each(jobs, |((rail, journal), link), door| {
            wire_rail(context, &pod, netns, door, rail, journal, link)
        })
        .into_iter()
        .map(|result| result.unwrap_or_else(|error| Err(WireError::Netns(error))))
        .collect();
    if results.iter().any(|result| matches!(result, Err(WireError::Stopped))) {
        return Err(Failure::Stopped);
    }
    let mut records = Vec::new();
    let mut errors = Vec::new();
    for (rail, result) in rails.iter().zip(results) {
        match result {
            Ok(record) => records.push(record),
            Err(error) => errors.push(cni_error(rail, &error)),
        }
    }
    match errors.split_first() {
        None => Ok(records),
        Some((first, others)) => {
            let mut error = first.clone();
            error.details = others
                .iter()
                .map(|other| other.message.as_str())
                .collect::<Vec<_>>()
                .join("; ");
            Err(Failure::Reported(error))
        }
    }
}

fn cni_error(rail: &Rail, error: &WireError) -> CniError {
    CniError::new(error.code(), format!("rail {}: {error}", rail.id))
}

/// The runtime also sends DEL after a failed ADD, but nothing obliges it to do so soon.
fn roll_back(context: &Context, journal: &Journal, mut error: CniError) -> CniError {
    if let Err(undo) = release(context, journal) {
        error.details = format!("{}; not all was undone: {}", error.details, undo.message);
    }
    error
}

fn interface((record, rail): (&RailRecord, &Rail)) -> InterfaceResult {
    InterfaceResult {
        name: record.name.to_string(),
        mac: record.mac.to_string(),
        mtu: record.mtu,
        pci_address: record.vf.to_string(),
        addresses: rail.addresses.clone(),
    }
}
