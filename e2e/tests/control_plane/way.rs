//! A way to the API server that can be cut, as the network between a pod and it can.

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Identity};

/// Hands connections on while it is open.
pub(crate) struct Way {
    is_cut: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
    server: String,
}

impl Way {
    /// Opens it, and gives the identity of somebody who goes by it.
    pub(crate) fn start(cluster: &Cluster, who: &Identity) -> Result<(Arc<Self>, Identity)> {
        let mut config: Value = serde_json::from_slice(&std::fs::read(&who.kubeconfig)?)?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let connection = &mut config["clusters"][0]["cluster"];
        let server = connection["server"].as_str().context("the kubeconfig has no server")?;
        let way = Arc::new(Self {
            is_cut: AtomicBool::new(false),
            connections: Mutex::default(),
            server: server.trim_start_matches("https://").to_owned(),
        });
        connection["server"] = json!(format!("https://{}", listener.local_addr()?));
        // The certificate names the API server, not this way to it.
        if let Some(connection) = connection.as_object_mut() {
            connection.remove("certificate-authority-data");
            connection.insert("insecure-skip-tls-verify".to_owned(), json!(true));
        }
        let identity = cluster.identity("by-way", &config)?;
        // Ends with the process.
        thread::spawn({
            let way = Arc::clone(&way);
            move || {
                for from in listener.incoming().flatten() {
                    way.hand_on(from).ok();
                }
            }
        });
        Ok((way, identity))
    }

    fn hand_on(&self, from: TcpStream) -> Result<()> {
        if self.is_cut.load(Ordering::SeqCst) {
            return Ok(());
        }
        let to = TcpStream::connect(&self.server)?;
        for (mut source, mut sink) in [
            (from.try_clone()?, to.try_clone()?),
            (to.try_clone()?, from.try_clone()?),
        ] {
            thread::spawn(move || {
                copy(&mut source, &mut sink).ok();
                sink.shutdown(Shutdown::Both).ok();
            });
        }
        self.connections
            .lock()
            .expect("no holder of this lock panics")
            .push(from);
        Ok(())
    }

    /// Ends all connections, and takes no new ones.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for connection in self
            .connections
            .lock()
            .expect("no holder of this lock panics")
            .drain(..)
        {
            connection.shutdown(Shutdown::Both).ok();
        }
    }

    /// Takes connections again.
    pub(crate) fn restore(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}
