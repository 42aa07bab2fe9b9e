//! What is made of a kernel's answers, without a kernel: for fuzzing, and for tests with recorded answers.

use netlink_packet_core::NetlinkDeserializable;
use netlink_packet_route::RouteNetlinkMessage;

pub use crate::route_socket::RouteAnswer;
use crate::{
    EswitchMode, EthtoolSettings, NetlinkError, NetnsMode, RdmaDevice, RdmaPort, devlink, ethtool,
    generic::GenericMessage,
    netlink::Answers,
    rdma::{RdmaAnswer, RdmaMessage},
};

/// The sequence number of the request that is answered.
pub const SEQUENCE: u32 = 1;

/// What a message is read as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// By the routing socket.
    Route(RouteAnswer),
    /// By a socket of a generic family, whichever the message is of.
    Generic {
        /// As an answer to any question of ethtool.
        ethtool: Box<EthtoolSettings>,
        /// As an answer to devlink's question for the eswitch.
        eswitch: Option<EswitchMode>,
    },
    /// By the RDMA socket.
    Rdma {
        /// As a device in a list.
        device: Option<RdmaDevice>,
        /// As a port in a list.
        port: Option<RdmaPort>,
        /// As the answer to the question who sees devices.
        mode: NetnsMode,
        /// As the answer to the question for open contexts.
        contexts: u64,
        /// As the answer to the question for their processes.
        holders: std::collections::BTreeSet<u32>,
    },
}

/// Reads one datagram of the routing socket as an answer to `request`.
pub fn route(request: &str, datagram: &[u8]) -> Result<Vec<Answer>, NetlinkError> {
    let answers = messages::<RouteNetlinkMessage>(request, datagram)?;
    Ok(answers
        .into_iter()
        .filter_map(RouteAnswer::of)
        .map(Answer::Route)
        .collect())
}

/// Reads one datagram of a generic family as an answer to `request`.
pub fn generic(request: &str, datagram: &[u8]) -> Result<Vec<Answer>, NetlinkError> {
    let read = |message: GenericMessage| {
        let mut settings = EthtoolSettings::default();
        for part in &ethtool::PARTS {
            (part.take)(&mut settings, &message.attributes);
        }
        Answer::Generic {
            ethtool: Box::new(settings),
            eswitch: devlink::eswitch_mode(&message.attributes),
        }
    };
    Ok(messages(request, datagram)?.into_iter().map(read).collect())
}

/// Reads one datagram of the RDMA socket as an answer to `request`.
pub fn rdma(request: &str, datagram: &[u8]) -> Result<Vec<Answer>, NetlinkError> {
    let read = |message: RdmaMessage| {
        let RdmaAnswer {
            device,
            port,
            mode,
            contexts,
            holders,
        } = RdmaAnswer::of(&message);
        Answer::Rdma {
            device,
            port,
            mode,
            contexts,
            holders,
        }
    };
    Ok(messages(request, datagram)?.into_iter().map(read).collect())
}

fn messages<M: NetlinkDeserializable>(request: &str, datagram: &[u8]) -> Result<Vec<M>, NetlinkError> {
    let mut answers = Answers::new(request, SEQUENCE);
    answers.take(datagram)?;
    Ok(answers.messages)
}
