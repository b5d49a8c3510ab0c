//! Which device is which endpoint of a virtio-iommu: the ACPI table VIOT (`drivers/acpi/viot.c`), which root can read. Machines
//! without ACPI say so in their device tree, which is not looked at.

use std::{fs, path::Path};

const TABLE: &str = "/sys/firmware/acpi/tables/VIOT";
/// What all tables begin with.
const HEADER: usize = 36;
/// `ACPI_VIOT_NODE_PCI_RANGE`: the endpoints of consecutive addresses have consecutive numbers.
const PCI_RANGE: u8 = 1;

/// PCI devices that are endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    /// Number of the first endpoint.
    endpoint: u32,
    /// PCI domains, both ends within.
    first_segment: u16,
    last_segment: u16,
    /// Bus, device and function, both ends within.
    first: u16,
    last: u16,
}

/// What the table says; nothing where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints(Vec<Range>);

impl Endpoints {
    /// Reads the table.
    pub fn read() -> Self {
        Self::read_from(Path::new(TABLE))
    }

    fn read_from(path: &Path) -> Self {
        fs::read(path)
            .ok()
            .and_then(|table| parse(&table))
            .unwrap_or_default()
    }

    /// The PCI device that is endpoint `number`, as sysfs names it.
    pub fn device(&self, number: u32) -> Option<String> {
        self.0.iter().find_map(|range| {
            let offset = number.checked_sub(range.endpoint)?;
            // As `viot_pci_dev_iommu_init` counts them: 65,536 numbers for each PCI domain.
            let segment = u32::from(range.first_segment) + (offset >> 16);
            let address = u32::from(range.first) + (offset & 0xffff);
            if segment > u32::from(range.last_segment) || address > u32::from(range.last) {
                return None;
            }
            Some(format!(
                "{segment:04x}:{:02x}:{:02x}.{:x}",
                address >> 8,
                (address >> 3) & 0x1f,
                address & 7
            ))
        })
    }
}

/// `struct acpi_table_viot` of `include/acpi/actbl3.h`; integers are little-endian.
fn parse(table: &[u8]) -> Option<Endpoints> {
    let count = u16_at(table, HEADER)?;
    let mut rest = table.get(usize::from(u16_at(table, HEADER + 2)?)..)?;
    let mut ranges = Vec::new();
    for _ in 0..count {
        let length = usize::from(u16_at(rest, 2)?);
        if length < 4 {
            return None;
        }
        if *rest.first()? == PCI_RANGE {
            ranges.push(Range {
                endpoint: u32::from(u16_at(rest, 4)?) | u32::from(u16_at(rest, 6)?) << 16,
                first_segment: u16_at(rest, 8)?,
                last_segment: u16_at(rest, 10)?,
                first: u16_at(rest, 12)?,
                last: u16_at(rest, 14)?,
            });
        }
        rest = rest.get(length..)?;
    }
    Some(Endpoints(ranges))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// As QEMU writes it for a bus with the IOMMU at 00:02.0: the devices before it and those behind it.
    pub(crate) fn endpoints() -> Endpoints {
        let range = |endpoint, first, last| Range {
            endpoint,
            first_segment: 0,
            last_segment: 0,
            first,
            last,
        };
        Endpoints(vec![range(0, 0, 0x0f), range(0x11, 0x11, 0xff)])
    }

    #[test]
    fn the_table_is_taken_apart() {
        let mut table = vec![0; HEADER];
        table.extend([3, 0, 48, 0]);
        table.extend([0; 8]);
        for (endpoint, first, last) in [(0_u32, 0_u16, 0x0f_u16), (0x11, 0x11, 0xff)] {
            table.extend([PCI_RANGE, 0, 24, 0]);
            table.extend(endpoint.to_le_bytes());
            table.extend([0; 4]);
            table.extend(first.to_le_bytes());
            table.extend(last.to_le_bytes());
            table.extend([0; 8]);
        }
        // `ACPI_VIOT_NODE_VIRTIO_IOMMU_PCI`.
        table.extend([3, 0, 16, 0]);
        table.extend([0; 12]);
        assert_eq!(parse(&table), Some(endpoints()));
        assert_eq!(parse(&table[..table.len() - 20]), None, "cut short");
    }

    #[test]
    fn an_endpoint_is_the_device_at_its_place_in_the_range() {
        let endpoints = endpoints();
        assert_eq!(endpoints.device(0x18).as_deref(), Some("0000:00:03.0"));
        assert_eq!(endpoints.device(9).as_deref(), Some("0000:00:01.1"));
        assert_eq!(endpoints.device(0x10), None, "the IOMMU itself");
        assert_eq!(endpoints.device(0x1_0000), None);
        let two_domains = Endpoints(vec![Range {
            endpoint: 0x100,
            first_segment: 1,
            last_segment: 2,
            first: 0x200,
            last: 0x2ff,
        }]);
        assert_eq!(
            two_domains.device(0x1_0105).as_deref(),
            Some("0002:02:00.5")
        );
        assert_eq!(two_domains.device(3), None);
    }

    #[test]
    fn without_a_table_no_endpoint_is_known() {
        let none = Endpoints::read_from(Path::new("/nonexistent/VIOT"));
        assert_eq!(none.device(0), None);
    }
}
