//! The code of the repository's tests, as text.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The code of tests in `folder` and below, by file: whole files of tests, and of others what stands under `#[cfg(test)]`.
pub(crate) fn test_code(folder: &Path) -> Vec<String> {
    let of_tests = |(path, code): (PathBuf, String)| {
        let is_test = path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
        let begin = if is_test { Some(0) } else { code.find("#[cfg(test)]") };
        begin.map(|begin| code[begin..].to_owned())
    };
    files(folder).into_iter().filter_map(of_tests).collect()
}

/// The code of these folders without its tests, by file.
pub(crate) fn code_of(root: &Path, folders: &[&str]) -> Vec<(String, String)> {
    let all = folders.iter().flat_map(|folder| files(&root.join(folder)));
    all.map(|(path, code)| {
        let end = code.find("#[cfg(test)]").unwrap_or(code.len());
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        (name, code[..end].to_owned())
    })
    .collect()
}

fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry of it").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            // Neither what is built, nor the list of reasons and its tests.
            if name != "target" && name != "reasons" && !name.starts_with('.') {
                found.extend(files(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let code = fs::read_to_string(&path).expect("source is text");
            found.push((path, code));
        }
    }
    found
}

/// Whether the code has one of these words where it is expected: not in a comment, and not where the test itself makes a condition
/// or an event with it.
pub(crate) fn expects(code: &str, words: &[String]) -> bool {
    let made_of = ["Said::", "Finding::", "Event::normal", "Event::warning"];
    words.iter().any(|word| {
        code.match_indices(word.as_str()).any(|(place, _)| {
            let (before, after) = (&code[..place], &code[place + word.len()..]);
            let line = before.rsplit('\n').next().unwrap_or_default();
            let statement = before.rsplit([';', '{', '}']).next().unwrap_or_default();
            let is_whole = !after.starts_with(|next: char| next.is_ascii_alphanumeric());
            is_whole
                && !line.contains("//")
                && !statement.trim_end().ends_with("\"reason\":")
                && !made_of.iter().any(|made| statement.contains(made))
        })
    })
}

#[test]
fn a_word_that_a_test_puts_in_is_not_expected_by_it() {
    let words = ["\"PortDown\"".to_owned(), "Reason::PortDown".to_owned()];
    let is_expected = |code: &str| expects(code, &words);
    assert!(is_expected(r#"assert_eq!(said.reason, "PortDown");"#));
    assert!(is_expected("assert_eq!(\n    said.reason,\n    Reason::PortDown\n);"));
    assert!(is_expected(
        r#"cluster.wait_reason(&["nodenet"], "Ready", "False", "PortDown")?;"#
    ));
    for put_in in [
        r#"json!({"type": "Ready", "reason": "PortDown"})"#,
        r#"let said = Said::no("Ready", Reason::PortDown, "");"#,
        r#"// assert_eq!(said.reason, "PortDown");"#,
        "assert_eq!(said.reason, Reason::PortDownAndUp);",
    ] {
        assert!(!is_expected(put_in), "{put_in}");
    }
}
