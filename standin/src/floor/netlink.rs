//! The least that talks routing netlink: requests as bytes, one answer each. Nothing of Railhead's own is in the floor.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, anyhow, bail, ensure};
use netlink_sys::{Socket as Inner, SocketAddr, protocols::NETLINK_ROUTE};

/// Numbers of linux/netlink.h.
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// A request under construction.
pub(super) struct Request(Vec<u8>);

impl Request {
    /// A message of this type and with these flags, beginning with its family's header.
    pub(super) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        bytes.extend(header);
        Self(bytes)
    }

    /// Adds an attribute.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Result<Self> {
        let length = u16::try_from(4 + value.len()).context("an attribute is too long")?;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        Ok(self)
    }
}

/// A socket of the namespace in which it was opened.
pub(super) struct Socket {
    inner: Inner,
    sequence: u32,
}

impl Socket {
    pub(super) fn open() -> Result<Self> {
        let mut inner = Inner::new(NETLINK_ROUTE)?;
        inner.bind_auto()?;
        inner.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { inner, sequence: 0 })
    }

    /// Sends a request and waits for its acknowledgement; `what` is for the error.
    pub(super) fn send(&mut self, what: &str, request: Request) -> Result<()> {
        self.ask(what, request).map(drop)
    }

    /// Sends a request and answers with the first message, without its header: the object of a GET.
    pub(super) fn ask(&mut self, what: &str, request: Request) -> Result<Vec<u8>> {
        self.sequence += 1;
        let Request(mut bytes) = request;
        let length = u32::try_from(bytes.len())?;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        self.inner.send(&bytes, 0).with_context(|| what.to_owned())?;
        let mut object = Vec::new();
        loop {
            let mut answer = Vec::with_capacity(1 << 15);
            self.inner
                .recv(&mut answer, 0)
                .with_context(|| format!("{what}: no answer on descriptor {}", self.inner.as_raw_fd()))?;
            ensure!(answer.len() >= HEADER + 4, "{what}: the answer is cut off");
            let kind = u16::from_ne_bytes([answer[4], answer[5]]);
            if kind != NLMSG_ERROR {
                object = answer.split_off(HEADER);
                continue;
            }
            let code = answer[HEADER..HEADER + 4].try_into().map(i32::from_ne_bytes);
            match code.map_err(|_| anyhow!("{what}: no error number"))? {
                0 => return Ok(object),
                code => bail!("{what}: {}", std::io::Error::from_raw_os_error(-code)),
            }
        }
    }
}
