//! On a machine that has no gaps none is found, however short a gap is looked for.

use crate::snapshots;

/// Watches for a minute of the machine's time, a fifth of which is sampled.
pub(super) fn no_detector_sees_a_gap_where_there_is_none() {
    for detector in ["spin", "osnoise", "hwlat"] {
        let all = snapshots(&[
            "--detector",
            detector,
            "--mode=per-cpu",
            "--width=20ms",
            "--window=100ms",
            "--irqs-off-max=10ms",
            "--threshold=10us",
            "--duration=60s",
            "--quiet",
        ]);
        let last = all.last().expect("a snapshot");
        let cpu = &last.cpus[0];
        println!(
            "    {detector}: {} gaps of 10 us and more in {} ms, {} ms of exposure, {} windows",
            cpu.gaps.count,
            last.elapsed_ns / 1_000_000,
            cpu.exposure_ns / 1_000_000,
            cpu.windows.run,
        );
        assert!(last.elapsed_ns >= 60_000_000_000);
        assert!(cpu.exposure_ns >= 6_000_000_000, "{cpu:?}");
        assert_eq!(cpu.gaps.count, 0, "{detector}: {:?}", cpu.gaps);
    }
}
