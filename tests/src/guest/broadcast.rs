//! A machine in which a write to the port stops all CPUs at once, as in most real ones.

use std::time::Duration;

use smi_user::kernel::sched;

use super::{fire::moved_by, smi};
use crate::{output, smilat, stderr};

pub(super) fn a_write_to_the_port_stops_both_cpus() {
    const WRITES: u32 = 100;
    sched::set_affinity([0]).expect("affinity");
    // So long that both handlers run at the same time.
    smi::set_length(Duration::from_millis(1));
    let msr = [smi::msr_count(0), smi::msr_count(1)];
    let handler = smi::handler_count();
    for written in 0..WRITES {
        smi::fire_here();
        // Two that wait at the same time are one.
        smi::wait_for(handler + 2 * (written + 1));
    }
    let moved = [smi::msr_count(0) - msr[0], smi::msr_count(1) - msr[1]];
    let smis = smi::records(handler);
    let ran = [0, 1].map(|cpu| smis.iter().filter(|smi| smi.cpu == cpu).count());
    let both = smis.chunks(2).filter(|pair| {
        pair[0].begin_tsc.max(pair[1].begin_tsc) < pair[0].end_tsc.min(pair[1].end_tsc)
    });
    println!(
        "    {WRITES} writes by CPU 0: MSR 0x34 of the CPUs moved by {moved:?}, the handler ran {ran:?} times, on both \
         at the same time in {} of them",
        both.count()
    );
    assert_eq!(moved, [u64::from(WRITES); 2]);
    assert_eq!(ran, [WRITES as usize; 2]);
    assert_eq!(smis.len(), 2 * WRITES as usize);
    for pair in smis.chunks(2) {
        assert_ne!(pair[0].cpu, pair[1].cpu, "one CPU twice: {pair:?}");
    }
}

/// What the other CPU counts is told beside the proof, and not as more SMIs.
pub(super) fn fire_proves_smis_that_stop_both_cpus() {
    const WRITES: u64 = 20;
    smi::set_length(Duration::ZERO);
    let msr = smi::msr_count(1);
    let fired = output(
        smilat()
            .args(["fire", "--yes", "--cpu=0"])
            .arg(format!("--count={WRITES}")),
    );
    let report = String::from_utf8_lossy(&fired.stdout);
    assert_eq!(fired.status.code(), Some(0), "{report}{}", stderr(&fired));
    let moved = [0, 1].map(|cpu| moved_by(&report, cpu));
    println!("    smilat fire, {WRITES} on CPU 0: the counters of the CPUs moved by {moved:?}");
    // A CPU that the host keeps from running finds two SMIs waiting as one; the one that writes waits for each.
    assert_eq!(moved, [WRITES, smi::msr_count(1) - msr]);
    assert_ne!(moved[1], 0, "{report}");
    for told in [
        "the CPUs' counts must not be added up",
        "Proven: 20 writes, and the counter of CPU 0 moved by 20.",
    ] {
        assert!(report.contains(told), "no \"{told}\" in:\n{report}");
    }
}
