//! Which detector is chosen where.

use crate::{output, smilat, stderr};

pub(super) fn a_stock_kernel_gets_spin_and_is_told_why() {
    let run = output(smilat().args(["run", "--duration=2s", "--detector=auto"]));
    assert!(run.status.success(), "{}", stderr(&run));
    let report = String::from_utf8_lossy(&run.stdout);
    let plan = report.lines().next().expect("a plan");
    println!("    {plan}");
    assert!(plan.contains("spin detector (the most precise"), "{plan}");

    let list = output(smilat().args(["run", "--detector=all"]));
    let list = String::from_utf8_lossy(&list.stdout);
    for line in list.lines() {
        println!("    {line}");
    }
    for (detector, option) in [
        ("hwlat", "CONFIG_HWLAT_TRACER"),
        ("osnoise", "CONFIG_OSNOISE_TRACER"),
    ] {
        let refused = output(smilat().args(["run", "--detector", detector]));
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        let told = format!("this kernel has no {detector} tracer");
        assert!(said.contains(&told) && said.contains(option), "{said}");
        assert!(list.contains(&told), "{list}");
    }
}
