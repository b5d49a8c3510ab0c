//! Which kernel this is (`/proc/sys/kernel/osrelease`).

use std::{fmt, fs};

/// A kernel's version, for comparing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
}

impl Version {
    /// Version `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Reads the two leading numbers of a release such as `6.1.0-56-rt-amd64`.
    pub fn of_release(release: &str) -> Option<Self> {
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map(str::parse::<u32>);
        Some(Self::new(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Where the release stands.
pub(super) const FILE: &str = "/proc/sys/kernel/osrelease";

/// The running kernel's release, as `uname -r` prints it.
pub fn release() -> String {
    fs::read_to_string(FILE).map_or_else(|_| String::from("unknown"), |text| text.trim().to_owned())
}

/// Whether the kernel is built with `PREEMPT_RT` (`/proc/version`).
pub fn is_realtime() -> bool {
    fs::read_to_string("/proc/version").is_ok_and(|version| version.contains("PREEMPT_RT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        let version = |release| Version::of_release(release).expect(release);
        assert_eq!(version("6.1.0-56-rt-amd64"), Version::new(6, 1));
        assert_eq!(version("5.17-rc1"), Version::new(5, 17));
        assert!(version("5.4.0") < Version::new(5, 17));
        assert!(version("6.18.44-fc") > Version::new(6, 2));
        assert_eq!(Version::of_release("unknown"), None);
    }
}
