//! What people read: lines and aligned columns. Every text is made harmless here, so that no report can forget it.

use std::{fmt::Write as _, io::Write as _};

use anstyle::{AnsiColor, Style};
use tabwriter::TabWriter;

use super::safe;

/// What stands in a column: pieces of text, each in its colour.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pieces: Vec<(String, Style)>,
}

impl Cell {
    /// As it is.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::styled(text, Style::new())
    }

    /// A heading, or the name of what a line is about.
    pub(crate) fn bold(text: impl Into<String>) -> Self {
        Self::styled(text, Style::new().bold())
    }

    /// As it should be.
    pub(crate) fn good(text: impl Into<String>) -> Self {
        Self::styled(text, Style::new().fg_color(Some(AnsiColor::Green.into())))
    }

    /// Not as it should be.
    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self::styled(text, Style::new().fg_color(Some(AnsiColor::Red.into())))
    }

    /// Not yet as it should be.
    pub(crate) fn waits(text: impl Into<String>) -> Self {
        Self::styled(text, Style::new().fg_color(Some(AnsiColor::Yellow.into())))
    }

    /// Good or bad.
    pub(crate) fn good_if(is_good: bool, text: impl Into<String>) -> Self {
        if is_good { Self::good(text) } else { Self::bad(text) }
    }

    /// Beside the point: where it was read, how old it is.
    pub(crate) fn dim(text: impl Into<String>) -> Self {
        Self::styled(text, Style::new().dimmed())
    }

    /// And this behind it.
    pub(crate) fn and(mut self, other: impl Into<Self>) -> Self {
        self.pieces.extend(other.into().pieces);
        self
    }

    fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            pieces: vec![(text.into(), style)],
        }
    }

    fn write(&self, out: &mut String) {
        for (text, style) in &self.pieces {
            let text = safe::text(text);
            let _ = if *style == Style::new() || text.is_empty() {
                write!(out, "{text}")
            } else {
                write!(out, "{style}{text}{style:#}")
            };
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::plain(text)
    }
}

/// A page of text. Rows that follow one another have their columns below one another.
#[derive(Debug)]
pub(crate) struct Page {
    wide: bool,
    text: String,
}

impl Page {
    pub(super) fn new(wide: bool) -> Self {
        Self {
            wide,
            text: String::new(),
        }
    }

    /// Whether more is wanted than fits most terminals.
    pub(crate) fn is_wide(&self) -> bool {
        self.wide
    }

    /// A line without columns.
    pub(crate) fn line(&mut self, cell: impl Into<Cell>) {
        cell.into().write(&mut self.text);
        self.text.push('\n');
    }

    /// A row of columns, `indent` spaces from the margin.
    pub(crate) fn row<C: Into<Cell>>(&mut self, indent: usize, cells: impl IntoIterator<Item = C>) {
        self.text.extend(std::iter::repeat_n(' ', indent));
        for (column, cell) in cells.into_iter().enumerate() {
            if column > 0 {
                self.text.push('\t');
            }
            cell.into().write(&mut self.text);
        }
        self.text.push('\n');
    }

    /// An empty line between parts; none at the top.
    pub(crate) fn gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    pub(super) fn finish(self) -> String {
        let mut aligned = TabWriter::new(Vec::new()).padding(2).minwidth(0);
        aligned.write_all(self.text.as_bytes()).expect("memory takes it");
        let aligned = aligned.into_inner().expect("memory takes it");
        let aligned = String::from_utf8(aligned).expect("it was text before");
        // A last column that is empty leaves spaces behind.
        let lines = aligned.lines().map(|line| line.trim_end().to_owned() + "\n");
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_one_another_and_no_name_breaks_out_of_its_own() {
        let mut page = Page::new(false);
        page.line(Cell::bold("Networks"));
        page.row(2, ["NAME", "PODS", "NOTE"]);
        page.row(2, ["team-a/llama", "32", ""]);
        page.row(2, ["evil\tx\n\u{1b}[2J", "1", "<b>"]);
        page.gap();
        page.row(0, ["a", "b"]);
        let shown = anstream::adapter::strip_str(&page.finish()).to_string();
        assert_eq!(
            shown,
            "Networks\n  NAME                PODS  NOTE\n  team-a/llama        32\n  evil\\tx\\n\\u{1b}[2J  1     <b>\n\na  b\n"
        );
    }
}
