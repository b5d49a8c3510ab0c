//! Whether anything will be mapped and unmapped here, and if not why, and what would help.

use crate::{
    kernel::{
        cpuid::Vendor,
        iommu::{Facts, Table},
        kconfig::Setting,
    },
    model::iommu_topology::Topology,
};

/// The type of a default domain that translates nothing.
const IDENTITY: &str = "identity";

/// What has a virtual machine get an IOMMU.
const GIVE_ONE: &str = "give it one: with QEMU on x86 -M q35,kernel-irqchip=split -device intel-iommu,intremap=on, and for virtio \
    devices iommu_platform=on,disable-legacy=on; with libvirt <iommu model='intel'/>";

/// Whether maps and unmaps can be expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes, of all groups.
    Ready,
    /// The kernel drives no IOMMU: there are no groups.
    NoIommu {
        /// Why.
        why: String,
        /// What would help.
        remedy: String,
    },
    /// All groups have their accesses passed through: only what VFIO gives to guests is mapped.
    Passthrough {
        /// The groups.
        groups: Vec<u32>,
        /// Why.
        why: String,
        /// What would help.
        remedy: String,
    },
    /// Some have; the others are translated.
    SomePassthrough {
        /// Those passed through.
        groups: Vec<u32>,
        /// Why.
        why: String,
        /// What would help.
        remedy: String,
    },
}

impl Readiness {
    /// In words, with what would help; `None` where there is nothing to say.
    pub fn words(&self) -> Option<String> {
        match self {
            Self::Ready => None,
            Self::NoIommu { why, remedy }
            | Self::Passthrough { why, remedy, .. }
            | Self::SomePassthrough { why, remedy, .. } => Some(format!("{why}; {remedy}")),
        }
    }
}

/// Judges this machine, whose groups are `topology`'s.
pub fn readiness(topology: &Topology) -> Readiness {
    judge(topology, &Facts::read())
}

fn judge(topology: &Topology, facts: &Facts) -> Readiness {
    if topology.groups.is_empty() {
        let (why, remedy) = no_iommu(topology, facts);
        return Readiness::NoIommu { why, remedy };
    }
    // A group that VFIO has is mapped for its guest, whatever its default domain is.
    let is_given_away = |devices: &[String]| {
        devices
            .iter()
            .filter_map(|name| topology.device(name)?.driver.as_deref())
            .any(|driver| driver.contains("vfio"))
    };
    let passed: Vec<u32> = topology
        .groups
        .iter()
        .filter(|group| group.kind.as_deref() == Some(IDENTITY) && !is_given_away(&group.devices))
        .map(|group| group.group)
        .collect();
    if passed.is_empty() {
        return Readiness::Ready;
    }
    let all = passed.len() == topology.groups.len();
    let why = passed_why(&passed, all, facts);
    if all {
        let remedy = "boot with iommu.passthrough=0 instead, or have some group translated: with none of its devices bound to a \
                      driver, echo DMA > /sys/kernel/iommu_groups/N/type; what VFIO maps for guests is seen all the same";
        Readiness::Passthrough {
            groups: passed,
            why,
            remedy: remedy.to_owned(),
        }
    } else {
        let remedy = "to have one translated, take the drivers from its devices, and \
                      echo DMA > /sys/kernel/iommu_groups/N/type, or boot with iommu.passthrough=0";
        Readiness::SomePassthrough {
            groups: passed,
            why,
            remedy: remedy.to_owned(),
        }
    }
}

fn passed_why(passed: &[u32], all: bool, facts: &Facts) -> String {
    let which = if all {
        format!("all {} groups have", passed.len())
    } else {
        let numbers: Vec<String> = passed.iter().map(u32::to_string).collect();
        match passed {
            [only] => format!("group {only} has"),
            _ => format!("groups {} have", numbers.join(", ")),
        }
    };
    let by = match asked_for_passthrough(facts) {
        Some(option) => format!(": the kernel was booted with {option}"),
        None if default_is_passthrough(facts) => {
            ": the kernel was built with CONFIG_IOMMU_DEFAULT_PASSTHROUGH=y".to_owned()
        }
        None if all => String::new(),
        None => ", as the IOMMU's driver or somebody through sysfs chose".to_owned(),
    };
    format!("{which} type identity, so nothing is mapped or unmapped for their devices{by}")
}

/// The option that has accesses passed through (`iommu_set_def_domain_type` in `drivers/iommu/iommu.c`, `iommu_setup` in
/// `arch/x86/kernel/pci-dma.c`).
fn asked_for_passthrough(facts: &Facts) -> Option<&'static str> {
    let line = &facts.command_line;
    // As `kstrtobool` reads it.
    let is_on = |value: &str| {
        matches!(value, "on" | "ON" | "On" | "oN") || value.starts_with(['1', 'y', 'Y', 't', 'T'])
    };
    match line.values("iommu.passthrough").last() {
        Some(value) if is_on(value) => Some("iommu.passthrough=1"),
        _ if line.says("iommu", "pt") => Some("iommu=pt"),
        _ => None,
    }
}

fn default_is_passthrough(facts: &Facts) -> bool {
    facts
        .config
        .as_ref()
        .is_some_and(|config| config.get("CONFIG_IOMMU_DEFAULT_PASSTHROUGH") != Setting::Off)
        && facts
            .command_line
            .values("iommu.passthrough")
            .next()
            .is_none()
}

/// Why there is no group, and what would help.
fn no_iommu(topology: &Topology, facts: &Facts) -> (String, String) {
    if !topology.units.is_empty() {
        let names: Vec<&str> = topology
            .units
            .iter()
            .map(|unit| unit.name.as_str())
            .collect();
        return (
            format!(
                "the kernel drives {} but has no device in a group",
                names.join(", ")
            ),
            "the kernel log may say why: dmesg | grep -i -e iommu -e DMAR -e AMD-Vi".to_owned(),
        );
    }
    match facts.table {
        Some(table) => switched_off(table, facts),
        None if facts.is_virtual => (
            "this virtual machine has no IOMMU (its firmware has no table DMAR, IVRS, IORT or VIOT)".to_owned(),
            GIVE_ONE.to_owned(),
        ),
        None => {
            let name = match facts.vendor {
                Vendor::Intel => "VT-d (Intel Virtualization Technology for Directed I/O)",
                Vendor::Amd => "IOMMU (AMD-Vi; also below SVM or NBIO)",
                Vendor::Other => "the IOMMU (VT-d, AMD-Vi, SMMU)",
            };
            (
                "this machine's firmware tells of no IOMMU (there is no table DMAR, IVRS, IORT or VIOT)".to_owned(),
                format!("if it has one, switch {name} on in the firmware's set-up"),
            )
        }
    }
}

/// Why an IOMMU that the firmware tells of is not driven.
fn switched_off(table: Table, facts: &Facts) -> (String, String) {
    let line = &facts.command_line;
    let there = format!("the firmware tells of an IOMMU (table {})", table.name());
    // `iommu=` is known to x86 alone, and each driver's own option to that driver alone.
    let off: Option<&str> = match table {
        Table::Intel | Table::Amd if line.says("iommu", "off") => Some("iommu=off"),
        // Each part of each value counts, the last one wins (`intel_iommu_setup`).
        Table::Intel
            if line
                .values("intel_iommu")
                .flat_map(|value| value.split(','))
                .filter(|part| matches!(*part, "on" | "off"))
                .last()
                == Some("off") =>
        {
            Some("intel_iommu=off")
        }
        Table::Amd if line.says("amd_iommu", "off") => Some("amd_iommu=off"),
        _ => None,
    };
    if let Some(off) = off {
        return (
            format!("{there}, and the kernel was booted with {off}"),
            "boot without that".to_owned(),
        );
    }
    let option = match table {
        Table::Intel => "CONFIG_INTEL_IOMMU",
        Table::Amd => "CONFIG_AMD_IOMMU",
        Table::Arm => "CONFIG_ARM_SMMU_V3",
        Table::Virtio => "CONFIG_VIRTIO_IOMMU",
    };
    let setting = |option| facts.config.as_ref().map(|config| config.get(option));
    match (table, setting(option)) {
        (_, Some(Setting::Off)) => (
            format!("{there}, but the kernel was built without {option}"),
            format!("boot a kernel built with {option}=y"),
        ),
        (Table::Virtio, Some(Setting::Module)) => (
            format!("{there}, but nothing drives it"),
            "load its driver: modprobe virtio_iommu".to_owned(),
        ),
        (Table::Intel, _)
            if setting("CONFIG_INTEL_IOMMU_DEFAULT_ON") != Some(Setting::BuiltIn)
                && !line.says("intel_iommu", "on") =>
        {
            let built = match facts.config {
                Some(_) => "the kernel was built without CONFIG_INTEL_IOMMU_DEFAULT_ON",
                None => "the kernel does not use it unless told to",
            };
            (
                format!("{there}, but {built}"),
                "boot with intel_iommu=on".to_owned(),
            )
        }
        (Table::Arm, _) => (
            format!("{there}, but no device is behind it or nothing drives it"),
            "the kernel log may say why: dmesg | grep -i -e iommu -e smmu".to_owned(),
        ),
        _ => (
            format!("{there}, but the kernel does not drive it"),
            "the kernel log may say why: dmesg | grep -i -e iommu -e DMAR -e AMD-Vi; it may be switched off in the \
             firmware's set-up (VT-d, AMD-Vi)"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        iommu::made_up_sysfs::Sys,
        kernel::{command_line::CommandLine, kconfig::Config},
    };

    fn facts(table: Option<Table>, line: &str, config: Option<&str>) -> Facts {
        Facts {
            table,
            command_line: CommandLine::of_text(line),
            config: config.map(|text| Config::of_text("config", text)),
            vendor: Vendor::Intel,
            is_virtual: false,
        }
    }

    fn words(facts: &Facts) -> String {
        let judged = judge(&Topology::default(), facts);
        assert!(matches!(judged, Readiness::NoIommu { .. }), "{judged:?}");
        judged.words().expect("words")
    }

    #[test]
    fn a_table_without_groups_is_an_iommu_that_somebody_switched_off() {
        let built = "CONFIG_INTEL_IOMMU=y\nCONFIG_AMD_IOMMU=y\nCONFIG_VIRTIO_IOMMU=m\n";
        let on = "CONFIG_INTEL_IOMMU=y\nCONFIG_INTEL_IOMMU_DEFAULT_ON=y\n";
        for (table, line, config, told) in [
            (Table::Intel, "", Some(built), "boot with intel_iommu=on"),
            (Table::Intel, "", None, "boot with intel_iommu=on"),
            (
                Table::Intel,
                "",
                Some(""),
                "boot a kernel built with CONFIG_INTEL_IOMMU=y",
            ),
            (
                Table::Intel,
                "intel_iommu=on,off",
                Some(built),
                "booted with intel_iommu=off",
            ),
            (Table::Intel, "iommu=off", Some(on), "booted with iommu=off"),
            (
                Table::Intel,
                "intel_iommu=off intel_iommu=on",
                Some(built),
                "dmesg",
            ),
            (Table::Intel, "", Some(on), "dmesg"),
            (
                Table::Amd,
                "amd_iommu=off",
                Some(built),
                "booted with amd_iommu=off",
            ),
            (Table::Amd, "intel_iommu=off", Some(built), "dmesg"),
            (Table::Amd, "", Some(""), "CONFIG_AMD_IOMMU=y"),
            (Table::Virtio, "", Some(built), "modprobe virtio_iommu"),
            (Table::Arm, "iommu=off", None, "smmu"),
        ] {
            let words = words(&facts(Some(table), line, config));
            assert!(words.contains(told), "{table:?} {line} {config:?}: {words}");
            assert!(words.contains(table.name()), "{words}");
        }
    }

    #[test]
    fn without_a_table_it_is_the_firmware_or_the_hypervisor() {
        let mut facts = facts(None, "", None);
        let bare = words(&facts);
        assert!(
            bare.contains("VT-d") && bare.contains("firmware's set-up"),
            "{bare}"
        );
        facts.vendor = Vendor::Amd;
        assert!(words(&facts).contains("AMD-Vi"));
        facts.is_virtual = true;
        let guest = words(&facts);
        assert!(
            guest.contains("virtual machine has no IOMMU") && guest.contains("-device intel-iommu"),
            "{guest}"
        );
    }

    #[test]
    fn an_iommu_without_groups_is_named() {
        let sys = Sys::empty();
        sys.unit("dmar0", 0);
        let judged = judge(&sys.topology(), &facts(None, "", None));
        let words = judged.words().expect("words");
        assert!(words.contains("drives dmar0 but has no device"), "{words}");
    }

    #[test]
    fn groups_that_are_passed_through_are_named_with_the_option_that_has_it_so() {
        let sys = Sys::q35();
        let ready = judge(&sys.topology(), &facts(None, "iommu=pt", None));
        assert_eq!(ready, Readiness::Ready, "what counts is the groups");
        assert_eq!(ready.words(), None);

        sys.group(2, "identity", &["0000:00:02.0"]);
        let some = judge(&sys.topology(), &facts(None, "", None));
        let Readiness::SomePassthrough { groups, why, .. } = some else {
            panic!("{some:?}");
        };
        assert_eq!(groups, [2]);
        assert!(why.starts_with("group 2 has type identity"), "{why}");

        sys.bind("0000:00:02.0", "vfio-pci");
        let given = judge(&sys.topology(), &facts(None, "", None));
        assert_eq!(given, Readiness::Ready, "VFIO maps for its guest");
    }

    #[test]
    fn passthrough_of_all_says_who_chose_it() {
        let sys = Sys::empty();
        sys.pci("pci0000:00/0000:00:02.0", crate::iommu::made_up_sysfs::NIC);
        sys.group(0, "identity", &["0000:00:02.0"]);
        let topology = sys.topology();
        let config = "CONFIG_IOMMU_DEFAULT_PASSTHROUGH=y\n";
        for (line, config, told) in [
            ("iommu=pt", None, "booted with iommu=pt"),
            ("iommu=nopt,pt", None, "booted with iommu=pt"),
            ("iommu.passthrough=on", None, "iommu.passthrough=1"),
            ("", Some(config), "CONFIG_IOMMU_DEFAULT_PASSTHROUGH=y"),
            ("", None, "for their devices; boot with iommu.passthrough=0"),
        ] {
            let judged = judge(&topology, &facts(None, line, config));
            assert!(
                matches!(&judged, Readiness::Passthrough { groups, .. } if groups == &[0]),
                "{judged:?}"
            );
            let words = judged.words().expect("words");
            assert!(words.contains(told), "{line}: {words}");
        }
    }
}
