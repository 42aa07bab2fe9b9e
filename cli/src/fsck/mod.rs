//! `fsck`: reads all records together and says which contradict each other; repairs what is safe if asked to.

mod attachments;
mod claims;
mod finding;
mod ledgers;
mod nodes;
mod repair;
mod seen;
mod slices;
mod stuck;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::sound;
mod twice;

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use k8s_openapi::jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Serialize;

use self::{
    finding::{Check, Finding, Who},
    seen::Seen,
};
use crate::{
    Asked,
    cluster::{self, Cluster, Kind, ReadError, Unread, Wanted},
    exit::Exit,
    output::{Cell, Page, Report},
};

/// A cluster that works changes while it is read, and what was read first may not fit what was read last. So whatever is found is looked
/// for again after so long, and told only if it is still there.
const SETTLE: Duration = Duration::from_secs(2);
/// What is compared. Whatever is missing of it would be found to be gone.
const COMPARED: [Kind; 11] = [
    Kind::Fabrics,
    Kind::Ledgers,
    Kind::Networks,
    Kind::Slices,
    Kind::Attachments,
    Kind::NodeNetworks,
    Kind::Nodes,
    Kind::Pods,
    Kind::Claims,
    Kind::Templates,
    Kind::Ports,
];
/// Findings of one rule that a table shows.
const SHOWN: usize = 20;

/// Whether to repair, and when a reservation counts as forgotten.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Repair what is safe and what nobody else would. Records are written by members of guards.breakGlassGroups of the Helm chart only.
    #[arg(long)]
    repair: bool,
    /// After how many hours without a pod a reservation is told.
    #[arg(long, value_name = "HOURS", default_value_t = 72)]
    idle: u32,
}

/// Reads, reports, repairs and shows.
pub(crate) async fn run(asked: &Asked, args: &Args) -> Result<Exit, ReadError> {
    let is_live = asked.from.saved.is_empty();
    if args.repair && !is_live {
        return Err(ReadError::Usage(
            "what was saved cannot be repaired: leave out --from".to_owned(),
        ));
    }
    let idle = SignedDuration::from_hours(i64::from(args.idle));
    let namespace = asked.from.namespace.as_deref();
    let mut cluster = asked.read(wanted()).await?;
    if !is_live {
        not_in_files(&mut cluster);
    }
    let mut report = report(&cluster, idle).about(namespace);
    if is_live && !report.findings.is_empty() {
        tokio::time::sleep(SETTLE).await;
        cluster = asked.read(wanted()).await?;
        report = confirmed(self::report(&cluster, idle).about(namespace), &report);
    }
    if args.repair && report.findings.iter().any(|finding| finding.who == Who::Repairable) {
        let client = cluster::connect(&asked.from).await?;
        repair::repair(&client, &mut report.findings).await;
    }
    Ok(asked.show(&cluster, &report))
}

fn wanted() -> Wanted {
    Wanted::all_of(COMPARED).with_rails().of_all_namespaces()
}

/// A kind of which nothing was saved is one that was not saved, or of which there was nothing: nobody can tell.
fn not_in_files(cluster: &mut Cluster) {
    let counts = [
        cluster.fabrics.len(),
        cluster.ledgers.len(),
        cluster.networks.len(),
        cluster.slices.len(),
        cluster.attachments.len(),
        cluster.node_networks.len(),
        cluster.nodes.len(),
        cluster.pods.len(),
        cluster.claims.len(),
        cluster.templates.len(),
        cluster.ports.len(),
    ];
    let absent = COMPARED.into_iter().zip(counts).filter(|(_, count)| *count == 0);
    cluster.unread.extend(absent.map(|(kind, _)| Unread {
        kind,
        why: format!(
            "there are no {kind:?} in the saved files: save them too, or nobody can tell whether there were any"
        ),
    }));
}

/// The report.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FsckReport {
    /// Whether all could be read. Else nothing is repaired, and nothing is told that may be so only because something was not seen.
    complete: bool,
    /// What was compared.
    compared: Compared,
    /// What is not as it should be, by rule and object.
    findings: Vec<Finding>,
}

/// How much was compared.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Compared {
    networks: usize,
    slices: usize,
    attachments: usize,
    claims: usize,
    nodes: usize,
}

/// What there is to say of a cluster.
fn report(cluster: &Cluster, idle: SignedDuration) -> FsckReport {
    let seen = Seen::new(cluster);
    let mut findings = Vec::new();
    ledgers::check(&seen, &mut findings);
    slices::check(&seen, idle, &mut findings);
    attachments::check(&seen, &mut findings);
    claims::check(&seen, &mut findings);
    nodes::check(&seen, &mut findings);
    stuck::check(&seen, &mut findings);
    findings.sort_by(|a, b| a.id().cmp(&b.id()));
    let complete = COMPARED.iter().all(|kind| cluster.has_read(*kind));
    if !complete {
        findings.retain(|finding| !finding.check.rests_on_absence());
        findings.iter_mut().for_each(Finding::leave);
    }
    FsckReport {
        complete,
        compared: Compared {
            networks: cluster.networks.len(),
            slices: cluster.slices.len(),
            attachments: cluster.attachments.len(),
            claims: cluster.claims.len(),
            nodes: cluster.node_networks.len(),
        },
        findings,
    }
}

/// What the second look has found and the first one too.
fn confirmed(mut second: FsckReport, first: &FsckReport) -> FsckReport {
    let before: HashSet<_> = first.findings.iter().map(Finding::id).collect();
    second.findings.retain(|finding| before.contains(&finding.id()));
    second
}

impl Report for FsckReport {
    const KIND: &'static str = "Fsck";

    fn show(&self, page: &mut Page) {
        let compared = &self.compared;
        page.line(format!(
            "compared: networks {}, slices {}, attachments {}, claims {}, nodes {}",
            compared.networks, compared.slices, compared.attachments, compared.claims, compared.nodes
        ));
        let mut by_check: BTreeMap<Check, Vec<&Finding>> = BTreeMap::new();
        for finding in &self.findings {
            by_check.entry(finding.check).or_default().push(finding);
        }
        for (check, findings) in by_check {
            page.gap();
            page.line(Cell::bold(format!("{check:?}  {}", findings.len())));
            let shown = if page.is_wide() { findings.len() } else { SHOWN };
            for finding in findings.iter().take(shown) {
                show(finding, page);
            }
            if findings.len() > shown {
                page.line(Cell::dim(format!(
                    "  and {} more: -o wide shows all",
                    findings.len() - shown
                )));
            }
        }
        page.gap();
        if !self.complete {
            page.line(Cell::bad(
                "not everything could be read: nothing is repaired, and what may only not have been seen is not told",
            ));
        }
        page.line(self.summary());
    }

    fn exit(&self) -> Exit {
        let is_open = |finding: &Finding| !finding.repaired.as_ref().is_some_and(|repaired| repaired.done);
        if !self.complete {
            Exit::CannotTell
        } else if self.findings.iter().any(is_open) {
            Exit::Wrong
        } else {
            Exit::Fine
        }
    }
}

impl FsckReport {
    /// What concerns a namespace, if one is named. All is compared all the same: what contradicts it may be of another.
    fn about(mut self, namespace: Option<&str>) -> Self {
        if let Some(namespace) = namespace {
            self.findings.retain(|finding| finding.concerns(namespace));
        }
        self
    }

    fn summary(&self) -> Cell {
        if self.findings.is_empty() && self.complete {
            return Cell::good("nothing contradicts anything");
        }
        let of = |who: Who| self.findings.iter().filter(|finding| finding.who == who).count();
        let repaired = self.findings.iter().filter_map(|finding| finding.repaired.as_ref());
        let done = repaired.filter(|repaired| repaired.done).count();
        let repairable = match (of(Who::Repairable), done) {
            (0, _) => String::new(),
            (all, 0) => format!("{all} repairable with --repair, "),
            (all, done) => format!("{done} of {all} repaired, "),
        };
        Cell::plain(format!(
            "{} found: {repairable}{} will come right by themselves, {} for a person",
            self.findings.len(),
            of(Who::ByItself),
            of(Who::ByHand)
        ))
    }
}

fn show(finding: &Finding, page: &mut Page) {
    let text = Cell::bad(&finding.text);
    page.line(Cell::plain("  ").and(Cell::bold(&finding.object)).and("  ").and(text));
    if !finding.help.is_empty() {
        page.line(format!("      do: {}", finding.help));
    }
    let why = &finding.why;
    page.line(match (finding.who, &finding.repaired) {
        (_, Some(repaired)) if repaired.done => Cell::good(format!("      repaired: {}", repaired.text)),
        (_, Some(repaired)) => Cell::bad(format!("      not repaired: {}", repaired.text)),
        (Who::Repairable, None) => Cell::waits(format!("      --repair: {why}")),
        (Who::ByItself, None) => Cell::dim(format!("      by itself: {why}")),
        (Who::ByHand, None) => Cell::dim(format!("      not repaired: {why}")),
    });
}
