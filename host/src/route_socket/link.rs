//! Links: what they are like, and the changes that wiring a pod needs.

use std::os::fd::AsRawFd;

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage, Prop},
};

use super::RouteSocket;
use crate::{InterfaceName, MacAddress, Netns, PciAddress, netlink::NetlinkError};

/// A link as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Each is a flag of the kernel.
pub struct Link {
    /// Number in its namespace. A link that moves may get another one.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Hardware address, when it is an Ethernet address.
    pub mac: Option<MacAddress>,
    /// Bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Has a signal. Always false while the link is down.
    pub carrier: bool,
    /// How many users asked for promiscuous mode.
    pub promiscuity: u32,
    /// Somebody set it to take frames for every hardware address (`IFF_PROMISC`).
    pub promiscuous: bool,
    /// Somebody set it to take all multicast frames (`IFF_ALLMULTI`).
    pub all_multicast: bool,
    /// Frames that wait for the driver.
    pub tx_queue_len: u32,
    /// Alternative names.
    pub altnames: Vec<String>,
    /// The free text that `ip link set alias` sets.
    pub alias: Option<String>,
    /// Name of the device below it (`IFLA_PARENT_DEV_NAME`). The kernel reports it in every namespace, unlike sysfs.
    pub parent: Option<String>,
    /// Bus of that device.
    pub parent_bus: Option<String>,
}

impl Link {
    /// The PCI address of the function below it, if it is a PCI function.
    pub fn pci_address(&self) -> Option<PciAddress> {
        if self.parent_bus.as_deref().is_some_and(|bus| bus != "pci") {
            return None;
        }
        self.parent.as_deref()?.parse().ok()
    }

    pub(super) fn from_message(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
            promiscuity: 0,
            promiscuous: message.header.flags.contains(LinkFlags::Promisc),
            all_multicast: message.header.flags.contains(LinkFlags::Allmulti),
            tx_queue_len: 0,
            altnames: Vec::new(),
            alias: None,
            parent: None,
            parent_bus: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::TxQueueLen(length) => link.tx_queue_len = length,
                LinkAttribute::Promiscuity(count) => link.promiscuity = count,
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::ParentDevName(name) => link.parent = Some(name),
                LinkAttribute::ParentDevBusName(bus) => link.parent_bus = Some(bus),
                LinkAttribute::PropList(properties) => {
                    link.altnames
                        .extend(properties.into_iter().filter_map(|property| match property {
                            Prop::AltIfName(name) => Some(name),
                            _ => None,
                        }));
                }
                _ => {}
            }
        }
        link
    }
}

impl RouteSocket {
    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let message = RouteNetlinkMessage::GetLink(query());
        Ok(self
            .socket
            .dump("list links", &message)?
            .into_iter()
            .filter_map(link_message)
            .map(Link::from_message)
            .collect())
    }

    /// The link with this number, if there is one.
    pub fn link(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        let mut message = query();
        message.header.index = index;
        self.one_link(&format!("read link {index}"), message)
    }

    /// The link with this name, if there is one. Alternative names do not count.
    pub fn link_named(&mut self, name: &InterfaceName) -> Result<Option<Link>, NetlinkError> {
        let mut message = query();
        message.attributes.push(LinkAttribute::IfName(name.to_string()));
        let found = self.one_link(&format!("read link {name}"), message)?;
        Ok(found.filter(|link| link.name == name.as_str()))
    }

    /// The link of a PCI function, if its driver made one and it is in this namespace, found among all links. For a pod's
    /// namespace, which has few; on the host see [`Self::function_link`].
    pub fn link_of(&mut self, function: &PciAddress) -> Result<Option<Link>, NetlinkError> {
        Ok(self
            .links()?
            .into_iter()
            .find(|link| link.pci_address().as_ref() == Some(function)))
    }

    /// Gives a link another name.
    pub fn rename(&mut self, index: u32, name: &InterfaceName) -> Result<(), NetlinkError> {
        self.set_attribute(
            &format!("rename link {index} to {name}"),
            index,
            LinkAttribute::IfName(name.to_string()),
        )
    }

    /// Sets the hardware address. A VF whose PF set another one answers EADDRNOTAVAIL until its driver is bound again.
    pub fn set_mac(&mut self, index: u32, mac: MacAddress) -> Result<(), NetlinkError> {
        self.set_attribute(
            &format!("set the MAC address of link {index} to {mac}"),
            index,
            LinkAttribute::Address(mac.bytes().to_vec()),
        )
    }

    /// Sets the MTU.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        self.set_attribute(
            &format!("set the MTU of link {index} to {mtu}"),
            index,
            LinkAttribute::Mtu(mtu),
        )
    }

    /// Sets the free text of a link; an empty text removes it.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> Result<(), NetlinkError> {
        self.set_attribute(
            &format!("set the alias of link {index} to {alias:?}"),
            index,
            LinkAttribute::IfAlias(alias.to_owned()),
        )
    }

    /// Takes a link up or down. Going down removes its routes from all tables.
    pub fn set_up(&mut self, index: u32, up: bool) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = LinkFlags::Up;
        if up {
            message.header.flags = LinkFlags::Up;
        }
        let verb = if up { "up" } else { "down" };
        self.socket.change(
            &format!("take link {index} {verb}"),
            RouteNetlinkMessage::SetLink(message),
            0,
        )
    }

    /// Moves a link to another namespace, where it arrives down and without addresses. Fails when its name is taken there:
    /// give it a unique name before.
    pub fn move_to(&mut self, index: u32, target: &Netns) -> Result<(), NetlinkError> {
        use std::os::fd::AsFd;
        self.set_attribute(
            &format!("move link {index} to the network namespace {}", target.path().display()),
            index,
            LinkAttribute::NetNsFd(target.as_fd().as_raw_fd()),
        )
    }

    /// Adds an alternative name.
    pub fn add_altname(&mut self, index: u32, name: &str) -> Result<(), NetlinkError> {
        self.socket.change(
            &format!("add the alternative name {name} to link {index}"),
            RouteNetlinkMessage::NewLinkProp(altname(index, name)),
            netlink_packet_core::NLM_F_EXCL | netlink_packet_core::NLM_F_CREATE | netlink_packet_core::NLM_F_APPEND,
        )
    }

    /// Removes an alternative name.
    pub fn remove_altname(&mut self, index: u32, name: &str) -> Result<(), NetlinkError> {
        self.socket.change(
            &format!("remove the alternative name {name} from link {index}"),
            RouteNetlinkMessage::DelLinkProp(altname(index, name)),
            0,
        )
    }

    pub(super) fn set_attribute(
        &mut self,
        request: &str,
        index: u32,
        attribute: LinkAttribute,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(attribute);
        self.socket.change(request, RouteNetlinkMessage::SetLink(message), 0)
    }

    fn one_link(&mut self, request: &str, message: LinkMessage) -> Result<Option<Link>, NetlinkError> {
        match self.socket.get(request, RouteNetlinkMessage::GetLink(message)) {
            Ok(answer) => Ok(link_message(answer).map(Link::from_message)),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Statistics are half of a link's answer and nobody here reads them.
pub(super) fn query() -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

pub(super) fn link_message(message: RouteNetlinkMessage) -> Option<LinkMessage> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    }
}

fn altname(index: u32, name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
        .attributes
        .push(LinkAttribute::PropList(vec![Prop::AltIfName(name.to_owned())]));
    message
}
