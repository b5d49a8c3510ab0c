//! BPF by probing: the shipped programs are given to the kernel as a run would, and taken back.

use anyhow::Error;

use super::{Check, Group, State};
use crate::{
    bpf::{Bpf, BpfError},
    detector::{hwlat, spin},
    kernel::{
        cpus::CpuList,
        perf::PerfError,
        process::{self, Capabilities},
        refusal, sched,
    },
};

/// What the kernel made of it; `None` where it was not asked.
type Outcome = Option<Result<(), String>>;

/// The outcomes.
#[derive(Debug, Default)]
pub(super) struct Probed {
    /// The object and its maps.
    maps: Outcome,
    /// The spin program, run by a thread's timer.
    pub(super) spin: Outcome,
    /// The programs at `sched_switch` that follow the tracers' threads.
    turns: Outcome,
    /// osnoise's programs.
    osnoise: Outcome,
    /// hwlat's program, at a breakpoint in the kernel.
    breakpoint: Outcome,
}

/// Probes, if `capabilities` allow it at all.
pub(super) fn probe(capabilities: Capabilities) -> Probed {
    if ![process::CAP_BPF, process::CAP_PERFMON]
        .into_iter()
        .all(|capability| capabilities.has(capability))
    {
        return Probed::default();
    }
    let highest = CpuList::possible()
        .ok()
        .and_then(|cpus| cpus.highest())
        .unwrap_or_default();
    let mut bpf = match Bpf::load(highest) {
        Ok(bpf) => bpf,
        Err(error) => {
            return Probed {
                maps: Some(Err(told(&error.into()))),
                ..Probed::default()
            };
        }
    };
    let outcome = |tried: Result<(), Error>| Some(tried.map_err(|error| told(&error)));
    let mut verify = |programs: &[&'static str]| -> Result<(), Error> {
        for program in programs {
            bpf.verify(program)?;
        }
        Ok(())
    };
    let turns = outcome(verify(&["turns_8_40", "turns_12_48", "turns_16_48"]));
    let osnoise = outcome(verify(&[
        "osnoise_sample",
        "osnoise_nmi",
        "osnoise_irq",
        "osnoise_softirq",
        "osnoise_thread",
    ]));
    Probed {
        maps: Some(Ok(())),
        turns,
        osnoise,
        spin: outcome(spin::try_timer(&mut bpf)),
        // Not `told`: what is behind a breakpoint that is refused differs, and stands in the remedy.
        breakpoint: Some(
            hwlat::try_breakpoint(&mut bpf, sched::current_cpu())
                .map_err(|error| format!("{error:#}")),
        ),
    }
}

/// The refusal, with what may be behind it.
fn told(error: &Error) -> String {
    let errno = error.chain().find_map(|cause| {
        let bpf = cause.downcast_ref::<BpfError>().and_then(BpfError::errno);
        bpf.or_else(|| cause.downcast_ref::<PerfError>()?.source.raw_os_error())
    });
    match refusal::hint(errno) {
        Some(hint) => format!("{error:#}: {hint}"),
        None => format!("{error:#}"),
    }
}

impl Probed {
    /// Whether the programs that the detectors of the kernel's tracers need are taken.
    pub(super) fn tracers(&self, detector: &str) -> bool {
        let taken = |outcome: &Outcome| matches!(outcome, Some(Ok(())));
        taken(&self.maps) && taken(&self.turns) && (detector != "osnoise" || taken(&self.osnoise))
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        let needs = "see what the kernel said, and boot one with CONFIG_BPF_SYSCALL=y, CONFIG_PERF_EVENTS=y and \
                     CONFIG_BPF_EVENTS=y";
        let lines = [
            (
                "maps",
                &self.maps,
                "per-CPU, mapped and ring buffer maps are made",
                "every detector",
                needs,
            ),
            (
                "timer program",
                &self.spin,
                "verified (bpf_loop among it) and run by a thread's clock event",
                "--detector spin",
                needs,
            ),
            (
                "tracing programs",
                &self.turns,
                "verified",
                "--detector hwlat and osnoise",
                needs,
            ),
            (
                "osnoise programs",
                &self.osnoise,
                "verified",
                "--detector osnoise",
                needs,
            ),
            (
                "kernel breakpoint",
                &self.breakpoint,
                "verified, and set in the kernel",
                "--detector hwlat counting in the kernel; it reads the trace buffer instead",
                "boot a kernel with CONFIG_KPROBES=y, kernel.kptr_restrict below 2 and a free debug register, as root",
            ),
        ];
        lines
            .into_iter()
            .map(|(name, outcome, found, blocks, remedy)| match outcome {
                Some(Ok(())) => Check::ok(Group::Bpf, name, found),
                Some(Err(error)) => {
                    Check::ok(Group::Bpf, name, error).but(State::Missing, blocks, remedy)
                }
                None => {
                    let (found, remedy) = if self.maps.is_none() {
                        (
                            "not tried, the capabilities are lacking",
                            "run it as root, for example with sudo",
                        )
                    } else {
                        ("not tried, since the maps were refused", needs)
                    };
                    Check::ok(Group::Bpf, name, found).but(State::Unknown, blocks, remedy)
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_claimed_of_what_was_not_tried() {
        let probed = probe(Capabilities::of([]));
        assert!(!probed.tracers("hwlat"));
        for check in probed.checks() {
            assert_eq!(check.state, State::Unknown, "{check:?}");
            assert!(check.remedy.contains("as root"), "{check:?}");
        }
    }

    #[test]
    fn a_refusal_blocks_its_own_detector_only() {
        let probed = Probed {
            maps: Some(Ok(())),
            turns: Some(Ok(())),
            spin: Some(Err("no bpf_loop".to_owned())),
            osnoise: Some(Err("no".to_owned())),
            breakpoint: Some(Err("EINVAL".to_owned())),
        };
        assert!(probed.tracers("hwlat") && !probed.tracers("osnoise"));
        let missing: Vec<_> = probed
            .checks()
            .into_iter()
            .filter(|check| check.state == State::Missing)
            .map(|check| check.name)
            .collect();
        assert_eq!(
            missing,
            ["timer program", "osnoise programs", "kernel breakpoint"]
        );
    }
}
