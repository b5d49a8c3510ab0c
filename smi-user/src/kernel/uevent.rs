//! What the kernel tells of devices as they come, go, and are taken and given up by drivers (`netlink(7)`,
//! `NETLINK_KOBJECT_UEVENT`; `lib/kobject_uevent.c`). Needs no privilege.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// The group of the kernel's own messages; udev has another for its.
const KERNEL_GROUP: u32 = 1;
/// A message is at most this long: `UEVENT_BUFFER_SIZE` is 2048, and the path comes on top.
const LONGEST: usize = 16 << 10;
/// Room for messages that wait to be read. Each takes about 1 KiB of it.
const ROOM: libc::c_int = 4 << 20;
/// How many messages are taken at once at most.
const MOST: usize = 10_000;

/// What happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It came.
    Add,
    /// It went.
    Remove,
    /// A driver took it.
    Bind,
    /// Its driver gave it up.
    Unbind,
    /// It has another name or place.
    Move,
    /// Something else.
    Other,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uevent {
    /// What happened.
    pub action: Action,
    /// To what: its folder below `/sys`.
    pub path: String,
    /// What kind it is of: `pci`, `net`.
    pub subsystem: String,
    /// The driver; not told once it is given up.
    pub driver: Option<String>,
    /// Of a PCI device: its address.
    pub pci_slot: Option<String>,
    /// Number of the message, ascending.
    pub number: u64,
}

impl Uevent {
    /// The device as sysfs names it.
    pub fn device(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Reads `bind@/devices/...`, then `KEY=value`, each ended by a zero byte; `None` if it is not the kernel's.
    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let mut parts = text.split('\0');
        let (action, path) = parts.next()?.split_once('@')?;
        let mut event = Self {
            action: match action {
                "add" => Action::Add,
                "remove" => Action::Remove,
                "bind" => Action::Bind,
                "unbind" => Action::Unbind,
                "move" => Action::Move,
                _ => Action::Other,
            },
            path: path.to_owned(),
            subsystem: String::new(),
            driver: None,
            pci_slot: None,
            number: 0,
        };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key {
                "SUBSYSTEM" => value.clone_into(&mut event.subsystem),
                "DRIVER" => event.driver = Some(value.to_owned()),
                "PCI_SLOT_NAME" => event.pci_slot = Some(value.to_owned()),
                "SEQNUM" => event.number = value.parse().ok()?,
                _ => {}
            }
        }
        Some(event)
    }
}

/// What came since the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// In the order in which they came.
    pub events: Vec<Uevent>,
    /// Whether some were lost, because too many waited: whatever they told must be found out otherwise.
    pub overrun: bool,
}

/// Takes the kernel's messages.
#[derive(Debug)]
pub struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    /// Begins: what happens from now on is told.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                libc::NETLINK_KOBJECT_UEVENT,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just returned it; nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // Beyond the system's limit where that is allowed, up to it otherwise: what does not fit is told as overrun.
        let room = ROOM;
        for option in [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF] {
            // SAFETY: the value is read only, and of the length told.
            let set = unsafe {
                libc::setsockopt(
                    fd,
                    libc::SOL_SOCKET,
                    option,
                    (&raw const room).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            };
            if set == 0 {
                break;
            }
        }
        // SAFETY: all of it is plain integers.
        let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = KERNEL_GROUP;
        // SAFETY: the address is read only, and of the length told.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), length_of_address()) };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket })
    }

    /// What came since the last time; does not wait.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take(&mut self) -> io::Result<Taken> {
        let mut taken = Taken::default();
        let mut message = vec![0; LONGEST];
        while taken.events.len() < MOST {
            match self.receive(&mut message) {
                Ok(Some(length)) => taken.events.extend(Uevent::of_bytes(&message[..length])),
                // From somebody who is not the kernel.
                Ok(None) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => break,
                    Some(libc::EINTR) => {}
                    Some(libc::ENOBUFS) => taken.overrun = true,
                    _ => return Err(error),
                },
            }
        }
        Ok(taken)
    }

    /// The length of the next message, if it is the kernel's.
    fn receive(&self, message: &mut [u8]) -> io::Result<Option<usize>> {
        // SAFETY: all of it is plain integers.
        let mut sender: libc::sockaddr_nl = unsafe { mem::zeroed() };
        let mut length = length_of_address();
        // SAFETY: the kernel writes no more than the lengths told into both.
        let received = unsafe {
            libc::recvfrom(
                self.socket.as_raw_fd(),
                message.as_mut_ptr().cast(),
                message.len(),
                0,
                (&raw mut sender).cast(),
                &raw mut length,
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok((sender.nl_pid == 0).then_some(received))
    }
}

fn length_of_address() -> libc::socklen_t {
    size_of::<libc::sockaddr_nl>() as libc::socklen_t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_apart() {
        let path = "/devices/pci0000:00/0000:00:03.0";
        let bytes = format!(
            "bind@{path}\0ACTION=bind\0DEVPATH={path}\0SUBSYSTEM=pci\0DRIVER=vfio-pci\0PCI_CLASS=20000\0\
             PCI_ID=8086:10D3\0PCI_SLOT_NAME=0000:00:03.0\0SEQNUM=1403\0"
        );
        let event = Uevent::of_bytes(bytes.as_bytes()).expect("a message");
        assert_eq!(event.device(), "0000:00:03.0");
        assert_eq!(
            event,
            Uevent {
                action: Action::Bind,
                path: path.to_owned(),
                subsystem: "pci".to_owned(),
                driver: Some("vfio-pci".to_owned()),
                pci_slot: Some("0000:00:03.0".to_owned()),
                number: 1403,
            }
        );
        let other = Uevent::of_bytes(b"change@/devices/x\0SEQNUM=7\0").expect("a message");
        assert_eq!((other.action, other.number), (Action::Other, 7));
    }

    #[test]
    fn what_is_no_message_of_the_kernels_is_left_out() {
        for bytes in [
            &b"libudev\0\xfe\xed\xca\xfe"[..],
            b"",
            b"add@/x\0SEQNUM=many\0",
        ] {
            assert_eq!(Uevent::of_bytes(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn what_the_kernel_tells_is_heard_and_nothing_waited_for() {
        let mut uevents = Uevents::open().expect("everybody may listen");
        // Only root may have the kernel say something.
        let asked = std::fs::write("/sys/devices/virtual/mem/null/uevent", "change").is_ok();
        let taken = uevents.take().expect("no failure");
        assert!(!taken.overrun);
        let heard = taken.events.iter().any(|event| {
            event.action == Action::Other
                && event.device() == "null"
                && event.subsystem == "mem"
                && event.number > 0
        });
        assert_eq!(heard, asked, "{taken:?}");
    }
}
