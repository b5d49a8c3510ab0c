//! The machine around the CPUs: a hypervisor and what it hides, SMT and hybrid layouts, isolated CPUs, Intel PT, IOMMU.

use std::fs;

use super::{Check, Facts, Group, State};
use crate::kernel::{
    cpuinfo,
    cpus::CpuList,
    kconfig::Setting,
    machine,
    msr::Msr,
    pmu::{self, Pmu},
};

/// Ticks a second of the times in `/proc/stat` (`USER_HZ`, 100 on x86).
const TICKS_PER_S: f64 = 100.0;

/// Abilities of VMX beyond the basic ones (Intel SDM volume 3, appendix A.6).
const IA32_VMX_MISC: u32 = 0x485;
/// Bit 14 of `IA32_VMX_MISC`: Intel PT may run in VMX operation (Intel SDM volume 3, appendix A.6).
const PT_IN_VMX: u64 = 1 << 14;

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let hypervisor = facts.is_virtual().then(cpuinfo::hypervisor);
    let mut checks = vec![
        virtualisation(hypervisor.as_deref(), machine::steal_ticks()),
        layout(
            machine::read("cpu/smt/active").as_deref(),
            pmu::attribute("cpu_core", "cpus").as_deref(),
            pmu::attribute("cpu_atom", "cpus").as_deref(),
        ),
        isolated(
            machine::read("cpu/isolated").as_deref(),
            machine::read("cpu/nohz_full").as_deref(),
            machine::read("cpu/online").as_deref(),
        ),
    ];
    if facts.cpu.vendor == "GenuineIntel" {
        checks.push(intel_pt(
            Pmu::find("intel_pt").is_some(),
            facts.cpu.has("intel_pt"),
            facts.cpu.has("vmx").then(|| {
                Msr::open(0)
                    .and_then(|registers| registers.read(IA32_VMX_MISC))
                    .map_err(|error| format!("{:#}", anyhow::Error::from(error)))
            }),
            facts.is_virtual(),
        ));
    }
    let groups = fs::read_dir("/sys/kernel/iommu_groups").map_or(0, Iterator::count);
    let has_driver = facts
        .config()
        .map(|config| config.get(iommu_option(facts.cpu.vendor == "GenuineIntel")) != Setting::Off);
    checks.push(iommu(
        groups,
        has_driver,
        facts.is_virtual(),
        facts.cpu.vendor == "GenuineIntel",
    ));
    checks
}

fn virtualisation(hypervisor: Option<&str>, steal_ticks: Option<u64>) -> Check {
    let name = "virtualisation";
    let Some(hypervisor) = hypervisor else {
        return Check::ok(
            Group::Machine,
            name,
            "the CPU does not say that there is a hypervisor",
        );
    };
    let steal = match steal_ticks {
        None => "steal time cannot be read".to_owned(),
        Some(0) => "it admits no steal time, so none was taken or it does not tell".to_owned(),
        Some(ticks) => format!(
            "it admits {:.0} s of steal time since boot",
            ticks as f64 / TICKS_PER_S
        ),
    };
    Check::ok(
        Group::Machine,
        name,
        format!("a virtual machine, hypervisor \"{hypervisor}\"; {steal}"),
    )
    .but(
        State::Warning,
        "a gap may be the hypervisor's doing; the host's SMIs, idle states and frequencies are hidden",
        "run smilat on bare metal to find what its hardware does",
    )
}

fn layout(smt: Option<&str>, core: Option<&str>, atom: Option<&str>) -> Check {
    let smt = match smt {
        Some("1") => "SMT on: threads of a core share it, and a busy sibling makes steps longer",
        Some("0") => "SMT off or not there",
        _ => "SMT unknown to the kernel",
    };
    let hybrid = match (core, atom) {
        (Some(core), Some(atom)) => format!(
            "; hybrid: performance cores {core}, efficient cores {atom}, whose steps differ"
        ),
        _ => String::new(),
    };
    Check::ok(Group::Machine, "layout", format!("{smt}{hybrid}"))
}

fn isolated(isolated: Option<&str>, nohz_full: Option<&str>, online: Option<&str>) -> Check {
    let name = "isolated CPUs";
    // Some kernels print "(null)" where there are none.
    let list = |text: Option<&str>| text.and_then(|text| text.parse::<CpuList>().ok());
    let (isolated, nohz_full) = (list(isolated), list(nohz_full));
    if isolated.is_none() && nohz_full.is_none() {
        return Check::ok(Group::Machine, name, "none by isolcpus= or nohz_full=");
    }
    let set_aside = |cpu: &u32| {
        [&isolated, &nohz_full]
            .into_iter()
            .flatten()
            .any(|list| list.contains(*cpu))
    };
    let others: CpuList = list(online)
        .unwrap_or_default()
        .iter()
        .filter(|cpu| !set_aside(cpu))
        .collect();
    let show = |list: &Option<CpuList>| {
        list.as_ref()
            .map_or_else(|| "none".to_owned(), CpuList::to_string)
    };
    let remedy = if others.is_empty() {
        String::new()
    } else {
        format!("to leave them alone: --cpus {others}")
    };
    Check::ok(
        Group::Machine,
        name,
        format!(
            "isolcpus={} nohz_full={}",
            show(&isolated),
            show(&nohz_full)
        ),
    )
    .but(
        State::Warning,
        "smilat watches them too, and its windows take time from what they are reserved for",
        remedy,
    )
}

/// `vmx_misc` is `None` where the CPU has no VMX.
fn intel_pt(
    has_pmu: bool,
    has_flag: bool,
    vmx_misc: Option<Result<u64, String>>,
    is_virtual: bool,
) -> Check {
    let name = "Intel PT";
    let blocks = "tracing what ran around a gap (perf record -e intel_pt//); no detector";
    if !has_pmu {
        let (found, remedy) = match (has_flag, is_virtual) {
            (true, _) => (
                "the CPU has it, the kernel has no PMU for it",
                "boot a kernel with CONFIG_CPU_SUP_INTEL=y; dmesg may tell why it was not set up",
            ),
            (false, true) => (
                "none in this virtual machine",
                "run on the host, if its CPU has it (Broadwell or newer)",
            ),
            (false, false) => (
                "this CPU has none, or the firmware hides it",
                "an Intel CPU from Broadwell on",
            ),
        };
        return Check::ok(Group::Machine, name, found).but(State::Missing, blocks, remedy);
    }
    let check = |found: &str| Check::ok(Group::Machine, name, found);
    match vmx_misc {
        None => check("there; this CPU shows no VMX that could stop it"),
        Some(Ok(misc)) if misc & PT_IN_VMX != 0 => {
            check("there, and runs on beside virtual machines (bit 14 of VMX_MISC is 1)")
        }
        Some(Ok(_)) => check("there, but not beside virtual machines (bit 14 of VMX_MISC is 0)").but(
            State::Warning,
            "while KVM is in use, VMXON turns tracing off and nothing is recorded",
            "end all virtual machines while tracing; Skylake and newer have no such limit",
        ),
        Some(Err(error)) => check(&format!(
            "there; whether it runs beside virtual machines stands in an MSR that cannot be read ({error})"
        ))
        .but(
            State::Unknown,
            "tracing around gaps while KVM is in use: traces may be empty then",
            "modprobe msr and run it as root: it reads bit 14 of MSR 0x485",
        ),
    }
}

/// The option that has the driver of this maker's IOMMUs.
fn iommu_option(is_intel: bool) -> &'static str {
    if is_intel {
        "CONFIG_INTEL_IOMMU"
    } else {
        "CONFIG_AMD_IOMMU"
    }
}

/// `has_driver` is `None` where the configuration is not known.
fn iommu(groups: usize, has_driver: Option<bool>, is_virtual: bool, is_intel: bool) -> Check {
    let name = "IOMMU";
    if groups > 0 {
        return Check::ok(Group::Machine, name, format!("{groups} groups"));
    }
    let remedy = match (is_virtual, is_intel) {
        (true, true) => {
            "give the virtual machine an IOMMU (QEMU: -device intel-iommu) and boot with intel_iommu=on"
        }
        (true, false) => "give the virtual machine an IOMMU (QEMU: -device amd-iommu)",
        (false, true) => "turn on VT-d in the firmware and boot with intel_iommu=on",
        (false, false) => "turn on AMD-Vi (IOMMU) in the firmware",
    };
    let kernel = if has_driver == Some(false) {
        format!("boot a kernel with {}=y, and ", iommu_option(is_intel))
    } else {
        String::new()
    };
    Check::ok(Group::Machine, name, "no groups of devices").but(
        State::Missing,
        "a view of IOMMU groups and mappings; no detector",
        format!("{kernel}{remedy}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pt_beside_virtual_machines_follows_bit_14() {
        let pt = |misc| intel_pt(true, true, misc, false);
        assert_eq!(pt(Some(Ok(1 << 14))).state, State::Ok);
        // All other bits set.
        assert_eq!(pt(Some(Ok(!(1 << 14)))).state, State::Warning);
        assert_eq!(pt(None).state, State::Ok);
        let refused = Err("Permission denied".to_owned());
        assert_eq!(pt(Some(refused)).state, State::Unknown);
        assert_eq!(intel_pt(false, false, None, true).state, State::Missing);
    }

    #[test]
    fn isolated_cpus_come_with_the_others_as_remedy() {
        for none in [None, Some(""), Some("(null)")] {
            assert_eq!(isolated(Some(""), none, Some("0-7")).state, State::Ok);
        }
        let some = isolated(Some("2-3"), Some("3-4"), Some("0-7"));
        assert_eq!(some.state, State::Warning);
        assert_eq!(some.remedy, "to leave them alone: --cpus 0-1,5-7");
        assert_eq!(isolated(Some("0-1"), None, Some("0-1")).remedy, "");
    }

    #[test]
    fn a_hypervisor_is_named_with_the_steal_it_admits() {
        assert_eq!(virtualisation(None, Some(0)).state, State::Ok);
        let kvm = virtualisation(Some("KVMKVMKVM"), Some(29674));
        assert_eq!(kvm.state, State::Warning);
        assert!(
            kvm.found.contains("KVMKVMKVM") && kvm.found.contains("297 s"),
            "{kvm:?}"
        );
        let silent = virtualisation(Some("TCGTCGTCGTCG"), Some(0));
        assert!(silent.found.contains("does not tell"), "{silent:?}");
    }

    #[test]
    fn an_iommu_takes_a_driver_first() {
        assert_eq!(iommu(3, Some(true), false, true).state, State::Ok);
        let without = iommu(0, Some(false), true, true);
        assert!(
            without
                .remedy
                .starts_with("boot a kernel with CONFIG_INTEL_IOMMU=y"),
            "{without:?}"
        );
        let intel = iommu(0, None, false, true);
        assert!(intel.remedy.starts_with("turn on VT-d"), "{intel:?}");
        let amd = iommu(0, Some(true), false, false);
        assert!(!amd.remedy.contains("intel"), "{amd:?}");
    }

    #[test]
    fn hybrid_layouts_are_told() {
        let check = layout(Some("1"), Some("0-7"), Some("8-15"));
        assert!(check.found.contains("efficient cores 8-15"), "{check:?}");
        assert!(!layout(Some("0"), None, None).found.contains("hybrid"));
    }
}
