//! A reader that goes away, as `head` does, is no error: nobody sees a panic for it.

use std::{io::pipe, process::Command};

#[test]
fn a_reader_that_went_away_ends_no_command_with_a_panic() {
    for arguments in [&["schema"][..], &["completion", "bash"], &["--help"]] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-railhead"))
            .args(arguments)
            .stdout(writer)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}
