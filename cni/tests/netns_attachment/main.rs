//! ADD, CHECK, DEL and GC on the real kernel, with veth pairs in the place of virtual functions.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod check;
mod hostile_pods;
mod journals;
mod kills;
#[path = "../node/mod.rs"]
mod node;
mod versions;
mod wiring;

use node::Sandbox;

/// Moves a link from a sandbox to the host under the name that it has.
pub(crate) fn ip_home(sandbox: &Sandbox, name: &str) {
    let host = railhead_host::Netns::current().unwrap();
    let mut inside = railhead_host::RouteSocket::open_in(sandbox.netns()).unwrap();
    let link = inside.link_named(&name.parse().unwrap()).unwrap().unwrap();
    inside.set_up(link.index, false).unwrap();
    inside.move_to(link.index, &host).unwrap();
}
