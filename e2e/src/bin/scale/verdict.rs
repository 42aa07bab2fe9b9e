//! Each figure beside its limit, as soon as it is known.

use std::fmt::Display;

use railhead_e2e::lab::progress::elapsed;

/// What was measured, and what of it is above its limit.
#[derive(Default)]
pub(crate) struct Verdict {
    lines: Vec<String>,
    above: Vec<String>,
}

impl Verdict {
    /// A figure that must not be above `limit`.
    pub(crate) fn at_most(&mut self, what: impl Display, figure: f64, limit: f64, unit: &str) {
        self.tell(
            figure <= limit,
            &format!("{what}: {figure:.2} {unit} (at most {limit})"),
        );
    }

    /// A figure that must not be below `limit`.
    pub(crate) fn at_least(&mut self, what: impl Display, figure: f64, limit: f64, unit: &str) {
        self.tell(
            figure >= limit,
            &format!("{what}: {figure:.2} {unit} (at least {limit})"),
        );
    }

    /// A figure without a limit.
    pub(crate) fn note(&mut self, text: impl Display) {
        self.line(format!("      {text}"));
    }

    /// A step that came to no figure. The others go on.
    pub(crate) fn failed(&mut self, what: impl Display, error: &anyhow::Error) {
        self.tell(false, &format!("{what}: not measured: {error:#}"));
    }

    fn tell(&mut self, is_within: bool, text: &str) {
        if !is_within {
            self.above.push(text.to_owned());
        }
        self.line(format!("{} {text}", if is_within { "ok   " } else { "ABOVE" }));
    }

    fn line(&mut self, line: String) {
        println!("[{:6.1}s] {line}", elapsed());
        self.lines.push(line);
    }

    /// All once more, and whether all were within their limits.
    pub(crate) fn end(self) -> bool {
        println!("\n{}", self.lines.join("\n"));
        if !self.above.is_empty() {
            println!("\n{} above their limits:\n{}", self.above.len(), self.above.join("\n"));
        }
        self.above.is_empty()
    }
}
