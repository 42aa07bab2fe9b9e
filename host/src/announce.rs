//! Gratuitous ARP: neighbours learn at once that an address has a new owner.

use std::{
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket},
};
use thiserror::Error;

use crate::{InterfaceName, MacAddress, Netns, NetnsError};

/// Why an address was not announced.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// The namespace could not be visited.
    #[error(transparent)]
    Netns(NetnsError),
    /// The interface is not there.
    #[error("announce {address}: no interface {interface}")]
    NoInterface {
        /// Which address.
        address: Ipv4Addr,
        /// Which interface.
        interface: InterfaceName,
    },
    /// The frame could not be sent.
    #[error("announce {address} on {interface}: {source}")]
    Send {
        /// Which address.
        address: Ipv4Addr,
        /// Which interface.
        interface: InterfaceName,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

/// Broadcasts a gratuitous ARP request (RFC 5227, section 3) for `address` on `interface` of `netns`.
pub fn announce(
    netns: &Netns,
    interface: &InterfaceName,
    mac: MacAddress,
    address: Ipv4Addr,
) -> Result<(), AnnounceError> {
    netns
        .run(|| {
            let send_error = |source| AnnounceError::Send {
                address,
                interface: interface.clone(),
                source,
            };
            // getifaddrs hands out a ready sockaddr_ll of the interface; building one by hand would need unsafe code.
            let link = link_address(interface)
                .map_err(send_error)?
                .ok_or_else(|| AnnounceError::NoInterface {
                    address,
                    interface: interface.clone(),
                })?;
            let raw: OwnedFd =
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).map_err(send_error)?;
            sendto(raw.as_raw_fd(), &frame(mac, address), &link, MsgFlags::empty())
                .map(drop)
                .map_err(send_error)
        })
        .map_err(AnnounceError::Netns)?
}

fn link_address(interface: &InterfaceName) -> Result<Option<LinkAddr>, Errno> {
    Ok(getifaddrs()?
        .filter(|entry| entry.interface_name == interface.as_str())
        .find_map(|entry| entry.address?.as_link_addr().copied()))
}

/// An Ethernet frame with an ARP request whose sender and target are `address` (linux/if_arp.h).
fn frame(mac: MacAddress, address: Ipv4Addr) -> [u8; 42] {
    let mut frame = [0; 42];
    let mut parts = frame.as_mut_slice();
    let mut put = |bytes: &[u8]| {
        let (head, tail) = std::mem::take(&mut parts).split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        parts = tail;
    };
    put(&[0xff; 6]);
    put(&mac.bytes());
    put(&[0x08, 0x06]); // ETH_P_ARP
    put(&[0, 1, 0x08, 0, 6, 4, 0, 1]); // ARPHRD_ETHER, ETH_P_IP, lengths, ARPOP_REQUEST
    put(&mac.bytes());
    put(&address.octets());
    put(&[0; 6]);
    put(&address.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_a_gratuitous_arp_request() {
        let frame = frame("02:00:00:00:00:01".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(
            frame,
            [
                255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0,
                0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1
            ]
        );
    }
}
