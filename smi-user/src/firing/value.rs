//! Which values may be written: firmware takes some of them for requests that a running kernel does not survive well.

use crate::kernel::fadt::Fadt;

/// What `value` asks the firmware for, where writing it is a bad idea; `None` where nothing is known against it.
pub fn request(value: u8, fadt: Option<&Fadt>) -> Option<String> {
    let by_table = fadt.and_then(|fadt| {
        let (_, what) = fadt
            .requests
            .iter()
            .find(|(request, _)| *request == value)?;
        Some(format!(
            "this machine's firmware takes it as the request to {what}, as its ACPI table FADT says"
        ))
    });
    by_table.or_else(|| {
        // What `SeaBIOS` and others use; the table may be out of reach, and its values are not all that firmware knows.
        let what = match value {
            2 => "on",
            3 => "off",
            _ => return None,
        };
        Some(format!(
            "many firmwares take it as the request to turn ACPI {what}, behind the kernel's back"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_the_table_and_the_usual_two() {
        let fadt = Fadt {
            smi_cmd: 0xb2,
            requests: vec![(0xa0, "take up ACPI (ACPI_ENABLE)"), (3, "give up ACPI")],
        };
        let with = |value| request(value, Some(&fadt));
        assert!(with(0xa0).expect("a request").contains("ACPI_ENABLE"));
        assert!(with(3).expect("a request").contains("table FADT says"));
        assert!(with(2).expect("a request").contains("turn ACPI on"));
        assert_eq!(with(0), None);
        assert_eq!(request(0xa0, None), None);
        assert!(request(3, None).expect("usual").contains("turn ACPI off"));
    }
}
