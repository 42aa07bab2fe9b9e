//! Lines `NAME=value` under comments. What is written comes from people and from objects in the cluster: a value never starts a
//! line of its own, and no line is longer than its reader's buffer, since the rest would be read as another line.

use std::fmt::Write;

/// A file in the making.
pub(super) struct Lines {
    text: String,
    /// The longest line that its reader takes, bytes, without the end of the line.
    longest: usize,
}

impl Lines {
    /// A file whose reader takes lines of at most `longest` bytes.
    pub(super) fn new(longest: usize) -> Self {
        Self {
            text: String::new(),
            longest,
        }
    }

    /// `# text`, cut off where it is too long.
    pub(super) fn comment(&mut self, text: &str) {
        let mut line = format!("# {}", one_line(text));
        if line.len() > self.longest {
            line.truncate(line.floor_char_boundary(self.longest));
        }
        self.push(&line);
    }

    /// `NAME=value` with its origin above it.
    pub(super) fn set(&mut self, origin: &str, name: &str, value: &str) {
        let line = format!("{}={}", one_line(name), one_line(value));
        if line.len() > self.longest {
            self.comment(&format!(
                "{} is left out, since its line would have {} bytes and {} are read: {origin}",
                one_line(name),
                line.len(),
                self.longest
            ));
            return;
        }
        self.comment(origin);
        self.push(&line);
    }

    fn push(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    /// The file's content.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_a_second_line_or_one_that_is_cut_in_two() {
        let mut lines = Lines::new(20);
        lines.comment("a\nB=c\r\u{7}");
        lines.set("who\nA=b", "NAME", "x\nOTHER=y");
        lines.set("it", "NAME", "0123456789abcdefgh");
        lines.comment(&"\u{e9}".repeat(30));
        let text = lines.finish();
        let found: Vec<&str> = text.lines().collect();
        assert_eq!(found[..3], ["# aB=c", "# whoA=b", "NAME=xOTHER=y"]);
        assert_eq!(found[3], "# NAME is left out, ");
        assert_eq!(found.len(), 5, "{text}");
        assert!(found.iter().all(|line| line.len() <= 20), "{text}");
    }
}
