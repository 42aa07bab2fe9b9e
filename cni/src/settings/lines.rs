//! Lines `NAME=value` under comments. What is written comes from people and from objects in the cluster: a value never starts a
//! line of its own, and no line is longer than its reader's buffer, since the rest would be read as another line.

use std::{fmt::Write, net::IpAddr};

/// A file in the making.
pub(super) struct Lines {
    text: String,
    /// The longest line that its reader takes, bytes, without the end of the line.
    longest: usize,
    /// Whether a shell reads it.
    for_shells: bool,
}

impl Lines {
    /// A file whose reader takes lines of at most `longest` bytes.
    pub(super) fn new(longest: usize) -> Self {
        Self {
            text: String::new(),
            longest,
            for_shells: false,
        }
    }

    /// The same for readers among which are shells: values are words that mean to them what is written.
    pub(super) fn for_shells(longest: usize) -> Self {
        Self {
            for_shells: true,
            ..Self::new(longest)
        }
    }

    /// An empty line.
    pub(super) fn blank(&mut self) {
        self.push("");
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
        if self.for_shells && !value.bytes().all(is_plain) {
            self.comment(&format!(
                "{} is left out, since its value is more than a word to a shell: {origin}",
                one_line(name)
            ));
            return;
        }
        self.comment(origin);
        self.push(&line);
    }

    /// A line of `/etc/hosts`; a name that is none makes no line.
    pub(super) fn host(&mut self, address: IpAddr, name: &str) {
        if name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        {
            self.push(&format!("{address}\t{name}"));
        }
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

/// Whether a byte is itself to every shell, wherever it stands in a value.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.,:=/".contains(&byte)
}

fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gets_words_only() {
        let mut lines = Lines::for_shells(100);
        for value in [
            "a b", "$(x)", "`x`", "a;b", "a'b", "a\"b", "a\\b", "a\nb", "~", "*", "\u{e9}", "a&b", "#",
        ] {
            lines.set("it", "NAME", value);
        }
        lines.blank();
        lines.set("it", "NAME", "=mlx5_1:1,rail0");
        let text = lines.finish();
        let set: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(set, ["", "NAME==mlx5_1:1,rail0"], "{text}");
    }

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
