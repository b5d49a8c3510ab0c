//! Intel's count of SMIs, read from the CPU's registers by the `msr` module: for kernels whose `msr` PMU does not offer
//! it. No perf event, so BPF programs cannot read it.

use std::collections::BTreeMap;

use anyhow::Error;

use super::{Availability, Counter, CounterError, Counting, missing};
use crate::kernel::{
    cpuid::{Cpu, Vendor},
    cpus::CpuList,
    msr::{Msr, MsrError},
};

/// `MSR_SMI_COUNT` (Intel SDM volume 4): SMIs since reset in the low 32 bits, the rest is reserved.
const MSR_SMI_COUNT: u32 = 0x34;

/// What it is called.
pub(super) const NAME: &str = "MSR 0x34";

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct MsrDevice;

impl Counter for MsrDevice {
    fn name(&self) -> &'static str {
        NAME
    }

    fn source(&self) -> &'static str {
        "Intel's MSR 0x34, by /dev/cpu/N/msr"
    }

    fn probe(&self) -> Availability {
        let first = match CpuList::online() {
            Ok(online) => online.iter().next().unwrap_or(0),
            Err(error) => return missing(error.to_string(), "mount sysfs at /sys"),
        };
        match Cpu::this().vendor {
            Vendor::Intel => {
                judge(Msr::open(first).and_then(|registers| registers.read(MSR_SMI_COUNT)))
            }
            _ => missing(
                "only CPUs of Intel have this count",
                "nothing would help on this CPU",
            ),
        }
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn open(&self, cpus: &CpuList) -> Result<Box<dyn Counting>, CounterError> {
        let mut registers = BTreeMap::new();
        for cpu in cpus.iter() {
            let open = || {
                let msr = Msr::open(cpu)?;
                let total = Total::from(msr.read(MSR_SMI_COUNT)?);
                Ok((msr, total))
            };
            registers.insert(cpu, open().map_err(|error| refused(cpu, error))?);
        }
        Ok(Box::new(Registers(registers)))
    }
}

/// Whether a first reading says that more can be had.
fn judge(reading: Result<u64, MsrError>) -> Availability {
    let Err(error) = reading else {
        return Availability::Ready;
    };
    let remedy = match error.errno() {
        Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => {
            "load the module that makes the file (modprobe msr; CONFIG_X86_MSR)"
        }
        Some(libc::EPERM | libc::EACCES) => {
            "run it as root: it takes CAP_SYS_RAWIO, outside containers"
        }
        Some(libc::EIO) => "nothing would help: this CPU or its hypervisor has no such register",
        _ => "see the kernel's log",
    };
    missing(format!("{:#}", Error::from(error)), remedy)
}

fn refused(cpu: u32, source: MsrError) -> CounterError {
    match source.errno() {
        Some(libc::ENXIO | libc::ENODEV) => CounterError::Offline(cpu),
        _ => CounterError::Msr { cpu, source },
    }
}

/// The registers of each CPU, and its count.
struct Registers(BTreeMap<u32, (Msr, Total)>);

impl Counting for Registers {
    fn read(&mut self, cpu: u32) -> Result<u64, CounterError> {
        let (msr, total) = self.0.get_mut(&cpu).ok_or(CounterError::NotOpened(cpu))?;
        let raw = msr
            .read(MSR_SMI_COUNT)
            .map_err(|error| refused(cpu, error))?;
        // A file that is open still answers for a CPU that went and came back, whose count may have begun anew.
        if total.fell_to(raw) {
            return Err(CounterError::Offline(cpu));
        }
        Ok(total.advance_to(raw))
    }
}

/// Makes of a register of 32 bits a count that never wraps.
#[derive(Clone, Copy, Debug)]
struct Total(u64);

impl From<u64> for Total {
    /// From the first reading on.
    fn from(raw: u64) -> Self {
        Self(raw & u64::from(u32::MAX))
    }
}

impl Total {
    fn since(self, raw: u64) -> u32 {
        (raw as u32).wrapping_sub(self.0 as u32)
    }

    /// Whether the register is below what it was, rather than past its end and on from 0.
    fn fell_to(self, raw: u64) -> bool {
        self.since(raw) > u32::MAX / 2
    }

    /// The count at a further reading.
    fn advance_to(&mut self, raw: u64) -> u64 {
        self.0 += u64::from(self.since(raw));
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_count_goes_on_where_the_register_wraps() {
        let mut total = Total::from(0xffff_fffe);
        assert_eq!(total.advance_to(0xffff_ffff), 0xffff_ffff);
        assert!(!total.fell_to(5));
        assert_eq!(total.advance_to(5), 0x1_0000_0005);
        assert_eq!(total.advance_to(5), 0x1_0000_0005);
    }

    #[test]
    fn a_register_that_began_anew_is_seen() {
        let total = Total::from(1_000);
        assert!(total.fell_to(0) && total.fell_to(999));
        assert!(!total.fell_to(1_000) && !total.fell_to(1_001));
    }

    #[test]
    fn each_refusal_has_its_remedy() {
        let open = |errno| {
            judge(Err(MsrError::Open {
                path: "/dev/cpu/0/msr".into(),
                source: io::Error::from_raw_os_error(errno),
            }))
        };
        for (errno, told) in [
            (libc::ENOENT, "modprobe msr"),
            (libc::EPERM, "CAP_SYS_RAWIO"),
            (libc::EIO, "no such register"),
        ] {
            match open(errno) {
                Availability::Missing { reason, remedy } => {
                    assert!(reason.contains("/dev/cpu/0/msr"), "{reason}");
                    assert!(remedy.contains(told), "{remedy}");
                }
                Availability::Ready => panic!("{told}"),
            }
        }
        assert_eq!(judge(Ok(7)), Availability::Ready);
    }
}
