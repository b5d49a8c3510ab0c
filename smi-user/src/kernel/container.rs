//! Whether this process lives in a container.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// Numbers of the first namespaces (`PROC_PID_INIT_INO`, `PROC_USER_INIT_INO` in `include/linux/proc_ns.h`): the same
/// on every kernel.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;
/// The same of mounts (`MNT_NS_INIT_INO` in `include/uapi/linux/nsfs.h`), on kernels that have it. On others no namespace
/// of mounts has this number: theirs begin at `PROC_DYNAMIC_FIRST`, `0xF000_0000`.
const FIRST_MOUNT_NAMESPACE: u64 = 0xEFFF_FFF8;

/// Files that container managers leave inside: Docker, Podman, systemd.
const MARKS: [&str; 3] = [
    "/.dockerenv",
    "/run/.containerenv",
    "/run/systemd/container",
];

/// What there is to see.
#[derive(Clone, Debug, Default)]
struct Signs {
    pid_namespace: Option<u64>,
    user_namespace: Option<u64>,
    /// Whether the files this process sees are those that process 1 sees; `None` where that cannot be told.
    mounts_of_init: Option<bool>,
    mark: Option<&'static str>,
}

/// What shows that this process is in a container; `None` when nothing does.
pub fn sign() -> Option<String> {
    let number = |path: &str| fs::metadata(path).ok().map(|namespace| namespace.ino());
    let mounts = |of: &str| number(&format!("/proc/{of}/ns/mnt"));
    judge(&Signs {
        pid_namespace: number("/proc/self/ns/pid"),
        user_namespace: number("/proc/self/ns/user"),
        mounts_of_init: mounts_of_init(mounts("1"), mounts("self")),
        mark: MARKS.into_iter().find(|mark| Path::new(mark).exists()),
    })
}

/// Whether both see the same files; not every process may ask for those of process 1.
fn mounts_of_init(init: Option<u64>, own: Option<u64>) -> Option<bool> {
    if own == Some(FIRST_MOUNT_NAMESPACE) {
        return Some(true);
    }
    init.zip(own).map(|(init, own)| init == own)
}

fn judge(signs: &Signs) -> Option<String> {
    let elsewhere = |number: Option<u64>, first| number.is_some_and(|number| number != first);
    if elsewhere(signs.pid_namespace, FIRST_PID_NAMESPACE) {
        return Some("its process numbers are not the host's".to_owned());
    }
    if elsewhere(signs.user_namespace, FIRST_USER_NAMESPACE) {
        return Some("its users are not the host's".to_owned());
    }
    // A virtual machine made of a container's image has the mark too; there process 1 sees it as well.
    match signs {
        Signs {
            mark: Some(mark),
            mounts_of_init: None | Some(false),
            ..
        } => Some(format!("there is a file {mark}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Signs {
        Signs {
            pid_namespace: Some(FIRST_PID_NAMESPACE),
            user_namespace: Some(FIRST_USER_NAMESPACE),
            mounts_of_init: Some(true),
            mark: None,
        }
    }

    #[test]
    fn a_host_shows_no_sign_even_if_it_was_made_of_an_image() {
        assert_eq!(judge(&host()), None);
        let image = Signs {
            mark: Some("/.dockerenv"),
            ..host()
        };
        assert_eq!(judge(&image), None);
        // A service with mounts of its own.
        let service = Signs {
            mounts_of_init: Some(false),
            ..host()
        };
        assert_eq!(judge(&service), None);
        assert_eq!(judge(&Signs::default()), None);
    }

    #[test]
    fn the_first_namespace_of_mounts_is_known_without_asking_for_that_of_process_1() {
        assert_eq!(mounts_of_init(None, Some(4_026_531_832)), Some(true));
        assert_eq!(mounts_of_init(None, Some(4_026_532_200)), None);
        assert_eq!(mounts_of_init(None, None), None);
        let known = mounts_of_init(Some(4_026_532_200), Some(4_026_532_201));
        assert_eq!(known, Some(false));
    }

    #[test]
    fn each_sign_is_named() {
        let of = |signs: Signs| judge(&signs).expect("a container");
        let other = Some(4_026_532_177);
        let pid = of(Signs {
            pid_namespace: other,
            ..host()
        });
        assert!(pid.contains("process numbers"), "{pid}");
        let user = of(Signs {
            user_namespace: other,
            ..host()
        });
        assert!(user.contains("users"), "{user}");
        for mounts_of_init in [None, Some(false)] {
            let mark = of(Signs {
                mark: Some("/run/.containerenv"),
                mounts_of_init,
                ..host()
            });
            assert!(mark.contains("/run/.containerenv"), "{mark}");
        }
    }
}
