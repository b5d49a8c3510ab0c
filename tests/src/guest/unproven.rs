//! Machines where nothing proves an SMI: one whose port raises none, and one whose CPU has no counter.

use std::time::Duration;

use smi_user::kernel::sched;

use super::smi;
use crate::{output, refused, smilat, snapshots, stderr};

const SMIS: u32 = 3;

/// Fires [`SMIS`]; the exit status, the report, and how often the handler ran.
fn fire(args: &[&str]) -> (Option<i32>, String, u32) {
    smi::set_length(Duration::ZERO);
    let handler = smi::handler_count();
    let fired = output(
        smilat()
            .args(["fire", "--yes"])
            .arg(format!("--count={SMIS}"))
            .args(args),
    );
    let report = String::from_utf8_lossy(&fired.stdout).into_owned() + &stderr(&fired);
    (fired.status.code(), report, smi::handler_count() - handler)
}

/// The firmware says that there is no port for requests, and what is written to it all the same does nothing.
pub(super) fn fire_proves_nothing_where_the_port_raises_no_smi() {
    refused(
        smilat().args(["fire", "--yes"]),
        &["has no port for requests to firmware", "--force"],
    );
    let msr = smi::msr_count(0);
    let (status, report, ran) = fire(&["--force", "--cpu=0"]);
    assert_eq!((smi::msr_count(0) - msr, ran), (0, 0), "SMIs came");
    let told = "Not proven: 3 writes, but the counter of CPU 0 did not move.";
    assert!(report.contains(told), "{report}");
    assert_eq!(status, Some(1), "{report}");
    // It is the port that does nothing: an SMI that comes another way is counted.
    sched::set_affinity([0]).expect("affinity");
    let (msr, handler) = (smi::msr_count(1), smi::handler_count());
    smi::fire_on(1);
    smi::wait_for(handler + 1);
    assert_eq!(smi::msr_count(1) - msr, 1);
}

/// The SMIs come, and smilat says that it cannot tell.
pub(super) fn fire_proves_nothing_where_the_cpu_has_no_counter() {
    let (status, report, ran) = fire(&[]);
    assert_eq!(ran, SMIS, "{report}");
    for told in [
        "Nothing proves that the 3 writes raised SMIs: there is no SMI counter here.",
        "only CPUs of Intel have this count",
    ] {
        assert!(report.contains(told), "no \"{told}\" in:\n{report}");
    }
    assert_eq!(status, Some(0), "{report}");
}

pub(super) fn run_needs_neither_smis_nor_their_counter() {
    let all = snapshots(&["--duration=2s", "--quiet"]);
    let last = all.last().expect("a snapshot");
    assert_eq!(last.cpus.len(), 2);
    for cpu in &last.cpus {
        assert!(cpu.windows.run > 0 && cpu.exposure_ns > 0, "{cpu:?}");
    }
}
