//! Listens to what the kernel tells of links, addresses and routes, in the node's namespace and in those of its pods.
//!
//! One socket hears all of them (`NETLINK_LISTEN_ALL_NSID`, netlink(7)): the kernel gives a namespace an id in the node's own
//! when a VF moves from here to there, and tells of namespaces with an id to listeners with CAP_NET_BROADCAST.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use railhead_plan::AttachmentPlan;
use rtnetlink::{
    MulticastGroup, new_multicast_connection,
    packet_core::NetlinkPayload,
    packet_route::{
        RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{LinkAttribute, LinkFlags, LinkMessage},
        route::{RouteAttribute, RouteMessage},
    },
    sys::AsyncSocket,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// What is listened to.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];
/// How long to wait before a socket that failed is opened again; the periodic look goes on meanwhile.
const AGAIN: Duration = Duration::from_secs(30);

/// What of the kernel's news concerns wired pods. On a busy node most of it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    /// PCI addresses of VFs and of their ports.
    functions: BTreeSet<String>,
    /// Names of rails in pods.
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    tables: BTreeSet<u32>,
    /// PCI addresses of the node's ports.
    ports: BTreeSet<String>,
}

/// Whether each of the node's ports had a signal when the kernel last told, by number of its link.
type Signals = BTreeMap<u32, bool>;

impl Interest {
    pub(super) fn of(plans: &[AttachmentPlan], ports: impl Iterator<Item = String>) -> Self {
        let mut interest = Self {
            ports: ports.collect(),
            ..Self::default()
        };
        for rail in plans.iter().flat_map(|plan| &plan.rails) {
            interest.functions.insert(rail.vf.pci_address.to_string());
            interest.functions.insert(rail.vf.pf_pci_address.to_string());
            interest.names.insert(rail.name.to_string());
            interest.addresses.extend(rail.addresses.iter().map(ipnet::IpNet::addr));
            interest.tables.insert(rail.table);
        }
        interest
    }

    /// Whether a message is worth a look.
    fn concerns(&self, message: &RouteNetlinkMessage) -> bool {
        match message {
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => self.has_link(link),
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                self.has_address(address)
            }
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => self.has_route(route),
            _ => false,
        }
    }

    /// Whether a port came, went, lost its signal or got it. The kernel tells of every setting of a VF as well, which is no news
    /// of the port.
    fn port_changed(&self, message: &RouteNetlinkMessage, signals: &mut Signals) -> bool {
        let is_port = |link: &LinkMessage| {
            link.attributes
                .iter()
                .any(|attribute| matches!(attribute, LinkAttribute::ParentDevName(name) if self.ports.contains(name)))
        };
        match message {
            RouteNetlinkMessage::NewLink(link) if is_port(link) => {
                let signal = link.header.flags.contains(LinkFlags::LowerUp);
                signals.insert(link.header.index, signal) != Some(signal)
            }
            RouteNetlinkMessage::DelLink(link) if is_port(link) => {
                signals.remove(&link.header.index);
                true
            }
            _ => false,
        }
    }

    fn has_link(&self, link: &LinkMessage) -> bool {
        link.attributes.iter().any(|attribute| match attribute {
            LinkAttribute::IfName(name) => self.names.contains(name),
            LinkAttribute::ParentDevName(name) => self.functions.contains(name),
            _ => false,
        })
    }

    fn has_address(&self, address: &AddressMessage) -> bool {
        address.attributes.iter().any(|attribute| match attribute {
            AddressAttribute::Address(address) | AddressAttribute::Local(address) => self.addresses.contains(address),
            _ => false,
        })
    }

    fn has_route(&self, route: &RouteMessage) -> bool {
        route
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, RouteAttribute::Table(table) if self.tables.contains(table)))
    }
}

/// Who is rung.
pub(super) struct Bells {
    /// Something happened that concerns a wired pod.
    pub(super) pods: Arc<Notify>,
    /// Something happened to a port.
    pub(super) ports: Box<dyn Fn() + Send + Sync>,
}

/// Rings whenever something happened, until `stop`.
pub(super) async fn listen(bells: Bells, interest: watch::Receiver<Interest>, stop: CancellationToken) {
    loop {
        let error = tokio::select! {
            () = stop.cancelled() => return,
            ended = hear(&bells, &interest) => ended.err(),
        };
        tracing::warn!(?error, "the kernel's news of links is not heard");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
        // What was told meanwhile is not known.
        bells.pods.notify_one();
    }
}

async fn hear(bells: &Bells, interest: &watch::Receiver<Interest>) -> io::Result<()> {
    let (mut connection, _handle, mut messages) = new_multicast_connection(&GROUPS)?;
    if let Err(error) = connection.socket_mut().socket_mut().set_listen_all_namespaces(true) {
        tracing::warn!(%error, "only the node's own network namespace is listened to; pods are looked at once a minute");
    }
    let mut connection = tokio::spawn(connection);
    let mut signals = Signals::new();
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            _ = &mut connection => None,
        };
        let Some((message, _)) = message else {
            connection.abort();
            return Ok(());
        };
        let worth = match &message.payload {
            NetlinkPayload::InnerMessage(message) => interest.borrow().concerns(message),
            // More was told than the socket could hold.
            NetlinkPayload::Overrun(_) => true,
            _ => false,
        };
        if worth {
            bells.pods.notify_one();
        }
        if let NetlinkPayload::InnerMessage(message) = &message.payload
            && interest.borrow().port_changed(message, &mut signals)
        {
            (bells.ports)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command},
        thread,
        time::Instant,
    };

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::claims::plans::tests::plan;

    fn run(program: &str, arguments: &str) {
        let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments}: {said}");
    }

    /// A process in a network namespace of its own, as a pod is.
    struct Pod(Child);

    impl Pod {
        fn start() -> Self {
            let pod = Self(Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap());
            let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
            let ours = namespace("thread-self").unwrap();
            let start = Instant::now();
            while namespace(&pod.0.id().to_string()).is_none_or(|theirs| theirs == ours) {
                assert!(start.elapsed() < Duration::from_secs(10), "no namespace was made");
                thread::sleep(Duration::from_millis(10));
            }
            pod
        }

        fn ip(&self, arguments: &str) {
            run("nsenter", &format!("--target {} --net ip {arguments}", self.0.id()));
        }
    }

    impl Drop for Pod {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Whether a change was told of within `patience`.
    async fn rang(changed: &Notify, patience: Duration) -> bool {
        tokio::time::timeout(patience, changed.notified()).await.is_ok()
    }

    #[test]
    fn a_port_is_news_when_its_signal_changes_and_not_when_a_vf_is_set() {
        let interest = Interest::of(&[], std::iter::once("0000:01:00.0".to_owned()));
        let link = |parent: &str, signal| {
            let mut link = LinkMessage::default();
            link.header.index = 7;
            if signal {
                link.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
            }
            link.attributes.push(LinkAttribute::ParentDevName(parent.to_owned()));
            link
        };
        let mut signals = Signals::new();
        let mut told = |message| interest.port_changed(&message, &mut signals);
        assert!(told(RouteNetlinkMessage::NewLink(link("0000:01:00.0", true))));
        assert!(
            !told(RouteNetlinkMessage::NewLink(link("0000:01:00.0", true))),
            "a VF was set"
        );
        assert!(
            told(RouteNetlinkMessage::NewLink(link("0000:01:00.0", false))),
            "the cable was pulled"
        );
        assert!(
            !told(RouteNetlinkMessage::NewLink(link("0000:09:00.0", true))),
            "another NIC"
        );
        assert!(told(RouteNetlinkMessage::DelLink(link("0000:01:00.0", false))));
    }

    #[test]
    fn a_route_that_is_lost_inside_a_pod_is_told_and_a_foreign_link_is_not() {
        if !nix::unistd::Uid::effective().is_root() {
            println!("SKIP network namespaces need root");
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "CI must run the tests that need root"
            );
            return;
        }
        let test = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (short, long) = (Duration::from_millis(500), Duration::from_secs(10));
                let changed = Arc::new(Notify::new());
                let plans = [plan("u", "b", ["0000:01:10.0", "0000:02:10.0"])];
                let interest = Interest::of(&plans, std::iter::empty());
                let (_interest, interest) = watch::channel(interest);
                let stop = CancellationToken::new();
                let bells = Bells {
                    pods: changed.clone(),
                    ports: Box::new(|| {}),
                };
                tokio::spawn(listen(bells, interest, stop.clone()));
                let pod = Pod::start();
                tokio::task::yield_now().await;
                run("ip", "link add rail0 type veth peer name leaf0");
                assert!(rang(&changed, long).await, "a rail appeared");
                run("ip", &format!("link set rail0 netns {}", pod.0.id()));
                pod.ip("link set rail0 up");
                pod.ip("route add 10.9.0.0/24 dev rail0 table 1000");
                while rang(&changed, short).await {}
                run("ip", "link add veth7 type veth peer name veth8");
                pod.ip("route add 10.9.0.0/24 dev rail0 table 77");
                assert!(!rang(&changed, short).await, "nothing of a rail has changed");
                pod.ip("route flush table 1000");
                assert!(rang(&changed, long).await, "the rail's route is gone");
                stop.cancel();
            });
        });
        if let Err(panic) = test.join() {
            std::panic::resume_unwind(panic);
        }
    }
}
