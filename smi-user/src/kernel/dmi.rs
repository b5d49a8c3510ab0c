//! What the firmware says of the machine and of itself (`/sys/class/dmi/id`, SMBIOS).

use std::{fs, path::Path};

const FOLDER: &str = "/sys/class/dmi/id";

/// Who made the machine, and what they call it; `None` where the firmware does not say.
pub fn product() -> Option<String> {
    joined(Path::new(FOLDER), &["sys_vendor", "product_name"])
}

/// Vendor, version and date of the firmware; `None` where it does not say.
pub fn firmware() -> Option<String> {
    joined(
        Path::new(FOLDER),
        &["bios_vendor", "bios_version", "bios_date"],
    )
}

fn joined(folder: &Path, files: &[&str]) -> Option<String> {
    let words: Vec<String> = files
        .iter()
        .filter_map(|file| fs::read_to_string(folder.join(file)).ok())
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_firmware_says_is_joined_and_what_it_does_not_say_left_out() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("bios_vendor"), "Acme\n").expect("write");
        fs::write(folder.path().join("bios_version"), " \n").expect("write");
        fs::write(folder.path().join("bios_date"), "04/01/2014\n").expect("write");
        let files = ["bios_vendor", "bios_version", "bios_date", "none"];
        assert_eq!(
            joined(folder.path(), &files).as_deref(),
            Some("Acme 04/01/2014")
        );
        assert_eq!(joined(folder.path(), &["none"]), None);
    }
}
