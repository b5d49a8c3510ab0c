//! Intel's count of SMIs, by the kernel's `msr` PMU (`arch/x86/events/msr.c`), which offers it for the models that have
//! it. Needs neither a module nor a core PMU.

use super::{Availability, Counter, CounterError, Counting, events::Events, may_count_cpus};
use super::{missing, try_open};
use crate::kernel::{
    cpuid::{Cpu, Vendor},
    cpus::CpuList,
    pmu::{Event, Pmu, PmuError},
};

/// The PMU, and its event.
const PMU: &str = "msr";
const EVENT: &str = "smi";

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct MsrPmu;

impl MsrPmu {
    fn event() -> Option<Result<Event, PmuError>> {
        let pmu = Pmu::find(PMU)?;
        pmu.has(EVENT).then(|| pmu.event(EVENT))
    }
}

impl Counter for MsrPmu {
    fn name(&self) -> &'static str {
        "msr/smi"
    }

    fn source(&self) -> &'static str {
        "Intel's MSR 0x34, by the event smi of the kernel's msr PMU"
    }

    fn probe(&self) -> Availability {
        if Self::event().is_none() {
            return no_event(Cpu::this());
        }
        match may_count_cpus() {
            Availability::Ready => try_open(self),
            missing @ Availability::Missing { .. } => missing,
        }
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn open(&self, cpus: &CpuList) -> Result<Box<dyn Counting>, CounterError> {
        let event = Pmu::find(PMU)
            .ok_or_else(gone)
            .and_then(|pmu| pmu.event(EVENT))?;
        Ok(Box::new(Events::open(event, cpus)?))
    }
}

/// The PMU was there when it was probed, and is not any more.
fn gone() -> PmuError {
    PmuError::Read {
        path: format!("/sys/bus/event_source/devices/{PMU}").into(),
        source: std::io::ErrorKind::NotFound.into(),
    }
}

/// Why the kernel offers no such event on this CPU.
fn no_event(cpu: Cpu) -> Availability {
    match cpu.vendor {
        Vendor::Intel => missing(
            "the kernel's msr PMU offers no event smi for this CPU",
            "use a kernel that knows this model (it has CONFIG_PERF_EVENTS=y and is as new as the CPU)",
        ),
        _ => missing(
            "only CPUs of Intel have this count",
            "nothing would help on this CPU",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_event_is_put_down_to_the_cpu_or_the_kernel() {
        let cpu = |vendor| Cpu {
            vendor,
            family: 6,
            model: 85,
            hypervisor: false,
        };
        let reason = |vendor| match no_event(cpu(vendor)) {
            Availability::Missing { reason, .. } => reason,
            Availability::Ready => panic!("it is missing"),
        };
        assert!(reason(Vendor::Intel).contains("no event smi"));
        assert!(reason(Vendor::Amd).contains("only CPUs of Intel"));
    }
}
