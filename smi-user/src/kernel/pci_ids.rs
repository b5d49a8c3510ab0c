//! Names of PCI devices and classes, from the list that distributions ship (`pci.ids`, <https://pci-ids.ucw.cz>), and for
//! machines without it the commonest classes from a list of our own.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;

/// Where distributions have it.
const PLACES: [&str; 4] = [
    "/usr/share/misc/pci.ids",
    "/usr/share/hwdata/pci.ids",
    "/usr/share/pci.ids",
    "/usr/share/misc/pci.ids.gz",
];

/// Classes, 16 bits, as `pci.ids` names them.
const CLASSES: [(u16, &str); 43] = [
    (0x0000, "Non-VGA unclassified device"),
    (0x00ff, "Unclassified device"),
    (0x0100, "SCSI storage controller"),
    (0x0101, "IDE interface"),
    (0x0104, "RAID bus controller"),
    (0x0106, "SATA controller"),
    (0x0107, "Serial Attached SCSI controller"),
    (0x0108, "Non-Volatile memory controller"),
    (0x0180, "Mass storage controller"),
    (0x0200, "Ethernet controller"),
    (0x0207, "Infiniband controller"),
    (0x0280, "Network controller"),
    (0x0300, "VGA compatible controller"),
    (0x0302, "3D controller"),
    (0x0380, "Display controller"),
    (0x0400, "Multimedia video controller"),
    (0x0401, "Multimedia audio controller"),
    (0x0403, "Audio device"),
    (0x0480, "Multimedia controller"),
    (0x0500, "RAM memory"),
    (0x0580, "Memory controller"),
    (0x0600, "Host bridge"),
    (0x0601, "ISA bridge"),
    (0x0604, "PCI bridge"),
    (0x0607, "CardBus bridge"),
    (0x0680, "Bridge"),
    (0x0700, "Serial controller"),
    (0x0780, "Communication controller"),
    (0x0800, "PIC"),
    (0x0801, "DMA controller"),
    (0x0805, "SD Host controller"),
    (0x0806, "IOMMU"),
    (0x0807, "Root Complex Event Collector"),
    (0x0880, "System peripheral"),
    (0x0c00, "FireWire (IEEE 1394)"),
    (0x0c03, "USB controller"),
    (0x0c04, "Fibre Channel"),
    (0x0c05, "SMBus"),
    (0x0c80, "Serial bus controller"),
    (0x0d80, "Wireless controller"),
    (0x1080, "Encryption controller"),
    (0x1180, "Signal processing controller"),
    (0x1200, "Processing accelerators"),
];

/// What the words for a device depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ids {
    /// Who made it.
    pub vendor: u16,
    /// Which of theirs it is.
    pub device: u16,
    /// Its class code, 24 bits.
    pub class: u32,
}

impl Ids {
    /// `vendor:device` in hexadecimal.
    pub fn pair(self) -> String {
        format!("{:04x}:{:04x}", self.vendor, self.device)
    }

    fn class16(self) -> u16 {
        (self.class >> 8) as u16
    }
}

/// Words for devices, kept: the same ones come again and again, and the list is long.
#[derive(Debug)]
pub struct Names {
    known: HashMap<Ids, String>,
    places: Vec<PathBuf>,
}

impl Default for Names {
    fn default() -> Self {
        Self::from_places(PLACES.map(PathBuf::from).into())
    }
}

impl Names {
    fn from_places(places: Vec<PathBuf>) -> Self {
        Self {
            known: HashMap::new(),
            places,
        }
    }

    /// Names without any list of a distribution's.
    #[cfg(test)]
    pub(crate) fn without_list() -> Self {
        Self::from_places(Vec::new())
    }

    /// Gets to know `all`. A list that is not there, or cannot be read, is no failure.
    pub fn learn(&mut self, all: impl IntoIterator<Item = Ids>) {
        let mut new: Vec<Ids> = all
            .into_iter()
            .filter(|ids| !self.known.contains_key(ids))
            .collect();
        if new.is_empty() {
            return;
        }
        new.dedup();
        let text = self
            .places
            .iter()
            .find_map(|path| read(path).ok())
            .unwrap_or_default();
        let list = List::of_text(&text, &new);
        for ids in new {
            self.known.insert(ids, list.words(ids));
        }
    }

    /// Class, vendor and device in words; `[8086:10d3]` for a device without a name.
    pub fn words(&self, ids: Ids) -> String {
        self.known
            .get(&ids)
            .cloned()
            .unwrap_or_else(|| List::default().words(ids))
    }
}

/// As bytes that need not be UTF-8: old lists are not.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        GzDecoder::new(File::open(path)?).read_to_end(&mut bytes)?;
    } else {
        bytes = fs::read(path)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The part of the list that is wanted.
#[derive(Default)]
struct List<'a> {
    vendors: HashMap<u16, &'a str>,
    devices: HashMap<(u16, u16), &'a str>,
    classes: HashMap<u16, &'a str>,
}

/// Under which heading of the list a line is.
enum Heading {
    Vendor(u16),
    Class(u8),
    Other,
}

impl<'a> List<'a> {
    /// Reads `8086  Intel`, below that `\t10d3  82574L`, and of classes `C 02  Network`, below that `\t00  Ethernet`.
    fn of_text(text: &'a str, wanted: &[Ids]) -> Self {
        let mut list = Self::default();
        let mut heading = Heading::Other;
        for line in text.lines() {
            if line.starts_with('#') || line.starts_with("\t\t") || line.is_empty() {
                continue;
            }
            if let Some(line) = line.strip_prefix('\t') {
                let Some((number, name)) = entry(line) else {
                    continue;
                };
                match heading {
                    Heading::Vendor(vendor)
                        if wanted
                            .iter()
                            .any(|ids| ids.vendor == vendor && ids.device == number) =>
                    {
                        list.devices.insert((vendor, number), name);
                    }
                    Heading::Class(class) => {
                        let class = u16::from(class) << 8 | (number & 0xff);
                        list.classes.insert(class, name);
                    }
                    _ => {}
                }
                continue;
            }
            heading = if let Some(class) = line.strip_prefix("C ") {
                entry(class).map_or(Heading::Other, |(class, _)| Heading::Class(class as u8))
            } else if let Some((vendor, name)) = entry(line)
                && wanted.iter().any(|ids| ids.vendor == vendor)
            {
                list.vendors.insert(vendor, name);
                Heading::Vendor(vendor)
            } else {
                Heading::Other
            };
        }
        list
    }

    fn words(&self, ids: Ids) -> String {
        let pair = || format!("[{}]", ids.pair());
        let class = self.classes.get(&ids.class16()).copied().or_else(|| {
            let at = CLASSES.binary_search_by_key(&ids.class16(), |(class, _)| *class);
            at.ok().map(|at| CLASSES[at].1)
        });
        let class = class.map_or_else(|| format!("Class {:04x}", ids.class16()), str::to_owned);
        match (
            self.vendors.get(&ids.vendor),
            self.devices.get(&(ids.vendor, ids.device)),
        ) {
            (Some(vendor), Some(device)) => format!("{class}: {vendor} {device}"),
            (Some(vendor), None) => format!("{class}: {vendor} {}", pair()),
            (None, _) => format!("{class} {}", pair()),
        }
    }
}

/// A number in hexadecimal, two spaces, a name.
fn entry(line: &str) -> Option<(u16, &str)> {
    let (number, name) = line.split_once("  ")?;
    Some((u16::from_str_radix(number, 16).ok()?, name.trim()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    /// The shape of the list, with a subsystem, which is left out, and a heading that is neither vendor nor class.
    const LIST: &str = "# a comment\n\
        1af4  Red Hat, Inc.\n\
        \t1042  Virtio 1.0 block device\n\
        8086  Intel Corporation\n\
        \t10d3  82574L Gigabit Network Connection\n\
        \t\t103c 1785  NC112i 1-port Ethernet Server Adapter\n\
        \n\
        C 02  Network controller\n\
        \t00  Ethernet controller, so the list says\n\
        \t\t01  with a programming interface\n\
        S 05  Something of later\n\
        \t00  that is no class\n";

    const NIC: Ids = Ids {
        vendor: 0x8086,
        device: 0x10d3,
        class: 0x02_0000,
    };

    #[test]
    fn class_vendor_and_device_have_the_names_of_the_list() {
        let folder = tempfile::tempdir().expect("a folder");
        let plain = folder.path().join("pci.ids");
        fs::write(&plain, LIST).expect("write");
        let packed = folder.path().join("pci.ids.gz");
        let mut encoder =
            GzEncoder::new(File::create(&packed).expect("create"), Compression::fast());
        encoder.write_all(LIST.as_bytes()).expect("write");
        encoder.finish().expect("finish");
        for place in [plain, packed] {
            let mut names = Names::from_places(vec![folder.path().join("none"), place]);
            let other = Ids {
                device: 0xffff,
                ..NIC
            };
            names.learn([NIC, other]);
            assert_eq!(
                names.words(NIC),
                "Ethernet controller, so the list says: Intel Corporation 82574L Gigabit Network Connection"
            );
            assert_eq!(
                names.words(other),
                "Ethernet controller, so the list says: Intel Corporation [8086:ffff]"
            );
        }
    }

    #[test]
    fn without_the_list_a_device_has_its_numbers_and_its_class() {
        let mut names = Names::without_list();
        let strange = Ids {
            class: 0xff_0000,
            ..NIC
        };
        names.learn([NIC]);
        assert_eq!(names.words(NIC), "Ethernet controller [8086:10d3]");
        assert_eq!(names.words(strange), "Class ff00 [8086:10d3]");
    }

    #[test]
    fn our_own_classes_can_be_searched() {
        assert!(CLASSES.is_sorted_by_key(|(class, _)| *class));
    }
}
