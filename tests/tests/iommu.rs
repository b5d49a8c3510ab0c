//! `smilat iommu` on this machine: its programs, and what it says where there is no IOMMU. The rest is tested in virtual machines
//! that have one.

use std::fs;

use smi_user::bpf::iommu::Bpf;
use tests::{output, refused, smilat, stderr};

/// Those at functions' entries and ends are verified in the virtual machines: not every kernel takes such programs.
#[test]
fn the_kernel_takes_the_programs_at_tracepoints() {
    let mut bpf = Bpf::load(16).expect("the object");
    for program in [
        "map",
        "map_again",
        "unmap",
        "unmap_again",
        "added",
        "removed",
        "attached",
        "detached",
        "fault",
        "read_group",
    ] {
        bpf.verify(program).expect(program);
    }
}

/// Whether this machine has groups; says so where that leaves a test without a subject.
fn has_groups() -> bool {
    let groups = fs::read_dir("/sys/kernel/iommu_groups");
    let has = groups.is_ok_and(|mut groups| groups.next().is_some());
    if has {
        println!("this machine has an IOMMU: what is said without one is not tested");
    }
    has
}

#[test]
fn without_an_iommu_it_says_why_and_what_would_help() {
    if has_groups() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().join("kept");
    fs::write(&kept, "mine").expect("a file");
    let into = format!("--output={}", kept.display());
    for arguments in [
        &["iommu"][..],
        &["iommu", "--group=3"],
        &["iommu", "--format=ndjson", &into],
        &["iommu", "tree"],
        &["iommu", "tree", "--json", "--device=00:03.0"],
    ] {
        // The firmware's tables are what decides, whatever the machine is.
        refused(smilat().args(arguments), &["IOMMU", "DMAR"]);
    }
    assert_eq!(fs::read(&kept).expect("a file"), b"mine");
}

#[test]
fn boot_has_what_the_kernel_log_says() {
    let output = output(smilat().args(["iommu", "boot", "--json"]));
    assert!(output.status.success(), "{}", stderr(&output));
    let boot: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(boot["schema_version"], 1);
    if !has_groups() {
        assert!(boot["readiness"].is_string(), "{boot}");
        assert!(boot["add"].is_null(), "{boot}");
    }
}

#[test]
fn live_needs_a_terminal() {
    refused(smilat().args(["iommu", "live"]), &["terminal"]);
}
