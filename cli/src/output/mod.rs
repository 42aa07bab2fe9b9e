//! How a report is shown: as a table for people, as JSON or YAML for programs.

mod age;
mod page;
mod safe;
mod schema;

use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::{
    cluster::{Cluster, Kind},
    exit::Exit,
};

pub(crate) use age::age;
pub(crate) use page::{Cell, Page};
pub(crate) use schema::schema;

/// `apiVersion` of what programs get. Fields are added to it, and none is taken away or changed.
pub(crate) const API_VERSION: &str = "cli.railhead.dev/v1alpha1";

/// How a report is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// The same with more columns and facts.
    Wide,
    /// For programs.
    Json,
    /// The same as YAML.
    Yaml,
}

/// What a command has to say. It is made of a [`Cluster`] alone, by a pure function.
pub(crate) trait Report: Serialize + JsonSchema {
    /// `kind` of what programs get.
    const KIND: &'static str;

    /// Writes it for people.
    fn show(&self, page: &mut Page);

    /// How the command ends, if all could be read.
    fn exit(&self) -> Exit;

    /// The kinds on which it rests that nothing is wrong.
    fn rests_on(&self) -> &[Kind] {
        &[]
    }
}

/// How the command ends: that nothing is wrong can be said by who has read what would tell only.
fn exit_of<R: Report>(cluster: &Cluster, report: &R) -> Exit {
    let has_read = report.rests_on().iter().all(|kind| cluster.has_read(*kind));
    match report.exit() {
        Exit::Fine if !has_read => Exit::CannotTell,
        exit => exit,
    }
}

/// Where reports go.
pub(crate) struct Output {
    format: Format,
}

impl Output {
    /// Standard output, in this format.
    pub(crate) fn to(format: Format) -> Self {
        Self { format }
    }

    /// Shows a report, and before it, to whoever looks on, what of the cluster could not be read.
    pub(crate) fn show<R: Report>(&self, cluster: &Cluster, report: &R) -> Exit {
        let text = render(self.format, cluster, report);
        for unread in &cluster.unread {
            complain(&unread.why);
        }
        print(text.as_bytes());
        exit_of(cluster, report)
    }
}

/// Writes to standard output. Colours go where they are seen; a reader that went away has read enough.
pub(crate) fn print(text: &[u8]) {
    let _ = anstream::stdout().write_all(text);
}

/// The text of a report. Colours are in it, for the stream to keep or take out.
pub(crate) fn render<R: Report>(format: Format, cluster: &Cluster, report: &R) -> String {
    match format {
        Format::Table | Format::Wide => {
            let mut page = Page::new(format == Format::Wide);
            report.show(&mut page);
            page.finish()
        }
        Format::Json => {
            safe::json(&serde_json::to_string_pretty(&document(cluster, report)).expect("keys are texts")) + "\n"
        }
        Format::Yaml => yaml(&document(cluster, report)),
    }
}

/// What programs get: which report it is, as of when, what could not be read, and the report's own fields.
fn document<R: Report>(cluster: &Cluster, report: &R) -> serde_json::Value {
    let mut document = json!({
        "apiVersion": API_VERSION,
        "kind": R::KIND,
        "readAt": cluster.read_at.to_string(),
        "notRead": cluster.unread.iter().map(|unread| &unread.why).collect::<Vec<_>>(),
        "exitCode": exit_of(cluster, report) as u8,
    });
    let fields = serde_json::to_value(report).expect("a report is an object whose keys are texts");
    if let (Some(document), serde_json::Value::Object(fields)) = (document.as_object_mut(), fields) {
        document.extend(fields);
    }
    document
}

fn yaml(document: &serde_json::Value) -> String {
    serde_saphyr::to_string(&safe::value(document)).expect("keys are texts")
}

/// Says in a line on standard error what is wrong.
pub(crate) fn complain(what: &str) {
    let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let _ = writeln!(
        anstream::stderr(),
        "{style}kubectl railhead:{style:#} {}",
        safe::text(what)
    );
}
