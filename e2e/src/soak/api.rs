//! The API server over plain HTTP/1.1: through `kubectl proxy`, which has no credentials of its own here, so that every request
//! says by its token who it is from. kubectl for each of 100,000 operations would take hours.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{cluster::eventually, control_plane::cluster::Cluster};

/// Longer than the API server takes for anything but a watch.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running `kubectl proxy`; it ends with this value.
#[derive(Debug)]
pub(super) struct Gate {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Gate {
    /// Opens it on `port` of the lab's loopback.
    pub(super) fn open(cluster: &Cluster, port: u16) -> Result<Self> {
        let view = cluster.ok(&["config", "view", "--raw", "--output", "json"])?;
        let mut config: Value = serde_json::from_str(&view)?;
        // Without any, kubectl would ask for a name and a password.
        config["users"] = json!([{"name": "nobody", "user": {"token": "nobody"}}]);
        config["contexts"][0]["context"]["user"] = json!("nobody");
        let nobody = cluster.identity("nobody", &config)?;
        let child = cluster
            .lab
            .command("kubectl")
            .args(["proxy", "--disable-filter", &format!("--port={port}")])
            .env("KUBECONFIG", &nobody.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start kubectl proxy")?;
        let gate = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        };
        eventually("kubectl proxy listens", || Ok(TcpStream::connect(gate.address)?))?;
        Ok(gate)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What the API server answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Answer {
    /// The body of an answer that grants what was asked.
    pub(super) fn ok(self) -> Result<Value> {
        ensure!(self.is_ok(), "{}: {}", self.status, self.body["message"]);
        Ok(self.body)
    }

    pub(super) fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Somebody's way to the API server, over one connection that is made again when it breaks.
#[derive(Debug)]
pub(super) struct Api {
    gate: SocketAddr,
    token: Arc<str>,
    connection: Option<BufReader<TcpStream>>,
}

impl Clone for Api {
    fn clone(&self) -> Self {
        Self::new(self.gate, &self.token)
    }
}

impl Api {
    pub(super) fn new(gate: SocketAddr, token: &str) -> Self {
        Self {
            gate,
            token: token.into(),
            connection: None,
        }
    }

    pub(super) fn get(&mut self, path: &str) -> Result<Answer> {
        self.ask("GET", path, None)
    }

    pub(super) fn post(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.ask("POST", path, Some(("application/json", body)))
    }

    pub(super) fn put(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.ask("PUT", path, Some(("application/json", body)))
    }

    pub(super) fn merge(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.ask("PATCH", path, Some(("application/merge-patch+json", body)))
    }

    pub(super) fn delete(&mut self, path: &str, options: &Value) -> Result<Answer> {
        self.ask("DELETE", path, Some(("application/json", options)))
    }

    /// An API server that is busy, or has just heard of a kind, is asked again.
    fn ask(&mut self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<Answer> {
        let start = Instant::now();
        loop {
            let answer = self.ask_once(method, path, body)?;
            if answer.status != 429 || start.elapsed() > PATIENCE {
                return Ok(answer);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn ask_once(&mut self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<Answer> {
        if let Ok(answer) = self.try_to_ask(method, path, body) {
            return Ok(answer);
        }
        // The other side closes connections that are idle for long.
        self.connection = None;
        let asked = self.try_to_ask(method, path, body);
        if asked.is_err() {
            self.connection = None;
        }
        asked.with_context(|| format!("{method} {path}"))
    }

    fn try_to_ask(&mut self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<Answer> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(self.gate, Some(PATIENCE))?,
        };
        let connection = self.connection.insert(connection);
        send(connection.get_mut(), method, path, &self.token, body)?;
        let head = Head::read(connection)?;
        let mut text = Vec::new();
        match head.length {
            Length::Bytes(bytes) => {
                connection.by_ref().take(bytes).read_to_end(&mut text)?;
            }
            Length::Chunked => {
                Chunks::new(&mut *connection).read_to_end(&mut text)?;
            }
        }
        let body = serde_json::from_slice(&text)
            .unwrap_or_else(|_| json!({"message": String::from_utf8_lossy(&text).into_owned()}));
        Ok(Answer {
            status: head.status,
            body,
        })
    }

    /// What changes at `path` from a version on: a line of JSON each, until the API server ends it.
    pub(super) fn watch(&self, path: &str, version: u64) -> Result<impl Iterator<Item = Result<Value>>> {
        let path = format!("{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds=36000&resourceVersion={version}");
        let mut connection = connect(self.gate, None)?;
        send(connection.get_mut(), "GET", &path, &self.token, None)?;
        let head = Head::read(&mut connection)?;
        ensure!(head.status == 200, "{path} answers {}", head.status);
        let lines = BufReader::new(Chunks::new(connection)).lines();
        Ok(lines.map(|line| Ok(serde_json::from_str(&line?)?)))
    }
}

fn connect(gate: SocketAddr, patience: Option<Duration>) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(gate)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(patience)?;
    Ok(BufReader::new(stream))
}

fn send(to: &mut TcpStream, method: &str, path: &str, token: &str, body: Option<(&str, &Value)>) -> Result<()> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n"
    );
    let request = match body {
        None => format!("{head}\r\n"),
        Some((kind, body)) => {
            let body = body.to_string();
            format!(
                "{head}Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        }
    };
    Ok(to.write_all(request.as_bytes())?)
}

enum Length {
    Bytes(u64),
    Chunked,
}

/// What an answer begins with.
struct Head {
    status: u16,
    length: Length,
}

impl Head {
    fn read(from: &mut impl BufRead) -> Result<Self> {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("{line:?} is no answer"))?;
        let mut length = Length::Bytes(0);
        loop {
            line.clear();
            from.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                return Ok(Self { status, length });
            };
            match &*name.to_ascii_lowercase() {
                "content-length" => length = Length::Bytes(value.trim().parse()?),
                "transfer-encoding" => length = Length::Chunked,
                _ => {}
            }
        }
    }
}

/// The content of a chunked body.
struct Chunks<R> {
    from: R,
    /// Bytes left in this chunk; `None` at the end.
    left: Option<u64>,
}

impl<R: BufRead> Chunks<R> {
    fn new(from: R) -> Self {
        Self { from, left: Some(0) }
    }

    fn next_chunk(&mut self) -> Result<u64> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or_default();
        u64::from_str_radix(size, 16).with_context(|| format!("{line:?} is no chunk's size"))
    }
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(left) = self.left else { return Ok(0) };
        let left = if left > 0 {
            left
        } else {
            self.next_chunk().map_err(std::io::Error::other)?
        };
        let read = self.from.by_ref().take(left).read(buffer)?;
        let rest = left - read as u64;
        let is_last = left == 0;
        if is_last || rest == 0 {
            self.from.read_line(&mut String::new())?;
        }
        if read == 0 && !is_last {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left = (!is_last).then_some(rest);
        Ok(read)
    }
}

/// A list's items, and the version of the cluster that it shows.
pub(super) fn items(list: Value) -> Result<(Vec<Value>, u64)> {
    let Value::Object(mut list) = list else {
        bail!("{list} is no list")
    };
    let version = version_of(list.get("metadata").context("a list without metadata")?)?;
    match list.remove("items") {
        Some(Value::Array(items)) => Ok((items, version)),
        _ => Ok((Vec::new(), version)),
    }
}

/// The resource version in an object's metadata. Since Kubernetes 1.35 they are defined to be numbers in the order of changes.
pub(super) fn version_of(metadata: &Value) -> Result<u64> {
    let version = metadata["resourceVersion"].as_str().context("no resourceVersion")?;
    version.parse().with_context(|| format!("resourceVersion {version:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_read_to_its_end_and_no_further() {
        let mut wire: &[u8] = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\nHTTP/1.1 200 OK";
        let mut text = String::new();
        Chunks::new(&mut wire)
            .read_to_string(&mut text)
            .expect("it is complete");
        assert_eq!(text, "hello world");
        assert!(wire.starts_with(b"HTTP/1.1 200"));
    }

    #[test]
    fn a_body_that_breaks_off_is_an_error() {
        let mut text = String::new();
        assert!(Chunks::new(&b"5\r\nhel"[..]).read_to_string(&mut text).is_err());
    }
}
