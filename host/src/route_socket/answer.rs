//! What this module makes of a message, in one place: for tests that try it with any bytes.

use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage, LinkVfInfo},
};

use super::{Address, Link, LinkOptions, Route, Rule, VfKnob, VfState, address, options, route, rule, vf};

/// What a message is read as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAnswer {
    /// A link with all that is asked of one.
    Link {
        /// The link.
        link: Link,
        /// Its options.
        options: LinkOptions,
        /// Its VFs, if it is a PF.
        vfs: Vec<VfState>,
    },
    /// An address.
    Address(Address),
    /// A route.
    Route(Route),
    /// A rule.
    Rule(Rule),
}

impl RouteAnswer {
    /// `None` for what nobody here reads.
    pub(crate) fn of(message: RouteNetlinkMessage) -> Option<Self> {
        match message {
            RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message) => Some(Self::Link {
                options: options::options(message.clone()).1,
                vfs: vf::states(message.clone()),
                link: Link::from_message(message),
            }),
            RouteNetlinkMessage::NewAddress(message) => address::from_message(&message).map(Self::Address),
            RouteNetlinkMessage::NewRoute(message) => route::from_message(&message).map(Self::Route),
            RouteNetlinkMessage::NewRule(message) => rule::from_message(&message).map(Self::Rule),
            _ => None,
        }
    }

    /// What was read, written as the request that makes it, and read again. Of a link only the settings of its VFs can be
    /// written at once.
    pub fn again(&self) -> Option<Self> {
        let message = match self {
            Self::Link { link, vfs, .. } => {
                let mut message = LinkMessage::default();
                message.header.index = link.index;
                let infos = vfs.iter().map(|vf| LinkVfInfo(all_knobs(vf))).collect();
                message.attributes.push(LinkAttribute::VfInfoList(infos));
                RouteNetlinkMessage::NewLink(message)
            }
            Self::Address(address) => RouteNetlinkMessage::NewAddress(address::to_message(address.link, address.net)),
            Self::Route(route) => RouteNetlinkMessage::NewRoute(route::to_message(route)),
            Self::Rule(rule) => RouteNetlinkMessage::NewRule(rule::to_message(rule)),
        };
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).ok()?.payload {
            NetlinkPayload::InnerMessage(message) => Self::of(message),
            _ => None,
        }
    }
}

fn all_knobs(vf: &VfState) -> Vec<netlink_packet_route::link::VfInfo> {
    let settings = vf.settings();
    let knobs = [
        VfKnob::Mac,
        VfKnob::Vlan,
        VfKnob::Rate,
        VfKnob::SpoofCheck,
        VfKnob::LinkState,
        VfKnob::Trust,
    ];
    knobs
        .iter()
        .filter_map(|knob| vf::info(vf.index, *knob, &settings))
        .collect()
}
