//! The firmware's table of fixed ACPI features (FADT, ACPI specification section 5.2.9): at which I/O port its SMI
//! handler takes requests, and which values are requests.

use std::fs;

/// The table (`Documentation/ABI/testing/sysfs-firmware-acpi`).
const PATH: &str = "/sys/firmware/acpi/tables/FACP";

/// What of it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fadt {
    /// `SMI_CMD`: the I/O port; 0 where the firmware takes no requests.
    pub smi_cmd: u32,
    /// Values that ask the firmware for something, each with what that is.
    pub requests: Vec<(u8, &'static str)>,
}

/// Where the table has its values, and what each asks for.
const REQUESTS: [(usize, &str); 5] = [
    (52, "take up ACPI (ACPI_ENABLE)"),
    (53, "give up ACPI (ACPI_DISABLE)"),
    (54, "put the machine to sleep (S4BIOS_REQ)"),
    (55, "leave performance states to the kernel (PSTATE_CNT)"),
    (95, "leave idle states to the kernel (CST_CNT)"),
];

/// Where the table has the port.
const SMI_CMD: usize = 48;

impl Fadt {
    /// That of this machine; `None` where it has none or it cannot be read.
    pub fn read() -> Option<Self> {
        Self::of_table(&fs::read(PATH).ok()?)
    }

    /// By the table's bytes; tables of ACPI 1.0 end before later fields.
    fn of_table(table: &[u8]) -> Option<Self> {
        if !table.starts_with(b"FACP") {
            return None;
        }
        let port = table.get(SMI_CMD..)?.first_chunk::<4>()?;
        Some(Self {
            smi_cmd: u32::from_le_bytes(*port),
            // 0 stands for "not supported" in all of them.
            requests: REQUESTS
                .into_iter()
                .filter_map(|(at, what)| Some((*table.get(at)?, what)))
                .filter(|(value, _)| *value != 0)
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captured from QEMU's q35 and from a machine with hardware-reduced ACPI.
    const Q35: &[u8] = include_bytes!("testdata/facp-q35");
    const REDUCED: &[u8] = include_bytes!("testdata/facp-hardware-reduced");

    #[test]
    fn q35_takes_2_and_3_at_port_0xb2() {
        let fadt = Fadt::of_table(Q35).expect("a table");
        assert_eq!(fadt.smi_cmd, 0xb2);
        let values: Vec<u8> = fadt.requests.iter().map(|(value, _)| *value).collect();
        assert_eq!(values, [2, 3]);
        assert!(fadt.requests[0].1.contains("ACPI_ENABLE"));
    }

    #[test]
    fn a_machine_with_reduced_acpi_has_no_port() {
        let fadt = Fadt::of_table(REDUCED).expect("a table");
        assert_eq!(fadt.smi_cmd, 0);
        assert!(fadt.requests.is_empty());
    }

    #[test]
    fn what_is_no_such_table_is_none() {
        assert_eq!(Fadt::of_table(b""), None);
        assert_eq!(Fadt::of_table(b"FACP\x10\x00\x00\x00"), None);
        assert_eq!(Fadt::of_table(&[0; 276]), None);
    }
}
