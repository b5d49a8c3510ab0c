//! Two network cards on one wire: frames that one sends and the other receives, past the kernel's protocols.

use std::{
    ffi::CString,
    fs, io, mem,
    net::UdpSocket,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    path::Path,
};

use super::pci::{self, E1000, VIRTIO_NET};
use crate::wait_until;

/// For experiments (IEEE Std 802, "local experimental").
const PROTOCOL: u16 = 0x88b5;
const FRAME: usize = 1000;

/// Both cards, up. Dropped, they are down again, and have nothing mapped.
pub(super) struct Wire {
    virtio: Card,
    e1000: Card,
}

struct Card {
    name: String,
    socket: OwnedFd,
}

impl Wire {
    /// Turns both cards on.
    ///
    /// # Panics
    /// When there is no link between them.
    #[track_caller]
    pub(super) fn up() -> Self {
        let wire = Self {
            virtio: Card::up(pci::only_entry(VIRTIO_NET, &["virtio*", "net"])),
            e1000: Card::up(pci::only_entry(E1000, &["net"])),
        };
        for card in [&wire.virtio, &wire.e1000] {
            let carrier = Path::new("/sys/class/net").join(&card.name).join("carrier");
            wait_until("a link", || {
                fs::read_to_string(&carrier).is_ok_and(|text| text.trim() == "1")
            });
        }
        wire
    }

    /// Has each card send `frames` to the other, one after the other.
    ///
    /// # Panics
    /// When one does not arrive.
    #[track_caller]
    pub(super) fn exchange(&self, frames: u32) {
        for number in 0..frames {
            for (from, to) in [(&self.virtio, &self.e1000), (&self.e1000, &self.virtio)] {
                from.send(number);
                wait_until("a frame", || to.received(number));
            }
        }
    }
}

/// Turns on the network that the machine has with itself.
///
/// # Panics
/// When the kernel refuses.
#[track_caller]
pub(super) fn loopback_up() {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    set(socket.as_raw_fd(), "lo", true).expect("up");
}

/// Turns a card on or off.
fn set(socket: RawFd, name: &str, up: bool) -> io::Result<()> {
    // SAFETY: all zeros are a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = if up { libc::IFF_UP as i16 } else { 0 };
    // SAFETY: the request outlives the call.
    match unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Card {
    #[track_caller]
    fn up(name: String) -> Self {
        // SAFETY: no pointers.
        let socket = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                i32::from(PROTOCOL.to_be()),
            )
        };
        assert!(socket >= 0, "{}", io::Error::last_os_error());
        let card = Self {
            name,
            // SAFETY: a new descriptor that nothing else owns.
            socket: unsafe { OwnedFd::from_raw_fd(socket) },
        };
        set(card.socket.as_raw_fd(), &card.name, true).expect("up");
        // SAFETY: all zeros are a valid value of this plain structure.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = PROTOCOL.to_be();
        let name = CString::new(card.name.as_str()).expect("no NUL");
        // SAFETY: the string ends in NUL.
        address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) }.cast_signed();
        // SAFETY: the address is as long as is said.
        let bound = unsafe {
            libc::bind(
                card.socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        assert_eq!(bound, 0, "{}", io::Error::last_os_error());
        card
    }

    /// Sends a frame with that number to all.
    #[track_caller]
    fn send(&self, number: u32) {
        let mut frame = [0u8; FRAME];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        frame[12..14].copy_from_slice(&PROTOCOL.to_be_bytes());
        frame[14..18].copy_from_slice(&number.to_be_bytes());
        // SAFETY: the frame is as long as is said.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), FRAME, 0) };
        assert_eq!(sent, FRAME.cast_signed(), "{}", io::Error::last_os_error());
    }

    /// Takes what came; whether a frame with that number was among it.
    fn received(&self, number: u32) -> bool {
        let mut frame = [0u8; 2048];
        // SAFETY: the buffer is as long as is said.
        let length = unsafe {
            libc::recv(
                self.socket.as_raw_fd(),
                frame.as_mut_ptr().cast(),
                frame.len(),
                0,
            )
        };
        length == FRAME.cast_signed() && frame[14..18] == number.to_be_bytes()
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        if let Err(error) = set(self.socket.as_raw_fd(), &self.name, false) {
            println!("    {} does not go down: {error}", self.name);
        }
    }
}
