//! The tracing file system: whether it can be read, the tracers and tracepoints in it.

use std::path::Path;

use super::{Check, Group, State};
use crate::{
    detector,
    kernel::{
        process::{self, Capabilities},
        tracefs,
    },
};

/// Tracepoints, and what they are for.
const EVENTS: [(&str, &str, &str); 4] = [
    (
        "sched/sched_switch",
        "--detector hwlat and osnoise: it tells when their threads ran",
        "boot a kernel with CONFIG_FTRACE=y and CONFIG_EVENT_TRACING=y",
    ),
    (
        "timer/hrtimer_expire_entry",
        "finding late timers, which show interrupts that were off for too long",
        "boot a kernel with CONFIG_FTRACE=y and CONFIG_EVENT_TRACING=y",
    ),
    (
        "nmi/nmi_handler",
        "telling NMIs from other gaps",
        "boot a kernel with CONFIG_FTRACE=y and CONFIG_EVENT_TRACING=y",
    ),
    (
        "iommu/map",
        "a view of IOMMU mappings",
        "boot a kernel with an IOMMU driver, such as CONFIG_INTEL_IOMMU=y or CONFIG_AMD_IOMMU=y",
    ),
];

pub(super) fn checks() -> Vec<Check> {
    let Some(tracing) = tracefs::mounted() else {
        let mount_point = tracefs::mount_point();
        return vec![unreadable(
            tracefs::in_mount_table(),
            mount_point.is_dir(),
            Capabilities::own().has(process::CAP_SYS_ADMIN),
        )];
    };
    let mut checks = vec![Check::ok(
        Group::Tracing,
        "tracing file system",
        format!("mounted at {}", tracing.display()),
    )];
    checks.push(match tracefs::read(&tracing.join("available_tracers")) {
        Ok(tracers) => Check::ok(Group::Tracing, "tracers", tracers.trim()),
        Err(error) => Check::ok(Group::Tracing, "tracers", error.to_string()).but(
            State::Unknown,
            "--detector hwlat and osnoise",
            "run it as root; under lockdown in confidentiality mode, boot without that",
        ),
    });
    checks.extend(rival(&tracing));
    checks.extend(EVENTS.iter().map(|(event, blocks, remedy)| {
        let name = event.replace('/', ":");
        if tracefs::has_event(&tracing, event) {
            Check::ok(Group::Tracing, name, "there")
        } else {
            Check::ok(Group::Tracing, name, "this kernel has no such tracepoint").but(
                State::Missing,
                *blocks,
                *remedy,
            )
        }
    }));
    checks
}

/// A tracer of the same kind that somebody else has at work.
fn rival(tracing: &Path) -> Option<Check> {
    let (at, tracer) = detector::at_work(tracing).ok()??;
    let found = format!("{tracer} is at work in {}", at.display());
    Some(Check::ok(Group::Tracing, "tracer at work", found).but(
        State::Warning,
        "it takes CPU time and shows as gaps; the detectors hwlat and osnoise do not start beside it",
        format!("if nobody needs it: echo nop > {}/current_tracer", at.display()),
    ))
}

/// The tracing file system cannot be used.
fn unreadable(in_mount_table: bool, has_mount_point: bool, admin: bool) -> Check {
    let name = "tracing file system";
    let blocks = "--detector hwlat and osnoise; tracers and tracepoints could not be seen";
    let mount = format!(
        "mount -t tracefs tracefs {}",
        tracefs::mount_point().display()
    );
    let (found, state, remedy) = match (in_mount_table, has_mount_point) {
        (true, _) if admin => (
            "mounted elsewhere than at /sys/kernel/tracing",
            State::Missing,
            mount,
        ),
        (true, _) => (
            "mounted, but not to be read by this user",
            State::Unknown,
            "run it as root, for example with sudo".to_owned(),
        ),
        (false, true) => ("not mounted", State::Missing, mount),
        (false, false) => (
            "this kernel has none",
            State::Missing,
            "boot a kernel with CONFIG_FTRACE=y and a tracer, such as CONFIG_HWLAT_TRACER=y"
                .to_owned(),
        ),
    };
    Check::ok(Group::Tracing, name, found).but(state, blocks, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_read_is_not_called_absent() {
        assert_eq!(unreadable(true, true, false).state, State::Unknown);
        let unmounted = unreadable(false, true, true);
        assert_eq!(unmounted.state, State::Missing);
        assert!(
            unmounted.remedy.starts_with("mount -t tracefs"),
            "{unmounted:?}"
        );
        assert!(
            unreadable(false, false, true)
                .remedy
                .contains("boot a kernel")
        );
    }
}
