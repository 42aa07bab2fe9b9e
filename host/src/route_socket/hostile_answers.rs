//! Whatever bytes arrive, what is made of an answer is a value or an error: no panic, no endless loop.
//!
//! The inputs are noise behind a right header, and answers of the kernel that runs the tests, cut off and with bytes changed.

use std::sync::LazyLock;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage, address::AddressMessage, link::LinkMessage, route::RouteMessage,
    rule::RuleMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use proptest::prelude::*;

use super::RouteAnswer;

/// The kernel's answers with the links, addresses, routes and rules of this machine, a message each.
static REAL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut requests = vec![
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
    ];
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut route = RouteMessage::default();
        route.header.address_family = family;
        requests.push(RouteNetlinkMessage::GetRoute(route));
        let mut rule = RuleMessage::default();
        rule.header.family = family;
        requests.push(RouteNetlinkMessage::GetRule(rule));
    }
    requests.into_iter().flat_map(answer).collect()
});

/// The messages of the first datagram of a dump.
fn answer(request: RouteNetlinkMessage) -> Vec<Vec<u8>> {
    let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
    socket.bind_auto().unwrap();
    socket.connect(&SocketAddr::new(0, 0)).unwrap();
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0).unwrap();
    let (datagram, _) = socket.recv_from_full().unwrap();
    let mut messages = Vec::new();
    let mut rest = datagram.as_slice();
    while let Some(length) = rest.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize) {
        messages.push(rest[..length].to_vec());
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

/// A real message, shortened at will, with up to eight bytes changed.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    (any::<prop::sample::Index>(), changes, any::<prop::sample::Index>()).prop_map(|(which, changes, length)| {
        let mut bytes = which.get(&REAL).clone();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        // Mostly whole: what is cut off early never reaches the inner parsers.
        if length.index(4) == 0 {
            bytes.truncate(length.index(bytes.len()));
        }
        bytes
    })
}

/// Everything that this module makes of a message; says whether it could be read.
fn read_everything(bytes: &[u8]) -> bool {
    let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) else {
        return false;
    };
    if let NetlinkPayload::InnerMessage(message) = message.payload {
        let _ = RouteAnswer::of(message);
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn noise_behind_a_header_is_read_or_refused(
        kind in 16_u16..80,
        payload in proptest::collection::vec(any::<u8>(), 0..512),
    ) {
        let length = u32::try_from(16 + payload.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        read_everything(&bytes);
    }

    #[test]
    fn answers_of_the_kernel_with_other_bytes_are_read_or_refused(bytes in mutated()) {
        read_everything(&bytes);
    }
}

#[test]
fn the_answers_of_this_kernel_are_read() {
    assert!(!REAL.is_empty());
    for bytes in REAL.iter() {
        assert!(read_everything(bytes), "{bytes:?}");
    }
}
