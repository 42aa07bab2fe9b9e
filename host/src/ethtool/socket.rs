//! The requests (Documentation/networking/ethtool-netlink.rst).

use nix::errno::Errno;

use super::{Channels, EthtoolSettings, Rings, bitset};
use crate::{
    generic::GenericSocket,
    netlink::{Attributes, NetlinkError},
};

/// `ETHTOOL_MSG_*` (linux/ethtool_netlink.h).
mod command {
    pub(super) const FEATURES_GET: u8 = 11;
    pub(super) const FEATURES_SET: u8 = 12;
    pub(super) const PRIVFLAGS_GET: u8 = 13;
    pub(super) const PRIVFLAGS_SET: u8 = 14;
    pub(super) const RINGS_GET: u8 = 15;
    pub(super) const RINGS_SET: u8 = 16;
    pub(super) const CHANNELS_GET: u8 = 17;
    pub(super) const CHANNELS_SET: u8 = 18;
    pub(super) const COALESCE_GET: u8 = 19;
    pub(super) const COALESCE_SET: u8 = 20;
    pub(super) const RSS_GET: u8 = 38;
}

/// `ETHTOOL_A_<KIND>_HEADER`, the same number in every message; inside it `ETHTOOL_A_HEADER_DEV_INDEX`,
/// `ETHTOOL_A_HEADER_FLAGS`, and `ETHTOOL_FLAG_OMIT_REPLY`.
const HEADER: u16 = 1;
const DEV_INDEX: u16 = 1;
const FLAGS: u16 = 3;
const OMIT_REPLY: u32 = 2;
/// `ETHTOOL_A_FEATURES_WANTED`, `ETHTOOL_A_PRIVFLAGS_FLAGS`.
const FEATURES_WANTED: u16 = 3;
const PRIVATE_FLAGS: u16 = 2;
/// `ETHTOOL_A_RINGS_RX`, `_RX_MINI`, `_RX_JUMBO`, `_TX`; `ETHTOOL_A_CHANNELS_RX_COUNT`, `_TX_`, `_OTHER_`, `_COMBINED_`. Before
/// each four stand the maxima of the same four.
const FOUR: [u16; 4] = [6, 7, 8, 9];
const MAXIMA: u16 = 4;
/// `ETHTOOL_A_COALESCE_RX_USECS` to `ETHTOOL_A_COALESCE_TX_AGGR_TIME_USECS`: plain numbers, all of them.
const COALESCE: std::ops::RangeInclusive<u16> = 2..=28;

/// `ETHTOOL_A_RSS_HFUNC`, `_INDIR`, `_INPUT_XFRM`, `_FLOW_HASH`: all but the key, which drivers draw anew whenever they are bound.
const STEERING: [u16; 4] = [3, 4, 6, 8];

/// What one request asks for, and what is taken from its answer.
pub(crate) struct Part {
    what: &'static str,
    command: u8,
    pub(crate) take: fn(&mut EthtoolSettings, &Attributes),
}

/// The settings of a link, in the order in which they are asked for.
pub(crate) const PARTS: [Part; 6] = [
    Part {
        what: "features",
        command: command::FEATURES_GET,
        take: |settings, answer| {
            settings.features = bitset::names(&answer.nested(FEATURES_WANTED).unwrap_or_default());
        },
    },
    Part {
        what: "private flags",
        command: command::PRIVFLAGS_GET,
        take: |settings, answer| {
            settings.private_flags = bitset::names(&answer.nested(PRIVATE_FLAGS).unwrap_or_default());
        },
    },
    Part {
        what: "channels",
        command: command::CHANNELS_GET,
        take: |settings, answer| {
            let [rx, tx, other, combined] = four(answer);
            settings.channels = Some(Channels {
                rx,
                tx,
                other,
                combined,
            });
        },
    },
    Part {
        what: "rings",
        command: command::RINGS_GET,
        take: |settings, answer| {
            let [rx, rx_mini, rx_jumbo, tx] = four(answer);
            settings.rings = Some(Rings {
                rx,
                rx_mini,
                rx_jumbo,
                tx,
            });
        },
    },
    Part {
        what: "coalescing",
        command: command::COALESCE_GET,
        take: |settings, answer| {
            settings.coalesce = COALESCE
                .filter_map(|kind| Some((kind, answer.bytes(kind)?.to_vec())))
                .collect();
        },
    },
    Part {
        what: "spreading over queues",
        command: command::RSS_GET,
        take: |settings, answer| {
            settings.steering = Some(digest(STEERING.into_iter().filter_map(|kind| answer.bytes(kind))));
        },
    },
];

/// A socket for ethtool requests; it stays in the namespace in which it was opened.
#[derive(Debug)]
pub struct EthtoolSocket {
    socket: GenericSocket,
}

impl EthtoolSocket {
    /// Opens a socket in the namespace of the calling thread; `None` on a kernel without it (before 5.6).
    pub fn open() -> Result<Option<Self>, NetlinkError> {
        Ok(GenericSocket::open("ethtool")?.map(|socket| Self { socket }))
    }

    /// All settings of a link.
    pub fn settings(&mut self, link: u32) -> Result<EthtoolSettings, NetlinkError> {
        let mut settings = EthtoolSettings::default();
        for part in &PARTS {
            if let Some(answer) = self.get(link, part.what, part.command)? {
                (part.take)(&mut settings, &answer);
            }
        }
        Ok(settings)
    }

    /// Sets what differs between `found` and `wanted`; returns what the driver refused.
    pub fn restore(
        &mut self,
        link: u32,
        found: &EthtoolSettings,
        wanted: &EthtoolSettings,
    ) -> Vec<(&'static str, NetlinkError)> {
        let set = |numbers: [Option<u32>; 4]| {
            FOUR.into_iter()
                .zip(numbers)
                .filter_map(|(kind, number)| Some((kind, number?)))
                .fold(Attributes::default(), |all, (kind, number)| all.with_u32(kind, number))
        };
        let bits = |kind, found, wanted| Attributes::default().with_nested(kind, &bitset::change(found, wanted));
        let channels = wanted.channels.filter(|_| found.channels != wanted.channels);
        let rings = wanted.rings.filter(|_| found.rings != wanted.rings);
        let coalesce = wanted
            .coalesce
            .iter()
            .filter(|(kind, value)| found.coalesce.get(kind) != Some(value))
            .fold(Attributes::default(), |all, (kind, value)| all.with_bytes(*kind, value));
        // Flags of the driver decide what else there is, and numbers of queues what can be offloaded.
        let requests = [
            (found.private_flags != wanted.private_flags).then(|| {
                let flags = bits(PRIVATE_FLAGS, &found.private_flags, &wanted.private_flags);
                ("private flags", command::PRIVFLAGS_SET, flags)
            }),
            channels.map(|c| {
                (
                    "channels",
                    command::CHANNELS_SET,
                    set([c.rx, c.tx, c.other, c.combined]),
                )
            }),
            rings.map(|r| ("rings", command::RINGS_SET, set([r.rx, r.rx_mini, r.rx_jumbo, r.tx]))),
            (found.features != wanted.features).then(|| {
                let features = bits(FEATURES_WANTED, &found.features, &wanted.features);
                ("features", command::FEATURES_SET, features)
            }),
            (coalesce != Attributes::default()).then_some(("coalescing", command::COALESCE_SET, coalesce)),
        ];
        let mut refused = Vec::new();
        for (what, command, attributes) in requests.into_iter().flatten() {
            let request = format!("set the {what} of link {link}");
            if let Err(error) = self.socket.change(&request, command, header(link, attributes)) {
                refused.push((what, error));
            }
        }
        refused
    }

    /// `None` where the driver has no such thing, or does not tell it. A link that is gone and a driver that is busy are errors.
    fn get(&mut self, link: u32, what: &str, command: u8) -> Result<Option<Attributes>, NetlinkError> {
        let request = format!("read the {what} of link {link}");
        match self.socket.get(&request, command, header(link, Attributes::default())) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => match error.errno() {
                Some(Errno::ENODEV | Errno::EBUSY | Errno::EAGAIN) | None => Err(error),
                Some(_) => Ok(None),
            },
        }
    }
}

/// The header goes first; some kernels read the attributes in order.
fn header(link: u32, attributes: Attributes) -> Attributes {
    let header = Attributes::default()
        .with_u32(DEV_INDEX, link)
        .with_u32(FLAGS, OMIT_REPLY);
    Attributes::default()
        .with_nested(HEADER, &header)
        .followed_by(attributes)
}

/// FNV-1a of 64 bits: the same in every release, and nobody gains by a collision but a worse spreading of his own frames.
fn digest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // The length keeps what was cut elsewhere apart.
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes();
        for byte in length.iter().chain(part) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// Four numbers, of which those count that the driver can change.
fn four(answer: &Attributes) -> [Option<u32>; 4] {
    FOUR.map(|kind| {
        let most = answer.u32(kind - MAXIMA)?;
        answer.u32(kind).filter(|_| most > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_differ_are_told_apart() {
        let of = |parts: &[&[u8]]| digest(parts.iter().copied());
        let even = of(&[&[1, 0, 0, 0], &[0, 0, 0, 0, 1, 0, 0, 0]]);
        assert_eq!(even, of(&[&[1, 0, 0, 0], &[0, 0, 0, 0, 1, 0, 0, 0]]));
        assert_ne!(even, of(&[&[1, 0, 0, 0], &[0, 0, 0, 0, 0, 0, 0, 0]]));
        assert_ne!(of(&[&[1], &[2, 3]]), of(&[&[1, 2], &[3]]));
        // What a record of this release holds is compared by the next one.
        assert_eq!(of(&[b"a"]), "529a4ddc8ff56bbf");
    }
}
