//! BPF by probing: the shipped programs are given to the kernel as a run would, and taken back.

use anyhow::Error;

use super::{Check, Group, State};
use crate::{
    bpf::{Bpf, BpfError},
    detector::{hwlat, spin},
    kernel::{
        cpus::CpuList,
        kallsyms::SymbolError,
        perf::{PerfError, paranoid},
        process::{self, Capabilities},
        refusal, sched,
    },
};

/// What the kernel made of it; `None` where it was not asked.
type Outcome = Option<Result<(), String>>;
/// The same, the refusal with what would help.
type Remedied = Option<Result<(), (String, &'static str)>>;

const NEEDS: &str = "see what the kernel said, and boot one with CONFIG_BPF_SYSCALL=y, CONFIG_PERF_EVENTS=y and CONFIG_BPF_EVENTS=y";

/// The outcomes.
#[derive(Debug, Default)]
pub(super) struct Probed {
    /// The object and its maps.
    maps: Outcome,
    /// The spin program, run by a thread's timer.
    pub(super) spin: Remedied,
    /// The programs at `sched_switch` that follow the tracers' threads.
    turns: Outcome,
    /// osnoise's programs.
    osnoise: Outcome,
    /// The program that counts NMIs.
    nmi: Outcome,
    /// hwlat's program, at a breakpoint in the kernel.
    breakpoint: Remedied,
}

/// Probes, if `capabilities` allow it at all.
pub(super) fn probe(capabilities: Capabilities) -> Probed {
    if ![process::CAP_BPF, process::CAP_PERFMON]
        .into_iter()
        .all(|capability| capabilities.has(capability))
    {
        return Probed::default();
    }
    let loaded = CpuList::highest_possible()
        .map_err(Error::from)
        .and_then(|highest| Ok(Bpf::load(highest)?));
    let mut bpf = match loaded {
        Ok(bpf) => bpf,
        Err(error) => {
            return Probed {
                maps: Some(Err(told(&error))),
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
    let nmi = outcome(verify(&["nmi"]));
    let (spin, breakpoint) = match paranoid::in_the_way() {
        Some(reason) => {
            let closed = Err((reason, paranoid::REMEDY));
            (closed.clone(), closed)
        }
        None => (
            spin::try_timer(&mut bpf).map_err(|error| (told(&error), NEEDS)),
            // Not `told`: what is behind a breakpoint that is refused differs.
            hwlat::try_breakpoint(&mut bpf, sched::current_cpu()).map_err(|error| {
                let remedy = against_no_breakpoint(&error);
                (format!("{error:#}"), remedy)
            }),
        ),
    };
    Probed {
        maps: Some(Ok(())),
        turns,
        osnoise,
        nmi,
        spin: Some(spin),
        breakpoint: Some(breakpoint),
    }
}

/// What helps against the refusal of a breakpoint in the kernel ([`crate::kernel::perf::Breakpoint::open`]).
fn against_no_breakpoint(error: &Error) -> &'static str {
    if let Some(symbol) = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<SymbolError>())
    {
        return match symbol {
            SymbolError::Hidden => "sysctl kernel.kptr_restrict=1, and run it as root",
            SymbolError::Read(_) => {
                "boot a kernel with CONFIG_KALLSYMS=y, and mount procfs at /proc"
            }
            SymbolError::Unknown(_) => {
                "nothing has to: this kernel commits hwlat's records by another function"
            }
        };
    }
    let perf = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<PerfError>());
    match perf.and_then(|perf| perf.source.raw_os_error()) {
        Some(libc::EINVAL) => "boot a kernel with CONFIG_KPROBES=y",
        Some(libc::ENOSPC) => {
            "end what uses the CPU's debug registers: debuggers, other hardware breakpoints"
        }
        _ => {
            "boot a kernel with CONFIG_KPROBES=y and CONFIG_KALLSYMS=y, and run it as root and outside containers"
        }
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
        let remedied = |outcome: &Outcome| -> Remedied {
            Some(outcome.clone()?.map_err(|found| (found, NEEDS)))
        };
        let lines = [
            (
                "maps",
                remedied(&self.maps),
                "per-CPU, mapped and ring buffer maps are made",
                "every detector",
            ),
            (
                "timer program",
                self.spin.clone(),
                "verified (bpf_loop among it) and run by a thread's clock event",
                "--detector spin",
            ),
            (
                "tracing programs",
                remedied(&self.turns),
                "verified",
                "--detector hwlat and osnoise",
            ),
            (
                "osnoise programs",
                remedied(&self.osnoise),
                "verified",
                "--detector osnoise",
            ),
            (
                "NMI program",
                remedied(&self.nmi),
                "verified",
                "telling NMIs from other causes of gaps",
            ),
            (
                "kernel breakpoint",
                self.breakpoint.clone(),
                "verified, and set in the kernel",
                "--detector hwlat counting in the kernel; it reads the trace buffer instead",
            ),
        ];
        lines
            .into_iter()
            .map(|(name, outcome, found, blocks)| match outcome {
                Some(Ok(())) => Check::ok(Group::Bpf, name, found),
                Some(Err((error, remedy))) => {
                    Check::ok(Group::Bpf, name, error).but(State::Missing, blocks, remedy)
                }
                None => {
                    let (found, remedy) = if self.maps.is_none() {
                        (
                            "not tried, the capabilities are lacking",
                            "run it as root, for example with sudo",
                        )
                    } else {
                        ("not tried, since the maps were refused", NEEDS)
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
    fn each_refusal_of_a_breakpoint_has_its_own_remedy() {
        let perf = |errno| {
            Error::from(PerfError {
                call: "perf_event_open",
                source: std::io::Error::from_raw_os_error(errno),
            })
        };
        for (error, told) in [
            (perf(libc::EINVAL), "CONFIG_KPROBES=y"),
            (perf(libc::ENOSPC), "debug registers"),
            (perf(libc::EACCES), "outside containers"),
            (SymbolError::Hidden.into(), "kptr_restrict=1"),
            (
                SymbolError::Unknown("f".to_owned()).into(),
                "another function",
            ),
        ] {
            let remedy = against_no_breakpoint(&error.context("setting it"));
            assert!(remedy.contains(told), "{remedy}");
        }
    }

    #[test]
    fn a_refusal_blocks_its_own_detector_only() {
        let probed = Probed {
            nmi: None,
            maps: Some(Ok(())),
            turns: Some(Ok(())),
            spin: Some(Err(("no bpf_loop".to_owned(), NEEDS))),
            osnoise: Some(Err("no".to_owned())),
            breakpoint: Some(Err(("EINVAL".to_owned(), "kprobes"))),
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
