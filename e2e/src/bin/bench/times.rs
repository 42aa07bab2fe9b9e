//! Medians and ratios, as tables.

use std::{fmt::Write, time::Duration};

/// Times of one thing, in milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.add_ms(time.as_secs_f64() * 1e3);
    }

    pub(crate) fn add_ms(&mut self, ms: f64) {
        self.0.push(ms);
    }

    /// The middle one; of an even number the upper of both.
    pub(crate) fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    fn range(&self) -> (f64, f64) {
        self.0.iter().fold((f64::INFINITY, 0.0), |(low, high), ms| {
            (f64::min(low, *ms), f64::max(high, *ms))
        })
    }
}

/// Rows of medians with their range and their ratio to the first row.
pub(crate) fn table(title: &str, rows: &[(&str, Times)]) -> String {
    let mut text = format!(
        "\n  {title:<58} {:>9} {:>17} {:>7}\n",
        "median", "lowest..highest", "ratio"
    );
    let first = rows.first().and_then(|(_, times)| times.median());
    for (name, times) in rows {
        let (Some(median), Some(first)) = (times.median(), first) else {
            continue;
        };
        let (low, high) = times.range();
        let range = format!("{low:.0}..{high:.0}");
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {name:<58} {median:>6.0} ms {range:>14} ms {:>7.2}",
            median / first
        );
    }
    text
}
