//! Running programs: with a time limit, captured output, and an error that shows what the program said.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// What a program printed and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Whether the exit code is 0.
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// The output itself, or an error that shows the command and what it printed.
    pub fn ok(self) -> Result<Self> {
        if self.success() { Ok(self) } else { bail!("{self}") }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with code {}", self.command, self.code)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.trim().is_empty() {
                write!(f, "\n--- {name}\n{}", last_lines(text, 30))?;
            }
        }
        Ok(())
    }
}

/// A cargo command as a person would start it at a prompt. What an outer cargo says of its own package is taken out: build
/// scripts look at it, so that dependencies would be built anew whenever cargo is started in the other way.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|ours| text.starts_with(ours))
        {
            command.env_remove(&name);
        }
    }
    command
}

/// The command line as a person would type it.
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// One word of a command line for a shell that must take it as it is.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Runs to the end and captures what is printed. A non-zero exit code is not an error here: see [`Output::ok`].
pub fn capture(command: &mut Command, limit: Duration) -> Result<Output> {
    capture_with_input(command, Vec::new(), limit)
}

/// Like [`capture`], with something to read on standard input.
pub fn capture_with_input(command: &mut Command, input: Vec<u8>, limit: Duration) -> Result<Output> {
    let name = describe(command);
    let stdin = if input.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{name}`"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program may end without reading everything; its exit code tells the story then.
        thread::spawn(move || pipe.write_all(&input).ok());
    }
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    let status = wait(&mut child, &name, limit);
    match status {
        Ok(status) => Ok(Output {
            command: name,
            code: status.code().unwrap_or(-1),
            stdout: stdout.text(limit),
            stderr: stderr.text(limit),
        }),
        // Another process may hold the pipes for good: ssh hands them to the master of a shared connection.
        Err(error) => {
            let grace = Duration::from_secs(1);
            let said = stdout.text(grace) + &stderr.text(grace);
            Err(error.context(format!("it had printed:\n{said}")))
        }
    }
}

/// Runs to the end with everything printed going to a log; an error shows the end of that log.
pub fn logged(command: &mut Command, log: &Path, limit: Duration) -> Result<()> {
    let name = describe(command);
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{name}`"))?;
    let outcome = wait(&mut child, &name, limit).and_then(|status| {
        if status.success() {
            Ok(())
        } else {
            bail!("`{name}` ended with {status}")
        }
    });
    outcome.with_context(|| format!("end of {}:\n{}", log.display(), tail(log, 25)))
}

/// The last lines of a file, or a word on why there are none.
pub fn tail(path: &Path, lines: usize) -> String {
    match fs::read(path) {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes), lines),
        Err(error) => format!("(cannot read {}: {error})", path.display()),
    }
}

fn last_lines(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// What comes out of a pipe.
struct Reader {
    pieces: Receiver<Vec<u8>>,
}

impl Reader {
    /// All of it, or after `patience` what has come until then.
    fn text(&self, patience: Duration) -> String {
        let end = Instant::now() + patience;
        let mut bytes = Vec::new();
        while let Ok(piece) = self.pieces.recv_timeout(end.saturating_duration_since(Instant::now())) {
            bytes.extend(piece);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> Reader {
    let (sender, pieces) = channel();
    thread::spawn(move || {
        let mut piece = [0; 8192];
        let mut pipe = pipe?;
        // What was read before an error is still worth showing.
        while let Ok(length @ 1..) = pipe.read(&mut piece) {
            sender.send(piece[..length].to_vec()).ok()?;
        }
        Some(())
    });
    Reader { pieces }
}

fn wait(child: &mut Child, name: &str, limit: Duration) -> Result<ExitStatus> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for `{name}`"))? {
            return Ok(status);
        }
        if start.elapsed() > limit {
            // The whole group: what it started must not keep running, nor keep our pipes open.
            let group = Pid::from_raw(i32::try_from(child.id()).context("a process id is too large")?);
            killpg(group, Signal::SIGKILL).ok();
            child.wait().ok();
            bail!("`{name}` was still running after {}s and was stopped", limit.as_secs());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_stopped_with_all_its_children() {
        let start = Instant::now();
        let error = capture(
            Command::new("sh").args(["-c", "echo begun; sleep 60 & wait"]),
            Duration::from_millis(200),
        )
        .unwrap_err();
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "it waited for the grandchild"
        );
        assert!(format!("{error:#}").contains("begun"), "{error:#}");
    }

    /// So does an ssh whose connection a master process shares: without this a node that hangs hangs us.
    #[test]
    fn a_program_that_hangs_is_left_even_if_another_one_keeps_its_pipes() {
        let start = Instant::now();
        let error = capture(
            Command::new("sh").args(["-c", "echo begun; setsid sleep 20 & wait"]),
            Duration::from_millis(200),
        )
        .unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(10), "it waited for the other");
        assert!(format!("{error:#}").contains("begun"), "{error:#}");
    }

    #[test]
    fn a_failure_shows_the_command_its_code_and_its_words() {
        let output = capture(
            Command::new("sh").args(["-c", "echo no such rail >&2; exit 3"]),
            Duration::from_secs(5),
        );
        let error = output.unwrap().ok().unwrap_err().to_string();
        assert!(error.contains("code 3") && error.contains("no such rail"), "{error}");
    }

    #[test]
    fn a_shell_takes_quoted_words_as_they_are() {
        let words = [
            "sh",
            "-c",
            "echo \"a  b\" $HOME",
            "",
            "it's",
            "*",
            "a\nb",
            "\\",
            "--",
            "'",
        ];
        let line = words.map(quoted).join(" ");
        let output = capture(
            Command::new("sh").args(["-c", &format!("printf '<%s>' {line}")]),
            Duration::from_secs(5),
        );
        let seen = output.unwrap().ok().unwrap().stdout;
        assert_eq!(seen, words.map(|word| format!("<{word}>")).concat());
    }

    #[test]
    fn input_reaches_the_program() {
        let output = capture_with_input(&mut Command::new("cat"), b"slot 5".to_vec(), Duration::from_secs(5));
        assert_eq!(output.unwrap().stdout, "slot 5");
    }
}
