//! AMD's event `ls_smi_rx`, "SMIs received", of the core PMU (event 0x2B without unit mask in AMD's Processor Programming
//! References).
//!
//! Counted, never sampled: its overflow interrupt is an NMI, itself a gap for the detectors. AMD does not promise that
//! it is exact.

use super::{Availability, Counter, CounterError, Counting, events::Events, may_count_cpus};
use super::{missing, try_open};
use crate::kernel::{
    cpuid::{Cpu, Vendor},
    cpus::CpuList,
    pmu::{Pmu, PmuError},
};

/// The core PMU, and the event's number and unit mask.
const PMU: &str = "cpu";
const EVENT: [(&str, u64); 2] = [("event", 0x2b), ("umask", 0)];

/// The family of Zen 1 and Zen 2, and the first model of the latter (the kernel's
/// `tools/perf/pmu-events/arch/x86/mapfile.csv` divides them there).
const ZEN_FAMILY: u32 = 0x17;
const ZEN_2_MODEL: u32 = 0x30;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct LsSmiRx;

impl Counter for LsSmiRx {
    fn name(&self) -> &'static str {
        "ls_smi_rx"
    }

    fn source(&self) -> &'static str {
        "AMD's event ls_smi_rx (0x2B) of the core PMU"
    }

    fn probe(&self) -> Availability {
        match on(Cpu::this(), Pmu::find(PMU).is_some()) {
            Availability::Ready => {}
            missing @ Availability::Missing { .. } => return missing,
        }
        match may_count_cpus() {
            Availability::Ready => try_open(self),
            missing @ Availability::Missing { .. } => missing,
        }
    }

    fn is_exact(&self) -> bool {
        false
    }

    fn open(&self, cpus: &CpuList) -> Result<Box<dyn Counting>, CounterError> {
        let pmu = Pmu::find(PMU).ok_or_else(|| PmuError::Read {
            path: format!("/sys/bus/event_source/devices/{PMU}").into(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        Ok(Box::new(Events::open(pmu.encode(&EVENT)?, cpus)?))
    }
}

/// Whether such a CPU with or without a core PMU has the event.
fn on(cpu: Cpu, has_pmu: bool) -> Availability {
    if cpu.vendor != Vendor::Amd {
        return missing(
            "only CPUs of AMD have this event",
            "nothing would help on this CPU",
        );
    }
    if (cpu.family, cpu.model) < (ZEN_FAMILY, ZEN_2_MODEL) {
        return missing(
            format!(
                "AMD has it from Zen 2 on (family 0x17, model 0x30), this is family {:#x}, model {:#x}",
                cpu.family, cpu.model
            ),
            "nothing would help on this CPU",
        );
    }
    if !has_pmu {
        return missing(
            "the kernel has no core PMU here",
            "have the hypervisor offer one, or run smilat on the host",
        );
    }
    Availability::Ready
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_an_amd_cpu_from_zen_2_on_with_its_pmu() {
        let cpu = |vendor, family, model| Cpu {
            vendor,
            family,
            model,
            hypervisor: false,
        };
        for (cpu, has_pmu, told) in [
            (cpu(Vendor::Intel, 0x6, 0x55), true, "only CPUs of AMD"),
            (cpu(Vendor::Amd, 0x15, 0x60), true, "from Zen 2 on"),
            (cpu(Vendor::Amd, 0x17, 0x01), true, "model 0x1"),
            (cpu(Vendor::Amd, 0x17, 0x31), false, "no core PMU"),
        ] {
            match on(cpu, has_pmu) {
                Availability::Missing { reason, .. } => assert!(reason.contains(told), "{reason}"),
                Availability::Ready => panic!("{told}"),
            }
        }
        for (family, model) in [(0x17, 0x31), (0x17, 0x71), (0x19, 0x01), (0x1a, 0x02)] {
            assert_eq!(
                on(cpu(Vendor::Amd, family, model), true),
                Availability::Ready
            );
        }
    }
}
