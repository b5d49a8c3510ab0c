//! The options the kernel was built with: those smilat needs, and those of the tracing menu that people look for when
//! they hunt latency.

use super::{
    Check, Group, State,
    options::{OPTIONS, Wanted},
};
use crate::kernel::kconfig::{Config, Setting};

/// A check for each option.
pub(super) fn judge(config: &Config) -> Vec<Check> {
    OPTIONS
        .iter()
        .map(|wanted| judge_one(wanted, config.get(&format!("CONFIG_{}", wanted.name))))
        .collect()
}

/// What to set for it: some options cannot be chosen but come with others.
fn to_set(option: &str) -> String {
    match option {
        "CONFIG_BPF_EVENTS" => {
            "CONFIG_BPF_SYSCALL=y, CONFIG_PERF_EVENTS=y and CONFIG_UPROBE_EVENTS=y, which bring it"
                .to_owned()
        }
        "CONFIG_EVENT_TRACING" => {
            "CONFIG_FTRACE=y and a tracer such as CONFIG_HWLAT_TRACER=y, which bring it".to_owned()
        }
        "CONFIG_IOMMU_API" => {
            "CONFIG_INTEL_IOMMU=y or CONFIG_AMD_IOMMU=y, which bring it".to_owned()
        }
        "CONFIG_X86_MSR" => format!("{option}=m or y"),
        _ => format!("{option}=y"),
    }
}

fn judge_one(wanted: &Wanted, setting: Setting) -> Check {
    let Wanted {
        name,
        purpose,
        blocks,
    } = wanted;
    let value = match setting {
        Setting::BuiltIn => "y",
        Setting::Module => "m",
        Setting::Off => "off",
    };
    let name = format!("CONFIG_{name}");
    let remedy = format!("boot a kernel built with {}", to_set(&name));
    match (setting, blocks) {
        (Setting::Off, Some(blocks)) => Check::ok(Group::Config, name, format!("off: {purpose}"))
            .but(State::Missing, *blocks, remedy),
        (Setting::Off, None) => Check::ok(
            Group::Config,
            name,
            format!("off, and smilat does without: {purpose}"),
        ),
        _ => Check::ok(Group::Config, name, format!("{value}: {purpose}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_smilat_needs_is_missing() {
        let config = Config::of_text("config", include_str!("../kernel/testdata/config-6.18"));
        let checks = judge(&config);
        let state = |name: &str| {
            let check = checks.iter().find(|check| check.name == name);
            check.expect(name).state
        };
        assert_eq!(state("CONFIG_BPF_SYSCALL"), State::Ok);
        assert_eq!(state("CONFIG_HWLAT_TRACER"), State::Missing);
        assert_eq!(state("CONFIG_KPROBES"), State::Missing);
        // Off as well.
        assert_eq!(state("CONFIG_IRQSOFF_TRACER"), State::Ok);
    }

    /// `CONFIG_X=y` for each, as people put it who build kernels to hunt latency with hwlat.
    const LATENCY_KERNEL: &str = include_str!("../kernel/testdata/config-latency");

    #[test]
    fn all_of_a_kernel_made_for_hunting_latency_is_told() {
        let config = Config::of_text("config", LATENCY_KERNEL);
        let checks = judge(&config);
        let mut options = 0;
        for line in LATENCY_KERNEL.lines().filter(|line| !line.starts_with('#')) {
            let option = line.strip_suffix("=y").expect("an option that is on");
            let check = checks.iter().find(|check| check.name == option);
            let check = check.unwrap_or_else(|| panic!("{option} is not told"));
            assert!(check.found.starts_with("y: "), "{check:?}");
            options += 1;
        }
        assert!(options > 60, "the list has shrunk to {options}");
    }

    #[test]
    fn no_option_is_told_twice() {
        let mut names: Vec<_> = OPTIONS.iter().map(|wanted| wanted.name).collect();
        names.sort_unstable();
        let told = names.len();
        names.dedup();
        assert_eq!(names.len(), told);
    }

    #[test]
    fn modules_count_as_there() {
        let config = Config::of_text("config", "CONFIG_X86_MSR=m\n");
        let checks = judge(&config);
        let msr = checks.iter().find(|check| check.name == "CONFIG_X86_MSR");
        let msr = msr.expect("checked");
        assert_eq!(msr.state, State::Ok);
        assert!(msr.found.starts_with("m:"), "{msr:?}");
    }
}
