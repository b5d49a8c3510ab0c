//! `smilat iommu` on this machine, which has no IOMMU: its programs, and what it says.

use smi_user::bpf::iommu::Bpf;

/// Those at functions' entries and ends are verified in the virtual machines: not every kernel takes such programs.
#[test]
fn the_kernel_takes_the_programs_at_tracepoints() {
    let mut bpf = Bpf::load(16).expect("the object");
    for program in [
        "map",
        "unmap",
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
