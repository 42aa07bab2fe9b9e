//! The socket.

use std::{
    fmt::Debug,
    io,
    marker::PhantomData,
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_sys::SocketAddr;
use nix::sys::{
    socket::{setsockopt, sockopt::ReceiveTimeout},
    time::{TimeVal, TimeValLike},
};

use super::{
    NetlinkError,
    datagram::{Answers, malformed},
};

/// Room for one datagram. A PF with 256 VFs answers with some 60 KiB; pages that are never written cost nothing.
const DATAGRAM: usize = 1 << 18;
/// `MSG_TRUNC` (linux/socket.h): say how long a datagram really was.
const MSG_TRUNC: i32 = 0x20;
/// A kernel answers at once; a request that waits longer is lost.
const ANSWER_SECONDS: i64 = 10;
/// How long a dump that changed under our hands is read again, and the longest pause between two tries. The first pauses
/// are shorter: most disturbances are one link that moves.
const DUMP_PATIENCE: Duration = Duration::from_secs(5);
const DUMP_PAUSE: Duration = Duration::from_millis(64);

/// A blocking socket of one netlink family whose messages are `M`.
#[derive(Debug)]
pub(crate) struct Socket<M> {
    inner: netlink_sys::Socket,
    sequence: u32,
    /// The last datagram. It is kept, since room of this size is mapped and unmapped each time that it is asked for.
    datagram: Vec<u8>,
    messages: PhantomData<fn(M) -> M>,
}

impl<M: NetlinkSerializable + NetlinkDeserializable + Clone + Debug> Socket<M> {
    /// Opens a socket in the namespace of the calling thread.
    pub(crate) fn open(family: isize) -> Result<Self, NetlinkError> {
        let open = || -> io::Result<netlink_sys::Socket> {
            let mut socket = netlink_sys::Socket::new(family)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            setsockopt(&socket.as_fd(), ReceiveTimeout, &TimeVal::seconds(ANSWER_SECONDS))?;
            // Both only make errors better; kernels before 4.12 lack them.
            let _ = socket.set_ext_ack(true);
            let _ = socket.set_cap_ack(true);
            if family == netlink_sys::protocols::NETLINK_ROUTE {
                // Filters in dump requests are honoured, or the request is refused.
                let _ = socket.set_netlink_get_strict_chk(true);
            }
            Ok(socket)
        };
        Ok(Self {
            inner: open().map_err(|source| NetlinkError::Open { source })?,
            sequence: 0,
            datagram: Vec::new(),
            messages: PhantomData,
        })
    }

    /// Sends a request that changes something and waits for the acknowledgement.
    pub(crate) fn change(&mut self, request: &str, message: M, flags: u16) -> Result<(), NetlinkError> {
        self.send(request, message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.answers(request).map(drop)
    }

    /// Asks for one object.
    pub(crate) fn get(&mut self, request: &str, message: M) -> Result<M, NetlinkError> {
        self.send(request, message, NLM_F_REQUEST | NLM_F_ACK)?;
        let (answers, _) = self.answers(request)?;
        answers
            .into_iter()
            .next()
            .ok_or_else(|| malformed(request, "no object in it"))
    }

    /// Asks for all objects; a dump that the kernel marks as interrupted is read again.
    pub(crate) fn dump(&mut self, request: &str, message: &M) -> Result<Vec<M>, NetlinkError> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        let mut tries = 0;
        loop {
            self.send(request, message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            let (answers, interrupted) = self.answers(request)?;
            if !interrupted {
                return Ok(answers);
            }
            tries += 1;
            if start.elapsed() >= DUMP_PATIENCE {
                return Err(NetlinkError::Interrupted {
                    request: request.to_owned(),
                    tries,
                });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(DUMP_PAUSE);
        }
    }

    fn send(&mut self, request: &str, message: M, flags: u16) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.inner
            .send(&bytes, 0)
            .map(drop)
            .map_err(|source| transfer(request, source))
    }

    /// Reads until the acknowledgement, the end of the dump or an error. Says whether the dump was interrupted.
    fn answers(&mut self, request: &str) -> Result<(Vec<M>, bool), NetlinkError> {
        let mut answers = Answers::new(request, self.sequence);
        loop {
            self.receive(request)?;
            if answers.take(&self.datagram)? {
                return Ok((answers.messages, answers.interrupted));
            }
        }
    }

    fn receive(&mut self, request: &str) -> Result<(), NetlinkError> {
        self.datagram
            .reserve_exact(DATAGRAM.saturating_sub(self.datagram.len()));
        loop {
            self.datagram.clear();
            match self.inner.recv_from(&mut self.datagram, MSG_TRUNC) {
                Ok((length, _)) if length > DATAGRAM => {
                    return Err(malformed(request, "longer than the receive buffer"));
                }
                // Port 0 is the kernel; any process may send to our port.
                Ok((_, sender)) if sender.port_number() == 0 => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(transfer(request, source)),
            }
        }
    }
}

fn transfer(request: &str, source: io::Error) -> NetlinkError {
    NetlinkError::Transfer {
        request: request.to_owned(),
        source,
    }
}
