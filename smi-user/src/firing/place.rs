//! Whether SMIs can be fired on this machine, and should be.

use std::io;

use super::PORT;
use crate::{
    detector::Availability,
    kernel::{
        container,
        fadt::Fadt,
        port::{PATH, PortError, Ports},
        process,
    },
};

/// What decides.
#[derive(Debug)]
struct Place {
    is_x86: bool,
    container: Option<String>,
    lockdown: Option<String>,
    ports: Result<(), PortError>,
    /// `SMI_CMD`, where the firmware's table can be read.
    smi_cmd: Option<u32>,
}

/// Whether SMIs can be fired here, and if not why and what would help. Fires none. With `force`, the firmware's word on
/// its port does not count.
pub fn probe(fadt: Option<&Fadt>, force: bool) -> Availability {
    judge(
        &Place {
            is_x86: cfg!(target_arch = "x86_64"),
            container: container::sign(),
            lockdown: process::lockdown(),
            ports: Ports::open().map(drop),
            smi_cmd: fadt.map(|fadt| fadt.smi_cmd),
        },
        force,
    )
}

fn judge(place: &Place, force: bool) -> Availability {
    let missing = |reason: String, remedy: &str| Availability::Missing {
        reason,
        remedy: remedy.to_owned(),
    };
    if !place.is_x86 {
        return missing(
            "only x86 has SMIs".to_owned(),
            "nothing would help on this CPU",
        );
    }
    if let Some(mode) = &place.lockdown {
        return missing(
            format!("the kernel is locked down ({mode}), which bars programs from I/O ports"),
            "boot it with lockdown=none, or with Secure Boot off",
        );
    }
    if let Some(sign) = &place.container {
        return missing(
            format!(
                "this is a container ({sign}), and an SMI stops the whole host, not just the container"
            ),
            "run it on the host",
        );
    }
    if let Err(error) = &place.ports {
        let (PortError::Open(source) | PortError::Write { source, .. }) = error;
        let remedy = match source.kind() {
            io::ErrorKind::NotFound => "use a kernel with CONFIG_DEVPORT=y",
            io::ErrorKind::PermissionDenied => {
                "run it as root, for example with sudo: it takes CAP_SYS_RAWIO"
            }
            _ => "see the kernel's log",
        };
        return missing(format!("cannot open {PATH} for writing: {source}"), remedy);
    }
    match place.smi_cmd {
        Some(port) if port != u32::from(PORT) && !force => {
            let word = if port == 0 {
                "has no port for requests to firmware".to_owned()
            } else {
                format!("takes requests to firmware at port {port:#x}")
            };
            missing(
                format!(
                    "by its ACPI table FADT this machine {word}, so a write to port {PORT:#x} may do nothing, or \
                     something else than raise an SMI"
                ),
                "insist with --force",
            )
        }
        _ => Availability::Ready,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            is_x86: true,
            container: None,
            lockdown: None,
            ports: Ok(()),
            smi_cmd: Some(0xb2),
        }
    }

    fn ports(errno: i32) -> Result<(), PortError> {
        Err(PortError::Open(io::Error::from_raw_os_error(errno)))
    }

    #[test]
    fn a_usual_machine_is_fit_whether_its_table_can_be_read_or_not() {
        assert_eq!(judge(&place(), false), Availability::Ready);
        let unread = Place {
            smi_cmd: None,
            ..place()
        };
        assert_eq!(judge(&unread, false), Availability::Ready);
    }

    #[test]
    fn each_obstacle_is_named_with_what_helps() {
        for (place, reason_told, remedy_told) in [
            (
                Place {
                    is_x86: false,
                    ..place()
                },
                "only x86 has SMIs",
                "nothing",
            ),
            (
                Place {
                    container: Some("there is a file /.dockerenv".to_owned()),
                    ..place()
                },
                "a container (there is a file /.dockerenv)",
                "on the host",
            ),
            (
                Place {
                    lockdown: Some("integrity".to_owned()),
                    ports: ports(libc::EPERM),
                    ..place()
                },
                "locked down (integrity)",
                "lockdown=none",
            ),
            (
                Place {
                    ports: ports(libc::ENOENT),
                    ..place()
                },
                "/dev/port",
                "CONFIG_DEVPORT",
            ),
            (
                Place {
                    ports: ports(libc::EPERM),
                    ..place()
                },
                "/dev/port",
                "CAP_SYS_RAWIO",
            ),
        ] {
            // None of these gives way to insisting.
            for force in [false, true] {
                match judge(&place, force) {
                    Availability::Missing { reason, remedy } => {
                        assert!(reason.contains(reason_told), "{reason}");
                        assert!(remedy.contains(remedy_told), "{remedy}");
                    }
                    Availability::Ready => panic!("{reason_told}"),
                }
            }
        }
    }

    #[test]
    fn another_port_or_none_has_to_be_insisted_on() {
        for (port, told) in [(0, "has no port"), (0xb0, "at port 0xb0")] {
            let place = Place {
                smi_cmd: Some(port),
                ..place()
            };
            match judge(&place, false) {
                Availability::Missing { reason, remedy } => {
                    assert!(reason.contains(told), "{reason}");
                    assert!(remedy.contains("--force"), "{remedy}");
                }
                Availability::Ready => panic!("{told}"),
            }
            assert_eq!(judge(&place, true), Availability::Ready);
        }
    }
}
