//! What `smilat iommu` says where it cannot do what is asked for.

use super::{
    disks,
    iommu_groups::assert_tree_is_sysfs,
    iommu_watch::Watch,
    pci::{EDU, VIRTIO_DISK},
};
use crate::{output, refused, smilat, stderr};

pub(super) fn unknown_devices_and_groups_are_refused() {
    for command in [&["iommu"][..], &["iommu", "tree"]] {
        let smilat = || {
            let mut smilat = smilat();
            smilat.args(command);
            smilat
        };
        refused(
            smilat().arg("--device=0000:00:1d.7"),
            &["there is no device 0000:00:1d.7", EDU],
        );
        refused(
            smilat().arg("--group=4711"),
            &["there is no group 4711", "there"],
        );
        refused(smilat().arg("--device=eth0.7"), &["eth0.7"]);
    }
}

pub(super) fn a_machine_in_passthrough_is_told_why_nothing_is_mapped() {
    let watch = Watch::start(&[]);
    disks::read(&disks::virtio(), 1);
    let told = watch.end();
    assert_eq!(told.code(), 0, "{}", told.words);
    assert!(told.last().domains.is_empty(), "{:#?}", told.last().domains);
    for words in ["identity", "iommu.passthrough=1", "iommu.passthrough=0"] {
        assert!(told.words.contains(words), "{}", told.words);
    }
    let tree = assert_tree_is_sysfs();
    let group = tree.device(VIRTIO_DISK).and_then(|device| device.group);
    let group = tree.group(group.expect("a group")).expect("a group");
    assert_eq!(group.kind.as_deref(), Some("identity"));
}

pub(super) fn without_an_iommu_the_remedy_is_told() {
    for command in [&["iommu"][..], &["iommu", "tree"]] {
        refused(smilat().args(command), &["has no IOMMU", "intel-iommu"]);
    }
    // What the kernel log says of boot may still be of use.
    let boot = output(smilat().args(["iommu", "boot"]));
    assert!(
        boot.status.code() == Some(0) || stderr(&boot).contains("IOMMU"),
        "{boot:?}"
    );
}
