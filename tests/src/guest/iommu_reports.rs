//! `smilat iommu` told in several ways at the same time: they agree.

use std::net::SocketAddr;

use super::{
    disks,
    iommu_watch::{Watch, domain_of},
    mapper::Mapper,
    pci::{EDU, NVME_DISK, VIRTIO_DISK},
    telling::Telling,
    wire,
};
use crate::{
    serving::{get, sum},
    smilat, wait_until,
};

pub(super) fn text_and_metrics_agree_with_the_ndjson_of_the_same_time() {
    wire::loopback_up();
    let address: SocketAddr = ([127, 0, 0, 1], 9800).into();
    let (virtio, nvme) = (disks::virtio(), disks::nvme());
    for disk in [&virtio, &nvme] {
        disks::settle(disk);
    }
    let mapper = Mapper::attach();
    let mut ndjson = Watch::start(&[&format!("--listen={address}")]);
    let mut command = smilat();
    command.args(["iommu", "--interval=1s"]);
    let text = Telling::start(command, str::to_owned);
    text.next().expect("a first report");
    disks::read(&virtio, 4);
    disks::read(&nvme, 4);
    mapper.run("pieces 65536 4096 50");
    mapper.run("mmio");
    let told = ndjson.settled();

    // Nothing is mapped any more: a page after the last event has all.
    let last = told.last();
    let page = || get(address, "/metrics").expect("an answer").body;
    let of_edu = format!("device=\"{EDU}\"");
    let total = domain_of(last, EDU).unmaps.count;
    wait_until("all in the page", || {
        sum(&page(), "smilat_iommu_unmaps_total", &of_edu) as u64 == total
    });
    let page = page();
    for device in [VIRTIO_DISK, NVME_DISK, EDU] {
        let domain = domain_of(last, device);
        let label = format!("device=\"{device}\"");
        for (family, value) in [
            ("smilat_iommu_maps_total", domain.maps.count),
            ("smilat_iommu_unmaps_total", domain.unmaps.count),
            ("smilat_iommu_mapped_bytes_total", domain.maps.bytes),
            ("smilat_iommu_unmapped_bytes_total", domain.unmaps.bytes),
            ("smilat_iommu_freed_bytes_total", domain.freed_bytes),
            ("smilat_iommu_unmaps_whole_total", domain.whole),
            ("smilat_iommu_unmaps_pieces_total", domain.pieces),
            ("smilat_iommu_maps_not_ram_total", domain.not_ram),
        ] {
            assert_eq!(sum(&page, family, &label) as u64, value, "{family} {label}");
        }
    }
    for cpu in &last.cpus {
        let label = format!("cpu=\"{}\"", cpu.cpu);
        assert_eq!(
            sum(&page, "smilat_iommu_cpu_maps_total", &label) as u64,
            cpu.maps
        );
    }
    let maps: u64 = last.domains.iter().map(|domain| domain.maps.count).sum();
    assert_eq!(
        sum(&page, "smilat_iommu_map_size_bytes_count", "") as u64,
        maps
    );

    text.signal(libc::SIGINT);
    let text = text.ended();
    let told = ndjson.end();
    told.assert_whole();
    let last = told.last();
    let summary = text
        .lines
        .iter()
        .skip_while(|line| !line.starts_with("Summary of"));
    let rows: Vec<Vec<&str>> = summary
        .map(|line| line.split_whitespace().collect())
        .collect();
    println!("    {}", text.lines.join("\n    "));
    for device in [VIRTIO_DISK, NVME_DISK, EDU] {
        let domain = domain_of(last, device);
        // domain groups kind maps unmaps ratio whole pieces untracked ... devices
        let row = rows
            .iter()
            .find(|row| row.last() == Some(&device) && row.len() > 9)
            .unwrap_or_else(|| panic!("no row of {device}: {rows:#?}"));
        let number = |at: usize| row[at].parse::<u64>().expect("a number");
        assert_eq!(row[1], domain.groups[0].to_string());
        assert_eq!(
            [number(3), number(4), number(6), number(7), number(8)],
            [
                domain.maps.count,
                domain.unmaps.count,
                domain.whole,
                domain.pieces,
                domain.untracked
            ],
            "{device}"
        );
    }
    assert_eq!(text.status.code(), Some(1), "{}", text.words);
    assert_eq!(told.code(), 1);
}
