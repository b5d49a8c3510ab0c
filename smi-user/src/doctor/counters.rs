//! What counts SMIs here, and what could fire one.

use std::{fs, io};

use super::{Check, Facts, Group, State};
use crate::kernel::{
    kconfig::Setting,
    msr,
    perf::{self, PerfError},
    pmu,
};

/// `PERF_TYPE_RAW` of `include/uapi/linux/perf_event.h`.
const PERF_TYPE_RAW: u32 = 4;
/// `ls_smi_rx`, SMIs received: event 0x2B of AMD's core PMU from Zen 2 on.
const LS_SMI_RX: u64 = 0x2b;
/// The first CPU, which is always there.
const CPU: u32 = 0;

/// Names of the units that count a CPU's own events, on hybrid CPUs more than one.
const CORE: [&str; 3] = ["cpu", "cpu_core", "cpu_atom"];

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let is_intel = facts.cpu.vendor == "GenuineIntel";
    let is_amd = matches!(facts.cpu.vendor.as_str(), "AuthenticAMD" | "HygonGenuine");
    let mut checks = vec![units(pmu::all())];
    if is_amd {
        checks.push(ls_smi_rx(
            perf::try_count(PERF_TYPE_RAW, LS_SMI_RX, CPU),
            facts.cpu.family,
        ));
    } else {
        checks.push(smi_event(
            pmu::try_event("msr", "smi", CPU),
            facts.is_virtual(),
        ));
    }
    checks.push(msr_device(
        msr::device(CPU).exists(),
        msr::read(CPU, msr::SMI_COUNT),
        facts.config().map(|config| config.get("CONFIG_X86_MSR")),
        is_intel,
    ));
    if is_intel {
        let freeze = CORE
            .iter()
            .find_map(|unit| pmu::read(unit, "freeze_on_smi"));
        checks.push(freeze_on_smi(freeze.as_deref()));
    }
    checks.push(port(fs::exists("/dev/port").unwrap_or(false)));
    checks
}

fn units(all: io::Result<Vec<String>>) -> Check {
    let name = "PMUs";
    match all {
        Ok(units) => {
            let core = CORE
                .iter()
                .any(|core| units.iter().any(|unit| unit == core));
            let found = format!(
                "{}{}",
                units.join(" "),
                if core {
                    ""
                } else {
                    "; none of the CPU's own (cycles, instructions)"
                }
            );
            Check::ok(Group::Counters, name, found)
        }
        Err(error) => Check::ok(
            Group::Counters,
            name,
            format!("/sys/bus/event_source/devices: {error}"),
        )
        .but(
            State::Missing,
            "every detector",
            "boot a kernel with CONFIG_PERF_EVENTS=y, and mount sysfs at /sys",
        ),
    }
}

/// Whether an error is about privileges rather than about the thing itself.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

fn smi_event(tried: Result<(), PerfError>, is_virtual: bool) -> Check {
    let name = "msr/smi/";
    let blocks = "counting SMIs beside the gaps, by which a gap is known to be one";
    match tried {
        Ok(()) if is_virtual => Check::ok(Group::Counters, name, "can be counted").but(
            State::Warning,
            "a hypervisor answers for this counter: SMIs of the host do not show in it",
            "run smilat on the host to count its SMIs",
        ),
        Ok(()) => Check::ok(Group::Counters, name, "can be counted"),
        Err(error) if is_refusal(&error.source) => Check::ok(
            Group::Counters,
            name,
            format!("{error}: {}", error.source),
        )
        .but(State::Unknown, blocks, "run it as root, for example with sudo"),
        Err(error) => Check::ok(
            Group::Counters,
            name,
            format!("cannot be counted, {error}: {}", error.source),
        )
        .but(
            State::Missing,
            blocks,
            "an Intel CPU that the kernel's msr PMU knows (arch/x86/events/msr.c); a newer kernel knows newer CPUs",
        ),
    }
}

fn ls_smi_rx(tried: Result<(), PerfError>, family: u32) -> Check {
    let name = "ls_smi_rx";
    let blocks = "counting SMIs beside the gaps, by which a gap is known to be one";
    if family < 0x17 {
        return Check::ok(
            Group::Counters,
            name,
            format!("AMD family {family:#x} has no such event"),
        )
        .but(State::Missing, blocks, "an AMD CPU from Zen 2 on");
    }
    match tried {
        Ok(()) => Check::ok(Group::Counters, name, "can be opened (event 0x2b)").but(
            State::Warning,
            "it may count too few or too many: no proof of single SMIs; it is there from Zen 2 on",
            "compare its counts over minutes, not gap by gap",
        ),
        Err(error) if is_refusal(&error.source) => {
            Check::ok(Group::Counters, name, format!("{error}: {}", error.source)).but(
                State::Unknown,
                blocks,
                "run it as root, for example with sudo",
            )
        }
        Err(error) => Check::ok(
            Group::Counters,
            name,
            format!("cannot be opened, {error}: {}", error.source),
        )
        .but(
            State::Missing,
            blocks,
            "run on bare metal, or have the hypervisor pass on the CPU's PMU",
        ),
    }
}

fn msr_device(there: bool, smis: io::Result<u64>, built: Option<Setting>, is_intel: bool) -> Check {
    let name = "/dev/cpu/N/msr";
    let blocks =
        "reading SMI counts where perf has no event for them, and what the CPU says of Intel PT";
    if !there {
        let (found, remedy) = match built {
            Some(Setting::Off) => (
                "the kernel is built without it",
                "boot a kernel with CONFIG_X86_MSR=m or y",
            ),
            Some(Setting::Module) => ("its module is not loaded", "modprobe msr"),
            Some(Setting::BuiltIn) => (
                "built in, but not in /dev",
                "mount -t devtmpfs devtmpfs /dev, or run smilat outside the container",
            ),
            None => (
                "not there",
                "modprobe msr; where there is no such module, boot a kernel with CONFIG_X86_MSR=m or y",
            ),
        };
        return Check::ok(Group::Counters, name, found).but(State::Missing, blocks, remedy);
    }
    match smis {
        Ok(smis) if is_intel => Check::ok(
            Group::Counters,
            name,
            format!("can be read; SMIs so far on CPU {CPU} (MSR 0x34): {smis}"),
        ),
        Ok(_) => Check::ok(Group::Counters, name, "can be read"),
        Err(error) if error.raw_os_error() == Some(libc::EIO) && !is_intel => Check::ok(
            Group::Counters,
            name,
            "there; MSR 0x34, Intel's count of SMIs, is not on this CPU",
        ),
        Err(error) if error.raw_os_error() == Some(libc::EIO) => {
            Check::ok(Group::Counters, name, "there, but CPU 0 has no MSR 0x34").but(
                State::Warning,
                "counting SMIs by it",
                "in a virtual machine, run on the host; else this CPU is older than Nehalem",
            )
        }
        Err(error) => Check::ok(Group::Counters, name, format!("there, but: {error}")).but(
            State::Unknown,
            blocks,
            "run it as root, for example with sudo; it takes CAP_SYS_RAWIO",
        ),
    }
}

fn freeze_on_smi(value: Option<&str>) -> Check {
    let name = "freeze_on_smi";
    match value {
        Some(value) => Check::ok(
            Group::Counters,
            name,
            format!(
                "{value}: the CPU's counters {} while an SMI is served",
                if value == "0" {
                    "count on"
                } else {
                    "stand still"
                }
            ),
        ),
        None => Check::ok(Group::Counters, name, "the kernel shows no such attribute").but(
            State::Missing,
            "the share of cycles that SMIs take (perf stat --smi-cost); no detector",
            "run on bare metal, where an Intel CPU's own PMU has it",
        ),
    }
}

fn port(there: bool) -> Check {
    let name = "/dev/port";
    if there {
        return Check::ok(Group::Counters, name, "there: SMIs can be fired by hand");
    }
    Check::ok(Group::Counters, name, "not there").but(
        State::Missing,
        "firing SMIs through I/O port 0xB2; no detector",
        "boot a kernel with CONFIG_DEVPORT=y, outside a container",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed<T>(errno: i32) -> io::Result<T> {
        Err(io::Error::from_raw_os_error(errno))
    }

    fn perf_failed(errno: i32) -> Result<(), PerfError> {
        Err(PerfError {
            call: "perf_event_open",
            source: io::Error::from_raw_os_error(errno),
        })
    }

    #[test]
    fn a_refusal_is_not_called_absence() {
        assert_eq!(
            smi_event(perf_failed(libc::EACCES), false).state,
            State::Unknown
        );
        assert_eq!(
            smi_event(perf_failed(libc::ENOENT), false).state,
            State::Missing
        );
        assert_eq!(
            ls_smi_rx(perf_failed(libc::EACCES), 0x19).state,
            State::Unknown
        );
        let refused = msr_device(true, failed(libc::EACCES), None, true);
        assert_eq!(refused.state, State::Unknown);
    }

    #[test]
    fn a_guests_counter_is_told_to_be_its_own() {
        assert_eq!(smi_event(Ok(()), false).state, State::Ok);
        assert_eq!(smi_event(Ok(()), true).state, State::Warning);
    }

    #[test]
    fn the_remedy_for_the_msr_device_follows_the_configuration() {
        let remedy = |built| msr_device(false, failed(libc::ENOENT), built, true).remedy;
        assert_eq!(remedy(Some(Setting::Module)), "modprobe msr");
        assert!(remedy(Some(Setting::Off)).starts_with("boot a kernel"));
        assert!(remedy(None).contains("modprobe msr;"));
        assert_eq!(msr_device(true, Ok(7), None, true).state, State::Ok);
    }
}
