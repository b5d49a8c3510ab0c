//! The detectors: their own word on whether they can run, what the kernel makes of their programs, and how it is built.

use super::{Check, Facts, Group, State, bpf::Probed};
use crate::{
    detector::{self, Availability},
    kernel::kconfig::{Config, Setting},
};

/// The option without which a kernel has no tracer of that name.
fn option(detector: &str) -> Option<&'static str> {
    match detector {
        "hwlat" => Some("CONFIG_HWLAT_TRACER"),
        "osnoise" => Some("CONFIG_OSNOISE_TRACER"),
        _ => None,
    }
}

/// The checks, and the names of the detectors that can run.
pub(super) fn checks(facts: &Facts, probed: &Probed) -> (Vec<Check>, Vec<String>) {
    let checks: Vec<Check> = detector::detectors()
        .iter()
        .map(|detector| {
            let name = detector.name();
            let programs = if name == "spin" {
                matches!(probed.spin, Some(Ok(())))
            } else {
                probed.tracers(name)
            };
            judge(name, detector.probe(), programs, facts.config())
        })
        .collect();
    let able = checks
        .iter()
        .filter(|check| check.state == State::Ok)
        .map(|check| check.name.clone())
        .collect();
    (checks, able)
}

fn judge(name: &str, probed: Availability, programs: bool, config: Option<&Config>) -> Check {
    let blocks = format!("--detector {name}");
    match probed {
        Availability::Ready if programs => Check::ok(Group::Detectors, name, "can run here"),
        Availability::Ready => Check::ok(
            Group::Detectors,
            name,
            "the kernel does not take its BPF programs",
        )
        .but(
            State::Missing,
            blocks,
            "as for the refused programs among the BPF checks",
        ),
        Availability::Missing { reason, remedy } => {
            // With root and the tracing file system alone it still could not run.
            let lacking = option(name)
                .filter(|option| config.is_some_and(|config| config.get(option) == Setting::Off));
            match lacking {
                Some(option) => Check::ok(
                    Group::Detectors,
                    name,
                    format!("cannot run: the kernel is built without {option}"),
                )
                .but(
                    State::Missing,
                    blocks,
                    format!("boot a kernel with {option}=y, such as Debian's linux-image-rt-amd64"),
                ),
                None => Check::ok(Group::Detectors, name, format!("cannot run: {reason}")).but(
                    State::Missing,
                    blocks,
                    remedy,
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmounted() -> Availability {
        Availability::Missing {
            reason: "the tracing file system is not mounted".to_owned(),
            remedy: "mount -t tracefs tracefs /sys/kernel/tracing".to_owned(),
        }
    }

    #[test]
    fn a_remedy_that_would_not_suffice_is_not_offered() {
        let with = Config::of_text("config", "CONFIG_HWLAT_TRACER=y\n");
        let without = Config::of_text("config", "");
        let check = judge("hwlat", unmounted(), true, Some(&without));
        assert!(check.remedy.contains("CONFIG_HWLAT_TRACER=y"), "{check:?}");
        for config in [Some(&with), None] {
            let check = judge("hwlat", unmounted(), true, config);
            assert!(check.remedy.starts_with("mount"), "{check:?}");
        }
    }

    #[test]
    fn a_detector_whose_programs_are_refused_cannot_run() {
        assert_eq!(
            judge("spin", Availability::Ready, true, None).state,
            State::Ok
        );
        assert_eq!(
            judge("spin", Availability::Ready, false, None).state,
            State::Missing
        );
    }
}
