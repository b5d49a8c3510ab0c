//! Which kernel this is, and whether its configuration can be read.

use super::{Check, Facts, Group, State};
use crate::kernel::release;

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let kind = if release::is_realtime() {
        "with PREEMPT_RT"
    } else {
        "without PREEMPT_RT"
    };
    let release = Check::ok(
        Group::Kernel,
        "release",
        format!("Linux {}, {kind}", facts.release),
    );
    let config = match &facts.config {
        Ok(config) => Check::ok(
            Group::Kernel,
            "configuration",
            format!("read from {}", config.path.display()),
        ),
        Err(error) => Check::ok(Group::Kernel, "configuration", error.to_string()).but(
            State::Unknown,
            "telling which options are off; what the kernel does when asked is told all the same",
            format!(
                "put the file that the kernel's package has as /boot/config-{release} there, or boot a kernel with \
                 CONFIG_IKCONFIG_PROC=y",
                release = facts.release
            ),
        ),
    };
    vec![release, config]
}
