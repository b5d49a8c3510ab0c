//! Which machine this is, for those who read later what was found on it.

use std::fs;

use super::{
    cpuid::Cpu,
    cpuinfo::{self, CpuInfo},
    cpus::CpuList,
    dmi, hostname, machine, release,
};
use crate::model::{Machine, NO_HYPERVISOR};

/// This machine, as far as it says; nothing here can fail.
pub fn machine() -> Machine {
    let cpu = CpuInfo::read().unwrap_or_default();
    Machine {
        hostname: hostname::hostname(),
        kernel: said(release::FILE),
        hypervisor: Some(hypervisor(Cpu::this())),
        cpu: Some(cpu.name).filter(|name| !name.is_empty()),
        cpus: CpuList::online().ok().map(|cpus| cpus.to_string()),
        microcode: Some(cpu.microcode).filter(|revision| !revision.is_empty()),
        product: dmi::product(),
        firmware: dmi::firmware(),
        clock_source: machine::clock_source().map(|source| source.current),
    }
}

/// By the CPU's own instruction, which always answers.
fn hypervisor(cpu: Cpu) -> String {
    if cpu.hypervisor {
        cpuinfo::hypervisor()
    } else {
        NO_HYPERVISOR.to_owned()
    }
}

fn said(file: &str) -> Option<String> {
    fs::read_to_string(file)
        .ok()
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_hypervisor_is_told_apart_from_one_that_is_not_known() {
        let cpu = |hypervisor| Cpu {
            hypervisor,
            ..Cpu::this()
        };
        assert_eq!(hypervisor(cpu(false)), NO_HYPERVISOR);
        assert_ne!(hypervisor(cpu(true)), NO_HYPERVISOR);
    }

    #[test]
    fn this_machine_says_what_every_linux_machine_does() {
        let machine = machine();
        assert_eq!(machine.kernel, Some(release::release()));
        assert!(machine.hostname.is_some_and(|name| !name.contains('\n')));
        assert!(machine.hypervisor.is_some());
        assert!(machine.cpus.is_some_and(|cpus| cpus.starts_with('0')));
    }
}
