//! CPU lists, in the kernel's notation, and which CPUs there are (`/sys/devices/system/cpu`).

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use thiserror::Error;

/// Highest CPU number any kernel can have: `NR_CPUS` is at most 8192 (`arch/x86/Kconfig`, `NR_CPUS_RANGE_END`).
const MAX_CPU: u32 = 8191;

/// Why a CPU list could not be used.
#[derive(Debug, Error)]
pub enum CpuListError {
    /// Not in the kernel's notation.
    #[error(
        "CPU list \"{list}\": \"{part}\" is not a CPU or a range of them; write it as the kernel does, for example 0-3,8"
    )]
    Malformed {
        /// The whole list.
        list: String,
        /// The part that is wrong.
        part: String,
    },
    /// A range that runs backwards.
    #[error("CPU list \"{list}\": the range \"{part}\" runs backwards; write the lower CPU first")]
    Backwards {
        /// The whole list.
        list: String,
        /// The part that is wrong.
        part: String,
    },
    /// A number no kernel can have.
    #[error("CPU list \"{list}\": CPU {cpu} is above {MAX_CPU}, the highest any kernel can have")]
    TooHigh {
        /// The whole list.
        list: String,
        /// The number.
        cpu: u32,
    },
    /// Nothing in it.
    #[error(
        "the CPU list is empty; name at least one CPU, for example 0, or leave --cpus out to watch all"
    )]
    Empty,
    /// CPUs that are not there or not online.
    #[error(
        "CPU {offline} is not online (online: {online}); leave it out, or bring it online through /sys/devices/system/cpu"
    )]
    Offline {
        /// The CPUs asked for that are not online.
        offline: CpuList,
        /// Those that are.
        online: CpuList,
    },
    /// CPUs outside the process's cpuset.
    #[error(
        "CPU {barred} is online, but this process may not run there: its cpuset allows {allowed}; leave it out, or run smilat outside that cgroup or container"
    )]
    Barred {
        /// The CPUs asked for that are barred.
        barred: CpuList,
        /// Those that are not.
        allowed: CpuList,
    },
    /// The kernel's own list has none.
    #[error("{path} names no CPU; see that the kernel's own sysfs is mounted at /sys")]
    NoCpu {
        /// The file.
        path: PathBuf,
    },
    /// The kernel's own list could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The kernel's list of the CPUs that could ever be.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// A set of CPUs; reads and prints in the kernel's list notation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList(BTreeSet<u32>);

impl CpuList {
    /// The CPUs that are online.
    ///
    /// # Errors
    /// When the kernel's list cannot be read.
    pub fn online() -> Result<Self, CpuListError> {
        Self::read(Path::new("/sys/devices/system/cpu/online"))
    }

    /// The CPUs that could ever be: what per-CPU maps are sized for.
    ///
    /// # Errors
    /// As [`Self::online`].
    pub fn possible() -> Result<Self, CpuListError> {
        Self::read(Path::new(POSSIBLE))
    }

    /// The highest of [`Self::possible`]: what tables by CPU must reach to.
    ///
    /// # Errors
    /// As [`Self::online`].
    pub fn highest_possible() -> Result<u32, CpuListError> {
        let possible = Self::possible()?;
        possible.highest().ok_or_else(|| CpuListError::NoCpu {
            path: POSSIBLE.into(),
        })
    }

    fn read(path: &Path) -> Result<Self, CpuListError> {
        let list = fs::read_to_string(path).map_err(|source| CpuListError::Read {
            path: path.to_owned(),
            source,
        })?;
        if list.trim().is_empty() {
            return Err(CpuListError::NoCpu {
                path: path.to_owned(),
            });
        }
        list.parse()
    }

    /// Whether every CPU of `self` is in `online`, and in `allowed`.
    ///
    /// # Errors
    /// Names those that are not.
    pub fn check_within(&self, online: &Self, allowed: &Self) -> Result<(), CpuListError> {
        let offline = self.without(online);
        if !offline.is_empty() {
            return Err(CpuListError::Offline {
                offline,
                online: online.clone(),
            });
        }
        let barred = self.without(allowed);
        if !barred.is_empty() {
            return Err(CpuListError::Barred {
                barred,
                allowed: allowed.clone(),
            });
        }
        Ok(())
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// The CPUs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        self.0.iter().copied()
    }

    /// Whether `cpu` is one of them.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none. Never so for a list that was parsed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The highest CPU.
    pub fn highest(&self) -> Option<u32> {
        self.0.last().copied()
    }
}

impl FromIterator<u32> for CpuList {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    /// Reads `0-3,8` and the strided form `0-31:2/8` (the first 2 of every 8), as `bitmap_parselist` in
    /// `lib/bitmap-str.c` does.
    fn from_str(list: &str) -> Result<Self, CpuListError> {
        if list.trim().is_empty() {
            return Err(CpuListError::Empty);
        }
        let mut cpus = BTreeSet::new();
        for part in list.split(',').map(str::trim) {
            let malformed = || CpuListError::Malformed {
                list: list.to_owned(),
                part: part.to_owned(),
            };
            let number = |text: &str| {
                let cpu = parse_digits(text).ok_or_else(malformed)?;
                if cpu > MAX_CPU {
                    return Err(CpuListError::TooHigh {
                        list: list.to_owned(),
                        cpu,
                    });
                }
                Ok(cpu)
            };
            let (range, stride) = match part.split_once(':') {
                Some((range, stride)) => (range, Some(stride)),
                None => (part, None),
            };
            let (first, last) = match range.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(range)?, number(range)?),
            };
            if first > last {
                return Err(CpuListError::Backwards {
                    list: list.to_owned(),
                    part: part.to_owned(),
                });
            }
            let (used, group) = match stride {
                None => (1, 1),
                Some(stride) => {
                    let (used, group) = stride.split_once('/').ok_or_else(malformed)?;
                    let used = parse_digits(used).ok_or_else(malformed)?;
                    let group = parse_digits(group).ok_or_else(malformed)?;
                    if used == 0 || used > group || !range.contains('-') {
                        return Err(malformed());
                    }
                    (used, group)
                }
            };
            cpus.extend((first..=last).filter(|cpu| (cpu - first) % group < used));
        }
        Ok(Self(cpus))
    }
}

/// Digits only: `u32::from_str` would take a leading plus sign.
fn parse_digits(text: &str) -> Option<u32> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().unwrap_or(u32::MAX))
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while cpus.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            write!(f, "{separator}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(list: &str) -> Vec<u32> {
        list.parse::<CpuList>().expect(list).iter().collect()
    }

    #[test]
    fn lists_are_read_as_the_kernel_reads_them() {
        assert_eq!(cpus("0"), [0]);
        assert_eq!(cpus("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(cpus("8, 0-1\n"), [0, 1, 8]);
        assert_eq!(cpus("1,1,0-1"), [0, 1]);
        assert_eq!(cpus("0-15:2/8"), [0, 1, 8, 9]);
        assert_eq!(cpus("3-9:1/3"), [3, 6, 9]);
    }

    #[test]
    fn a_file_without_cpus_is_refused_by_its_name() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = CpuList::read(file.path()).expect_err("empty").to_string();
        assert!(error.contains(&format!("{} names no CPU", file.path().display())));
        fs::write(file.path(), "0-3\n").expect("written");
        let list = CpuList::read(file.path()).expect("a list");
        assert_eq!(list.highest(), Some(3));
    }

    #[test]
    fn the_highest_possible_cpu_is_no_lower_than_the_highest_online() {
        let online = CpuList::online().expect("online CPUs").highest();
        let possible = CpuList::highest_possible().expect("possible CPUs");
        assert!(online.is_some_and(|online| online <= possible));
    }

    #[test]
    fn lists_are_printed_as_the_kernel_prints_them() {
        for list in ["0", "0-1", "0-3,8", "0,2,4-6"] {
            assert_eq!(list.parse::<CpuList>().expect(list).to_string(), list);
        }
    }

    #[test]
    fn a_wrong_list_is_refused_with_the_part_that_is_wrong() {
        for (list, told) in [
            ("", "is empty"),
            (" \n", "is empty"),
            ("0,", "\"\" is not a CPU"),
            ("a", "\"a\" is not a CPU"),
            ("0-", "\"0-\" is not a CPU"),
            ("-1", "\"-1\" is not a CPU"),
            ("+1", "\"+1\" is not a CPU"),
            ("1-2-3", "\"1-2-3\" is not a CPU"),
            ("3-1", "\"3-1\" runs backwards"),
            ("0-9:3", "\"0-9:3\" is not a CPU"),
            ("0-9:0/3", "\"0-9:0/3\" is not a CPU"),
            ("0-9:4/3", "\"0-9:4/3\" is not a CPU"),
            ("5:1/3", "\"5:1/3\" is not a CPU"),
            ("8192", "CPU 8192 is above 8191"),
            ("99999999999", "is above 8191"),
        ] {
            let error = list.parse::<CpuList>().expect_err(list).to_string();
            assert!(error.contains(told), "{list:?}: {error}");
        }
    }

    #[test]
    fn a_cpu_that_is_not_online_is_named_beside_those_that_are() {
        let online: CpuList = "0-1".parse().expect("list");
        let asked: CpuList = "1-3".parse().expect("list");
        let error = asked
            .check_within(&online, &online)
            .expect_err("offline")
            .to_string();
        assert!(
            error.contains("CPU 2-3 is not online (online: 0-1)"),
            "{error}"
        );
        assert!(online.check_within(&online, &online).is_ok());
    }

    #[test]
    fn a_cpu_outside_the_cpuset_is_named_beside_those_inside() {
        let list = |list: &str| list.parse::<CpuList>().expect(list);
        let error = list("1-2")
            .check_within(&list("0-3"), &list("0-1"))
            .expect_err("barred")
            .to_string();
        assert!(
            error.contains(
                "CPU 2 is online, but this process may not run there: its cpuset allows 0-1"
            ),
            "{error}"
        );
    }
}
