use super::*;

/// A virtual machine's, where the endpoints' numbers are the devices' addresses.
fn reader() -> FaultReader {
    FaultReader::new(crate::kernel::viot::tests::endpoints())
}

fn messages(texts: &[&str]) -> Vec<Message> {
    (1..)
        .zip(texts)
        .map(|(seq, text)| Message {
            seq,
            since_boot: Duration::from_micros(seq * 10),
            level: 3,
            text: (*text).to_owned(),
        })
        .collect()
}

/// What one line says by itself.
fn one(text: &str) -> Option<Fault> {
    let mut told = reader().take(&messages(&[text]));
    match told.pop()?.1 {
        Report::Fault(fault) => Some(fault),
        Report::Suppressed(_) => None,
    }
}

/// Device, address, access and reason.
type Parts<'a> = (&'a str, Option<u64>, Option<&'a str>, &'a str);

fn parts(fault: &Fault) -> Parts<'_> {
    (
        &fault.device,
        fault.iova,
        fault.access.as_deref(),
        fault.reason.as_deref().expect("a reason"),
    )
}

fn check(cases: &[(&str, Parts<'_>)]) {
    for (text, expected) in cases {
        let fault = one(text).unwrap_or_else(|| panic!("no fault: {text}"));
        assert_eq!(parts(&fault), *expected, "{text}");
        assert_eq!(fault.source, FaultSource::KernelLog);
        assert_eq!(fault.group, None);
    }
}

#[test]
fn intels_faults_are_read_as_kernels_from_old_to_new_write_them() {
    check(&[
        (
            "DMAR: [DMA Read NO_PASID] Request device [00:02.0] fault addr 0xfffff000 [fault reason 0x06] PTE Read access is not set",
            (
                "0000:00:02.0",
                Some(0xffff_f000),
                Some("read"),
                "PTE Read access is not set [fault reason 0x06]",
            ),
        ),
        (
            "DMAR: [DMA Write] Request device [03:1f.7] fault addr 7ffdf000 [fault reason 05] PTE Write access is not set",
            (
                "0000:03:1f.7",
                Some(0x7ffd_f000),
                Some("write"),
                "PTE Write access is not set [fault reason 05]",
            ),
        ),
        (
            "DMAR: [DMA Read] Request device [00:02.0] PASID ffffffff fault addr 12345000 [fault reason 06] PTE Read access is not set",
            (
                "0000:00:02.0",
                Some(0x1234_5000),
                Some("read"),
                "PTE Read access is not set [fault reason 06]",
            ),
        ),
        (
            "DMAR: [DMA Read] Request device [00:02.0] PASID 1f fault addr 12345000 [fault reason 80] SM: Present bit in Directory \
             Entry is clear",
            (
                "0000:00:02.0",
                Some(0x1234_5000),
                Some("read"),
                "SM: Present bit in Directory Entry is clear [fault reason 80], PASID 0x1f",
            ),
        ),
        (
            "DMAR: [DMA Write NO_PASID] Request device [0x00:0x0a.5] fault addr 0x1000 [fault reason 0x05] PTE Write access is not set",
            (
                "0000:00:0a.5",
                Some(0x1000),
                Some("write"),
                "PTE Write access is not set [fault reason 0x05]",
            ),
        ),
        (
            "DMAR: [DMA Write PASID 0x3] Request device [0001:6b:00.0] fault addr 0x7f0012345000 [fault reason 0x71] SM: Present bit \
             in first-level paging entry is clear",
            (
                "0001:6b:00.0",
                Some(0x7f00_1234_5000),
                Some("write"),
                "SM: Present bit in first-level paging entry is clear [fault reason 0x71], PASID 0x3",
            ),
        ),
        (
            "DMAR: [INTR-REMAP] Request device [f0:1f.7] fault index 0x1c [fault reason 0x22] Present field in the IRTE entry is clear",
            (
                "0000:f0:1f.7",
                None,
                None,
                "Present field in the IRTE entry is clear [fault reason 0x22], interrupt 0x1c",
            ),
        ),
        (
            "DMAR: [INTR-REMAP] Request device [00:1f.0] fault index 2e [fault reason 34] Present field in the IRTE entry is clear",
            (
                "0000:00:1f.0",
                None,
                None,
                "Present field in the IRTE entry is clear [fault reason 34], interrupt 0x2e",
            ),
        ),
    ]);
}

#[test]
fn amds_faults_are_read_whether_the_device_stands_before_or_in_them() {
    check(&[
        (
            "ath10k_pci 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000d address=0xcfd51ad0 flags=0x0070]",
            (
                "0000:01:00.0",
                Some(0xcfd5_1ad0),
                Some("write"),
                "IO_PAGE_FAULT [flags=0x0070]",
            ),
        ),
        (
            "pci 0000:03:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0000 address=0x1000 flags=0x0050 vflags=0x1]",
            (
                "0000:03:00.0",
                Some(0x1000),
                Some("read"),
                "IO_PAGE_FAULT [flags=0x0050, vflags=0x1]",
            ),
        ),
        (
            "AMD-Vi: Event logged [IO_PAGE_FAULT device=03:00.0 domain=0x0000 address=0xfffffffdf8000000 flags=0x0020]",
            (
                "0000:03:00.0",
                Some(0xffff_fffd_f800_0000),
                Some("write"),
                "IO_PAGE_FAULT [flags=0x0020]",
            ),
        ),
        (
            "AMD-Vi: Event logged [IO_PAGE_FAULT device=0002:03:00.0 domain=0x0000 address=0xfdf8000000 flags=0x0008]",
            (
                "0002:03:00.0",
                Some(0xfd_f800_0000),
                None,
                "IO_PAGE_FAULT of an interrupt [flags=0x0008]",
            ),
        ),
        (
            "pci 0000:00:00.2: AMD-Vi: Event logged [ILLEGAL_DEV_TABLE_ENTRY device=0000:07:00.1 pasid=0x00000 address=0xfffffffdf8000000 \
             flags=0x0a00]",
            (
                "0000:07:00.1",
                Some(0xffff_fffd_f800_0000),
                None,
                "ILLEGAL_DEV_TABLE_ENTRY [flags=0x0a00, pasid=0x00000]",
            ),
        ),
        (
            "pci 0000:00:00.2: AMD-Vi: Event logged [IOTLB_INV_TIMEOUT device=0000:0a:00.0 address=0x1067ac740]",
            (
                "0000:0a:00.0",
                Some(0x1_067a_c740),
                None,
                "IOTLB_INV_TIMEOUT",
            ),
        ),
        (
            "AMD-Vi: Event logged [RMP_PAGE_FAULT device=0000:41:00.0, vmg_tag=0x0001, gpa=0x5000, flags_rmp=0x0002, flags=0x0000]",
            (
                "0000:41:00.0",
                Some(0x5000),
                None,
                "RMP_PAGE_FAULT [flags=0x0000, flags_rmp=0x0002, vmg_tag=0x0001]",
            ),
        ),
        (
            "AMD-Vi:   device=0000:03:00.0 domain=0x0000",
            (
                "0000:03:00.0",
                None,
                None,
                "Device not attached to domain properly",
            ),
        ),
    ]);
    let driver = |text: &str| one(text).and_then(|fault| fault.driver);
    let event = "AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0 address=0x1 flags=0x0]";
    assert_eq!(
        driver(&format!("nvme 0000:03:00.0: {event}")).as_deref(),
        Some("nvme")
    );
    assert_eq!(driver(&format!("pci 0000:03:00.0: {event}")), None);
}

#[test]
fn virtio_names_endpoints_that_the_machines_table_resolves() {
    check(&[
        (
            "virtio_iommu virtio0: page fault from EP 24 at 0xfffff000 [R]",
            (
                "0000:00:03.0",
                Some(0xffff_f000),
                Some("read"),
                "not mapped, or not for that",
            ),
        ),
        (
            "virtio_iommu virtio0: domain fault from EP 25 at 0x0 [W]",
            (
                "0000:00:03.1",
                Some(0),
                Some("write"),
                "the device is attached to no domain",
            ),
        ),
        (
            "virtio_iommu virtio2: unknown fault from EP 70000",
            (
                "endpoint 70000 of virtio2",
                None,
                None,
                "not told by the host",
            ),
        ),
        (
            "virtio_iommu virtio0: page fault from EP 24 at 0x1000 [RW]",
            (
                "0000:00:03.0",
                Some(0x1000),
                None,
                "not mapped, or not for that",
            ),
        ),
    ]);
}

#[test]
fn arms_second_version_names_streams() {
    check(&[
        (
            "arm-smmu 15000000.iommu: Unhandled context fault: fsr=0x402, iova=0xd65504710, fsynr=0x100011, cbfrsynra=0x121, cb=6",
            (
                "stream 0x121 of 15000000.iommu",
                Some(0xd_6550_4710),
                Some("write"),
                "context fault [fsr=0x402, fsynr=0x100011]",
            ),
        ),
        (
            "arm-smmu 16c0000.iommu: Unhandled context fault: fsr=0x402, iova=0x00000000, fsynr=0x1, cbfrsynra=0x1900, cb=0",
            (
                "stream 0x1900 of 16c0000.iommu",
                Some(0),
                Some("read"),
                "context fault [fsr=0x402, fsynr=0x1]",
            ),
        ),
        (
            "arm-smmu 5000000.iommu: Blocked unknown Stream ID 0x429; boot with \"arm-smmu.disable_bypass=0\" to allow, but this may have \
             security implications",
            (
                "stream 0x429 of 5000000.iommu",
                None,
                None,
                "the device was not set up, and is blocked",
            ),
        ),
    ]);
}

#[test]
fn what_is_no_fault_is_none() {
    for text in [
        "DMAR: DRHD: handling fault status reg 2",
        "DMAR: dmar0: Using Queued invalidation",
        "DMAR: Dump dmar0 table entries for IOVA 0xfffff000",
        "DMAR: [DMA Read NO_PASID] Request device [nonsense] fault addr 0x0 [fault reason 0x06] x",
        "DMAR: [DMA Read NO_PASID] Request device [00:20.0] fault addr 0x0 [fault reason 0x06] x",
        "AMD-Vi: Event logged [Device not attached to domain properly]",
        "pci 0000:00:00.2: AMD-Vi: Event logged [COMMAND_HARDWARE_ERROR address=0x1000 flags=0x0000]",
        "AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0000 address=0x1000 flags=0x0000]",
        "arm-smmu 15000000.iommu: FSR    = 00000402 [Format=2 TF], SID=0x121",
        "arm-smmu 15000000.iommu: Unexpected global fault, this could be serious",
        "virtio_net virtio0: page fault from EP 24 at 0x0 [R]",
        "virtio_iommu virtio0: input address: 64 bits",
        "pci 0000:00:03.0: Adding to iommu group 3",
        "",
    ] {
        assert_eq!(reader().take(&messages(&[text])), [], "{text}");
    }
}

#[test]
fn how_many_were_held_back_is_told_for_these_drivers_only() {
    let told = reader().take(&messages(&[
        "dmar_fault: 317 callbacks suppressed",
        "viommu_fault_handler: 1 callbacks suppressed",
        "net_ratelimit: 17 callbacks suppressed",
        "dmar_fault: many callbacks suppressed",
        "printk: systemd: 16 output lines suppressed due to ratelimiting",
    ]));
    assert_eq!(
        told,
        [
            (Duration::from_micros(10), Report::Suppressed(317)),
            (Duration::from_micros(20), Report::Suppressed(1)),
        ]
    );
}

const BEGIN: &str = "arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:";
const WORDS: [&str; 4] = [
    "arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000010000001810",
    "arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000020800000000",
    "arm-smmu-v3 arm-smmu-v3.0.auto: \t0x00000000fffff040",
    "arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000000000000000",
];
const CLIENT: &str = "arm-smmu-v3 arm-smmu-v3.0.auto: event: F_TRANSLATION client: 0000:01:00.0 sid: 0x100 ssid: 0x1 iova: 0xfffff040 \
                      ipa: 0x0";
const IN_WORDS: &str =
    "arm-smmu-v3 arm-smmu-v3.0.auto: unpriv data read s1 \"Input address caused fault\" stag: 0x0";

fn only_fault(told: &[(Duration, Report)]) -> &Fault {
    match told {
        [(_, Report::Fault(fault))] => fault,
        _ => panic!("{told:?}"),
    }
}

#[test]
fn an_event_of_arms_third_version_is_told_once_with_the_devices_name() {
    let mut lines = vec![BEGIN];
    lines.extend(WORDS);
    // Another CPU's message comes between.
    lines.insert(3, "e1000e 0000:01:00.0 eth0: NIC Link is Down");
    lines.extend([CLIENT, IN_WORDS]);
    let mut reader = reader();
    let told = reader.take(&messages(&lines));
    assert_eq!(told[0].0, Duration::from_micros(10));
    assert_eq!(
        parts(only_fault(&told)),
        (
            "0000:01:00.0",
            Some(0xffff_f040),
            Some("read"),
            "F_TRANSLATION, PASID 0x1"
        )
    );
    assert_eq!(reader.take(&[]), []);
}

#[test]
fn where_nothing_names_the_device_the_event_is_told_at_the_next_call() {
    let mut lines = vec![BEGIN];
    lines.extend(WORDS);
    let mut reader = reader();
    assert_eq!(reader.take(&messages(&lines)), []);
    let told = reader.take(&[]);
    assert_eq!(
        parts(only_fault(&told)),
        (
            "stream 0x100 of arm-smmu-v3.0.auto",
            Some(0xffff_f040),
            Some("read"),
            "F_TRANSLATION, PASID 0x1"
        )
    );
    assert_eq!(reader.take(&[]), []);
}

#[test]
fn an_event_ends_where_the_next_one_of_its_iommu_begins_or_time_has_gone_by() {
    let mut lines = vec![BEGIN];
    lines.extend(WORDS);
    lines.push(BEGIN);
    lines.extend(WORDS);
    // Of another IOMMU, and with the stream that nobody has.
    lines.push("arm-smmu-v3 arm-smmu-v3.1.auto: event 0x02 received:");
    lines.push("arm-smmu-v3 arm-smmu-v3.1.auto: \t0x0000002a00000002");
    lines.push("arm-smmu-v3 arm-smmu-v3.1.auto: event: C_BAD_STREAMID client: (unassigned sid) sid: 0x2a ssid: 0x0");
    let mut messages = messages(&lines);
    messages.push(Message {
        seq: 99,
        since_boot: Duration::from_secs(2),
        level: 6,
        text: "something else".to_owned(),
    });
    let told = reader().take(&messages);
    let devices: Vec<Parts<'_>> = told
        .iter()
        .map(|(_, report)| match report {
            Report::Fault(fault) => parts(fault),
            Report::Suppressed(_) => panic!("{told:?}"),
        })
        .collect();
    let translation = (
        "stream 0x100 of arm-smmu-v3.0.auto",
        Some(0xffff_f040),
        Some("read"),
        "F_TRANSLATION, PASID 0x1",
    );
    assert_eq!(
        devices,
        [
            translation,
            (
                "stream 0x2a of arm-smmu-v3.1.auto",
                None,
                None,
                "C_BAD_STREAMID"
            ),
            translation,
        ]
    );
}

#[test]
fn an_event_that_is_continued_at_the_next_call_is_whole() {
    let mut lines = vec![BEGIN];
    lines.extend(WORDS);
    lines.push(CLIENT);
    let messages = messages(&lines);
    let mut reader = reader();
    assert_eq!(reader.take(&messages[..3]), []);
    let told = reader.take(&messages[3..]);
    assert_eq!(only_fault(&told).device, "0000:01:00.0");
    assert_eq!(only_fault(&told).iova, Some(0xffff_f040));
}

#[test]
fn faults_that_the_tracepoint_tells_of_too_are_known() {
    for (text, is_traced) in [
        (
            "nvme 0000:03:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0 address=0x1 flags=0x20]",
            true,
        ),
        (
            "nvme 0000:03:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0 address=0x1 flags=0x8]",
            false,
        ),
        (
            "pci 0000:00:00.2: AMD-Vi: Event logged [IOTLB_INV_TIMEOUT device=0000:0a:00.0 address=0x1]",
            false,
        ),
        (
            "arm-smmu 1.iommu: Unhandled context fault: fsr=0x402, iova=0x0, fsynr=0x1, cbfrsynra=0x1, cb=0",
            true,
        ),
        (
            "DMAR: [DMA Read NO_PASID] Request device [00:02.0] fault addr 0x0 [fault reason 0x06] PTE Read access is not set",
            false,
        ),
    ] {
        assert_eq!(is_traced_too(&one(text).expect(text)), is_traced, "{text}");
    }
}

#[test]
fn the_tracepoints_flags_are_the_access() {
    assert_eq!(tracepoint_access(0), Some("read"));
    assert_eq!(tracepoint_access(1), Some("write"));
    assert_eq!(tracepoint_access(0x70), None);
}
