//! An operator's way to the API server, on which anything may happen: it is cut, what the operator watches comes late, a write is
//! held back, lost, done without an answer, or is the operator's last.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// What becomes of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The operator is killed, and the write does not happen.
    KilledBefore,
    /// The operator is killed when the write has happened.
    KilledAfter,
    /// The connection ends, and the write does not happen.
    Lost,
    /// The write happens, and the connection ends without an answer.
    Unanswered,
    /// The write happens so much later.
    Late(Duration),
}

/// Where it happens.
#[derive(Clone, Copy, Debug)]
struct Plan {
    writes_left: u64,
    fault: Fault,
}

#[derive(Debug, Default)]
struct State {
    plan: Option<Plan>,
    operator: Option<Pid>,
    watches_come_at: Option<Instant>,
    connections: Vec<TcpStream>,
}

/// The way of one operator.
#[derive(Debug)]
pub(super) struct Way {
    gate: SocketAddr,
    pub(super) address: SocketAddr,
    is_cut: AtomicBool,
    state: Mutex<State>,
}

impl Way {
    /// Opens it. It ends with the process.
    pub(super) fn open(gate: SocketAddr) -> Result<Arc<Self>> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let way = Arc::new(Self {
            gate,
            address: listener.local_addr()?,
            is_cut: AtomicBool::new(false),
            state: Mutex::default(),
        });
        thread::spawn({
            let way = Arc::clone(&way);
            move || {
                for from in listener.incoming().flatten() {
                    // A connection that cannot be handed on ends, as when the way is cut.
                    way.hand_on(from).ok();
                }
            }
        });
        Ok(way)
    }

    /// Who is killed.
    pub(super) fn leads(&self, operator: Option<Pid>) {
        self.state().operator = operator;
    }

    /// Lets `fault` happen at a write: the next one after so many others.
    pub(super) fn plan(&self, writes_left: u64, fault: Fault) {
        self.state().plan = Some(Plan { writes_left, fault });
    }

    /// What is watched comes so much later from now on, until then.
    pub(super) fn delay_watches(&self, by: Duration) {
        self.state().watches_come_at = Some(Instant::now() + by);
    }

    /// Ends all connections, and takes no new ones.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for connection in self.state().connections.drain(..) {
            connection.shutdown(Shutdown::Both).ok();
        }
    }

    /// All is well again, whatever was planned.
    pub(super) fn restore(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
        let mut state = self.state();
        state.plan = None;
        state.watches_come_at = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_on(self: &Arc<Self>, from: TcpStream) -> Result<()> {
        if self.is_cut.load(Ordering::SeqCst) {
            return Ok(());
        }
        let to = TcpStream::connect(self.gate)?;
        to.set_nodelay(true)?;
        from.set_nodelay(true)?;
        self.state().connections.push(from.try_clone()?);
        let connection = Arc::new(Connection::default());
        let answers = (to.try_clone()?, from.try_clone()?);
        thread::spawn({
            let (way, connection) = (Arc::clone(self), Arc::clone(&connection));
            move || {
                let (to, from) = answers;
                way.answer(&connection, &to, &from).ok();
                close(&to, &from);
            }
        });
        let way = Arc::clone(self);
        thread::spawn(move || {
            way.ask(&connection, &from, &to).ok();
            close(&from, &to);
        });
        Ok(())
    }

    /// Hands requests on, one after the other: the operator's client sends the next when it has the answer.
    fn ask(&self, connection: &Connection, from: &TcpStream, mut to: &TcpStream) -> Result<()> {
        let mut from = BufReader::new(from);
        while let Some(request) = Request::read(&mut from)? {
            connection.watches.store(request.is_watch(), Ordering::SeqCst);
            let fault = if request.is_write() { self.fault() } else { None };
            match fault {
                Some(Fault::KilledBefore) => {
                    self.kill();
                    return Ok(());
                }
                Some(Fault::Lost) => return Ok(()),
                Some(Fault::KilledAfter) => connection.kills.store(true, Ordering::SeqCst),
                Some(Fault::Unanswered) => connection.is_mute.store(true, Ordering::SeqCst),
                Some(Fault::Late(by)) => thread::sleep(by),
                None => {}
            }
            to.write_all(&request.bytes)?;
        }
        Ok(())
    }

    fn answer(&self, connection: &Connection, mut to: &TcpStream, mut from: &TcpStream) -> Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = to.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            if connection.kills.load(Ordering::SeqCst) {
                self.kill();
                return Ok(());
            }
            if connection.is_mute.load(Ordering::SeqCst) {
                return Ok(());
            }
            if connection.watches.load(Ordering::SeqCst) {
                let until = self.state().watches_come_at;
                let wait = until.map(|until| until.saturating_duration_since(Instant::now()));
                thread::sleep(wait.unwrap_or_default());
            }
            from.write_all(&buffer[..read])?;
        }
    }

    /// The fault that is planned for this write.
    fn fault(&self) -> Option<Fault> {
        let mut state = self.state();
        let plan = state.plan.as_mut()?;
        if plan.writes_left > 0 {
            plan.writes_left -= 1;
            return None;
        }
        state.plan.take().map(|plan| plan.fault)
    }

    pub(super) fn kill(&self) {
        if let Some(operator) = self.state().operator.take() {
            // It may have ended already.
            kill(operator, Signal::SIGKILL).ok();
        }
    }
}

fn close(one: &TcpStream, other: &TcpStream) {
    // What is closed already needs nothing.
    one.shutdown(Shutdown::Both).ok();
    other.shutdown(Shutdown::Both).ok();
}

/// What the two directions of a connection tell each other.
#[derive(Debug, Default)]
struct Connection {
    watches: AtomicBool,
    kills: AtomicBool,
    is_mute: AtomicBool,
}

/// One request, as it came.
struct Request {
    bytes: Vec<u8>,
    first_line: String,
}

impl Request {
    fn read(from: &mut impl BufRead) -> Result<Option<Self>> {
        let mut bytes = Vec::new();
        let mut length = 0;
        let mut first_line = String::new();
        loop {
            let begin = bytes.len();
            if from.read_until(b'\n', &mut bytes)? == 0 {
                return Ok(None);
            }
            let line = String::from_utf8_lossy(&bytes[begin..]).into_owned();
            if first_line.is_empty() {
                first_line = line;
            } else if line == "\r\n" {
                break;
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().context("a request without a length")?;
            }
        }
        from.take(length).read_to_end(&mut bytes)?;
        Ok(Some(Self { bytes, first_line }))
    }

    fn is_watch(&self) -> bool {
        self.first_line.contains("watch=true") || self.first_line.contains("watch=1")
    }

    /// Whether it changes what Railhead is about.
    fn is_write(&self) -> bool {
        let is_about_others = ["/leases", "/events"].iter().any(|kind| self.first_line.contains(kind));
        !self.first_line.starts_with("GET ") && !is_about_others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_and_kept_as_they_are() {
        let wire = b"PUT /apis/x HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}GET /y?watch=true HTTP/1.1\r\n\r\n";
        let mut from = &wire[..];
        let put = Request::read(&mut from).expect("it is whole").expect("there is one");
        assert!(put.is_write() && put.bytes.ends_with(b"\r\n\r\n{}"));
        let get = Request::read(&mut from)
            .expect("it is whole")
            .expect("there is another");
        assert!(get.is_watch() && !get.is_write());
        assert!(Request::read(&mut from).expect("it ended").is_none());
    }
}
