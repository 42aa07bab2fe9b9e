//! The floor: the kernel work of ADD and DEL and nothing else. No journal, no plan, no locks, no look at what was there; as few requests
//! as the kernel allows, and a wait only where the product has to wait too.

mod netlink;

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    os::fd::AsRawFd,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns},
};
use railhead_host::{MacAddress, RdmaSocket};
use serde::{Deserialize, Serialize};

use netlink::{Request, Socket};

/// Numbers of linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/neighbour.h, linux/fib_rules.h.
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const CREATE: u16 = 0x400;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const NDA_DST: u16 = 1;
const NTF_USE: u8 = 1;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;
const AF_INET: u8 = 2;
const SCOPE_LINK: u8 = 253;
/// How long signal and GID are waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The sysctls of an interface, below `/proc/sys/net`; the same that ADD writes.
const SYSCTLS: [(&str, &str, &str); 5] = [
    ("ipv4", "arp_ignore", "1"),
    ("ipv4", "arp_announce", "2"),
    ("ipv4", "rp_filter", "2"),
    ("ipv6", "accept_ra", "0"),
    ("ipv6", "autoconf", "0"),
];

/// One rail of one pod, as both directions need it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FloorRail {
    /// Name on the host.
    pub host_name: String,
    /// Name in the pod.
    pub pod_name: String,
    /// MAC on the host.
    pub host_mac: MacAddress,
    /// MAC in the pod.
    pub pod_mac: MacAddress,
    /// MTU on the host.
    pub host_mtu: u32,
    /// MTU in the pod.
    pub pod_mtu: u32,
    /// Address in the pod.
    pub address: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
    /// Next hop of the rail's own table, if the rail has a router.
    pub gateway: Option<Ipv4Addr>,
    /// The rail's own table; the rule's priority too.
    pub table: u32,
    /// The soft-RoCE device to make, if rails have one.
    pub soft: Option<String>,
}

/// Wires the rails into the pod's namespace, all at once: the kernel's waits overlap. Answers with the longest wait for a signal.
pub fn add(netns: &Path, rails: &[FloorRail]) -> Result<Duration> {
    let pod = File::open(netns).with_context(|| format!("open {}", netns.display()))?;
    // The first device of a namespace opens the UDP socket for all; of two that are made at once one gets EPERM (kernel 7.3).
    let soft_roce = Mutex::new(());
    let waits = at_once(rails, |rail| add_rail(&pod, &soft_roce, rail))?;
    Ok(waits.into_iter().max().unwrap_or_default())
}

/// Takes the rails back.
pub fn del(netns: &Path, rails: &[FloorRail]) -> Result<()> {
    let home = File::open("/proc/thread-self/ns/net")?;
    let pod = File::open(netns).with_context(|| format!("open {}", netns.display()))?;
    at_once(rails, |rail| del_rail(&home, &pod, rail)).map(drop)
}

/// A thread for each rail, since each ends in the pod's namespace.
fn at_once<T: Send>(rails: &[FloorRail], work: impl Fn(&FloorRail) -> Result<T> + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let threads: Vec<_> = rails
            .iter()
            .map(|rail| scope.spawn(|| work(rail).with_context(|| rail.pod_name.clone())))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a rail's thread panicked"))?)
            .collect()
    })
}

fn add_rail(pod: &File, soft_roce: &Mutex<()>, rail: &FloorRail) -> Result<Duration> {
    // Move, name, MAC and MTU in one request.
    let request = set_link(index_of(&rail.host_name)?, 0, 0)
        .with(IFLA_NET_NS_FD, &pod.as_raw_fd().to_ne_bytes())?
        .with(IFLA_IFNAME, &name(&rail.pod_name))?
        .with(IFLA_ADDRESS, &rail.pod_mac.bytes())?
        .with(IFLA_MTU, &rail.pod_mtu.to_ne_bytes())?;
    Socket::open()?.send("move into the pod", request)?;
    setns(pod, CloneFlags::CLONE_NEWNET).context("enter the pod's namespace")?;
    let mut inside = Socket::open()?;
    arrive(&mut inside, soft_roce, rail)?;
    prove(&mut inside, rail)
}

fn del_rail(home: &File, pod: &File, rail: &FloorRail) -> Result<()> {
    setns(pod, CloneFlags::CLONE_NEWNET).context("enter the pod's namespace")?;
    let mut inside = Socket::open()?;
    let index = index_of(&rail.pod_name)?;
    inside.send("remove the rule", rule(RTM_DELRULE, 0, rail)?)?;
    if let Some(device) = &rail.soft {
        let mut rdma = RdmaSocket::open()?;
        let found = rdma.device_named(device)?.with_context(|| format!("no {device}"))?;
        rdma.remove_soft(&found)?;
    }
    // The kernel takes a link down before it moves it.
    let request = set_link(index, 0, 0)
        .with(IFLA_NET_NS_FD, &home.as_raw_fd().to_ne_bytes())?
        .with(IFLA_IFNAME, &name(&rail.host_name))?
        .with(IFLA_ADDRESS, &rail.host_mac.bytes())?
        .with(IFLA_MTU, &rail.host_mtu.to_ne_bytes())?;
    inside.send("move home", request)
}

fn arrive(inside: &mut Socket, soft_roce: &Mutex<()>, rail: &FloorRail) -> Result<()> {
    let index = index_of(&rail.pod_name)?;
    for (family, sysctl, value) in SYSCTLS {
        let file = format!("/proc/sys/net/{family}/conf/{}/{sysctl}", rail.pod_name);
        fs::write(&file, value).with_context(|| file.clone())?;
    }
    inside.send("up", set_link(index, IFF_UP, IFF_UP))?;
    let address = rail.address.octets();
    let network = u32::from(rail.address) & (u32::MAX << (32 - rail.prefix));
    let broadcast = network | !(u32::MAX << (32 - rail.prefix));
    let mut header = vec![AF_INET, rail.prefix, 0, 0];
    header.extend(index.to_ne_bytes());
    let request = Request::new(RTM_NEWADDR, CREATE, &header)
        .with(IFA_LOCAL, &address)?
        .with(IFA_ADDRESS, &address)?
        .with(IFA_BROADCAST, &broadcast.to_be_bytes())?;
    inside.send("add the address", request)?;
    if let Some(device) = &rail.soft {
        let _alone = soft_roce.lock().unwrap_or_else(PoisonError::into_inner);
        RdmaSocket::open()?.add_soft_roce(device, &rail.pod_name.parse()?)?;
    }
    // The prefix, then the default route that needs it.
    let route = |prefix: u8, scope: u8| {
        // Family, lengths, TOS, table (in its attribute), protocol static, scope, type unicast, flags.
        let header = [AF_INET, prefix, 0, 0, 0, 4, scope, 1, 0, 0, 0, 0];
        Request::new(RTM_NEWROUTE, CREATE, &header)
            .with(RTA_TABLE, &rail.table.to_ne_bytes())?
            .with(RTA_OIF, &index.to_ne_bytes())?
            .with(RTA_PREFSRC, &address)
    };
    let prefix = route(rail.prefix, SCOPE_LINK)?.with(RTA_DST, &network.to_be_bytes())?;
    inside.send("add the route of the prefix", prefix)?;
    if let Some(gateway) = rail.gateway {
        let default = route(0, 0)?.with(RTA_GATEWAY, &gateway.octets())?;
        inside.send("add the default route", default)?;
    }
    inside.send("add the rule", rule(RTM_NEWRULE, CREATE, rail)?)
}

/// Waits for the signal, tells the neighbours, waits for the GID. Answers with how long the signal took.
fn prove(inside: &mut Socket, rail: &FloorRail) -> Result<Duration> {
    let index = index_of(&rail.pod_name)?;
    let start = Instant::now();
    loop {
        let link = inside.ask("read the link", Request::new(RTM_GETLINK, 0, &link_header(index, 0, 0)))?;
        let flags = link.get(8..12).context("a link without flags")?;
        if u32::from_ne_bytes(flags.try_into()?) & IFF_LOWER_UP != 0 {
            break;
        }
        ensure!(start.elapsed() < PATIENCE, "no carrier");
        thread::sleep(Duration::from_millis(1));
    }
    let waited = start.elapsed();
    announce(inside, index, rail.address)?;
    let Some(device) = &rail.soft else { return Ok(waited) };
    let [a, b, c, d] = rail.address.octets();
    let gid = format!("0000:0000:0000:0000:0000:ffff:{a:02x}{b:02x}:{c:02x}{d:02x}");
    let table = format!("/sys/class/infiniband/{device}/ports/1/gids");
    while !(0..8).any(|place| fs::read_to_string(format!("{table}/{place}")).is_ok_and(|found| found.trim() == gid)) {
        ensure!(start.elapsed() < PATIENCE, "{device} has no GID {gid}");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(waited)
}

/// Has the kernel ask for the address from the address, a gratuitous ARP request (RFC 5227, section 3). A packet socket would have to be
/// closed again, and that waits for every processor.
fn announce(inside: &mut Socket, index: u32, address: Ipv4Addr) -> Result<()> {
    // Family, three bytes of nothing, link, state none, flag "use", type.
    let mut header = vec![AF_INET, 0, 0, 0];
    header.extend(index.to_ne_bytes());
    header.extend([0, 0, NTF_USE, 0]);
    let request = Request::new(RTM_NEWNEIGH, CREATE, &header).with(NDA_DST, &address.octets())?;
    inside.send("tell the neighbours", request)
}

fn rule(kind: u16, flags: u16, rail: &FloorRail) -> Result<Request> {
    // Family, lengths, TOS, table (in its attribute), two reserved, action "to table", flags.
    let header = [AF_INET, 0, 32, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    Request::new(kind, flags, &header)
        .with(FRA_SRC, &rail.address.octets())?
        .with(FRA_TABLE, &rail.table.to_ne_bytes())?
        .with(FRA_PRIORITY, &rail.table.to_ne_bytes())
}

fn set_link(index: u32, flags: u32, change: u32) -> Request {
    Request::new(RTM_SETLINK, 0, &link_header(index, flags, change))
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), change.to_ne_bytes()].concat()
}

fn name(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn index_of(name: &str) -> Result<u32> {
    match if_nametoindex(name) {
        Ok(index) => Ok(index),
        Err(error) => bail!("there is no link {name}: {error}"),
    }
}
