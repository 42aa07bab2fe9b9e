//! The node's own network namespace, and the one way out of it: to the API server.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use railhead_standin::namespace::ip;

/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(100);

/// Moves the calling thread, and whatever it starts from now on, into a namespace in which the API server is reached at its usual
/// address: connections go through threads that stay where this one was.
pub(crate) fn leave_for_own_namespace(server: SocketAddr) -> Result<()> {
    let (inside, outside) = mpsc::channel::<TcpStream>();
    thread::Builder::new().name("relay".to_owned()).spawn(move || {
        for stream in outside {
            // The connection ends with it, and is tried again.
            if let Err(error) = thread::Builder::new().spawn(move || carry(&stream, server)) {
                tracing::warn!(%error, "no thread for a connection to the API server");
            }
        }
    })?;
    unshare(CloneFlags::CLONE_NEWNET).context("make the node's network namespace (needs root)")?;
    ip("link set lo up")?;
    if !server.ip().is_loopback() {
        ip(&format!("address add {} dev lo", server.ip()))?;
    }
    let listener = TcpListener::bind(server).with_context(|| format!("listen on {server} in the node's namespace"))?;
    thread::Builder::new().name("accept".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => {
                    if inside.send(stream).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the API server could not be taken");
                    thread::sleep(PAUSE);
                }
            }
        }
    })?;
    Ok(())
}

/// Both directions of a connection, until either ends. Who asked sees a server that does not answer as a connection that ends.
fn carry(near: &TcpStream, server: SocketAddr) {
    let far = match TcpStream::connect(server) {
        Ok(far) => far,
        Err(error) => {
            tracing::warn!(%error, %server, "the API server cannot be reached");
            near.shutdown(Shutdown::Both).ok();
            return;
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| copy(near, &far));
        copy(&far, near);
    });
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    io::copy(&mut from, &mut to).ok();
    // The other direction has nobody to talk to any more.
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
