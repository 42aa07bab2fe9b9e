//! Texts of a cluster as they may be shown: whoever may write an object must not be able to write to the terminal of whoever reads
//! about it, nor let a line look like another.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::Value;

/// Whether a character does something to a terminal, or cannot be seen: control characters, those that turn the direction of
/// writing, those without a width, and separators of lines.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with such characters written out, as `\u{1b}`.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hostile) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            c if is_hostile(c) => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    shown.into()
}

/// JSON with such characters as escapes of JSON, so that the texts are still what they were. Its own line ends stay.
pub(super) fn json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !is_hostile(c) {
            shown.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    shown
}

/// The same values with their texts as [`text`] shows them: for YAML, whose escapes depend on how a text is quoted.
pub(super) fn value(shown: &Value) -> Value {
    match shown {
        Value::String(string) => Value::String(text(string).into_owned()),
        Value::Array(items) => items.iter().map(value).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, field)| (text(key).into_owned(), value(field)))
            .collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[2J\u{1b}]0;owned\u{7}\r\n\tb\u{202e}c\u{9b}31m\u{200b}\u{e0041}";

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        let shown = text(HOSTILE);
        assert_eq!(
            shown,
            r"a\u{1b}[2J\u{1b}]0;owned\u{7}\u{d}\n\tb\u{202e}c\u{9b}31m\u{200b}\u{e0041}"
        );
        assert!(!shown.contains(is_hostile));
        for harmless in ["llama", "<script>alert(1)</script>", "größe 模型 ✓", ""] {
            assert!(
                matches!(text(harmless), Cow::Borrowed(shown) if shown == harmless),
                "{harmless}"
            );
        }
    }

    #[test]
    fn json_says_the_same_without_a_character_that_a_terminal_obeys() {
        let original = serde_json::json!({"name": HOSTILE, "x": ["größe"]});
        let shown = json(&serde_json::to_string_pretty(&original).unwrap());
        assert!(shown.chars().all(|c| c == '\n' || !is_hostile(c)), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), original);
    }
}
