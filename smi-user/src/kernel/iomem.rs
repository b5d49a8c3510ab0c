//! What lies where in the physical address space (`/proc/iomem`): main memory, and everything that is none.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use thiserror::Error;

const LIST: &str = "/proc/iomem";
/// Name of main memory. Where a driver gave it to the kernel, the driver's name follows (`System RAM (kmem)`).
const RAM: &str = "System RAM";

/// Why it is not known what lies where.
#[derive(Debug, Error)]
pub enum IomemError {
    /// The list could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Addresses read as zero.
    #[error(
        "the kernel hides the addresses in {path} from processes without CAP_SYS_ADMIN; run it as root, for example with sudo, and \
         outside containers"
    )]
    Hidden {
        /// The file.
        path: PathBuf,
    },
    /// Everything would look like something else.
    #[error(
        "{path} names no main memory (\"System RAM\"): what is none cannot be told apart from it"
    )]
    NoRam {
        /// The file.
        path: PathBuf,
    },
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// How many lines it is part of.
    depth: usize,
    first: u64,
    last: u64,
    name: String,
}

/// All of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iomem(Vec<Entry>);

/// Main memory in so few ranges that a table has room for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FewRanges {
    /// The ranges, ascending, with gaps between.
    pub ranges: Vec<Range<u64>>,
    /// How many gaps were given up: what lies there is taken for main memory.
    pub gaps_lost: usize,
    /// Bytes of these.
    pub bytes_lost: u64,
}

impl Iomem {
    /// Reads the list.
    ///
    /// # Errors
    /// When it cannot be read, when the kernel hides its addresses, or when it names no main memory.
    pub fn read() -> Result<Self, IomemError> {
        Self::read_from(Path::new(LIST))
    }

    fn read_from(path: &Path) -> Result<Self, IomemError> {
        let path = || path.to_owned();
        let text = fs::read_to_string(path()).map_err(|source| IomemError::Read {
            path: path(),
            source,
        })?;
        let entries: Vec<Entry> = text.lines().filter_map(entry).collect();
        // `r_show` in `kernel/resource.c` prints zeros to those who may not see; the names stay.
        if !entries.is_empty() && entries.iter().all(|entry| entry.last == 0) {
            return Err(IomemError::Hidden { path: path() });
        }
        if !entries.iter().any(Entry::is_ram) {
            return Err(IomemError::NoRam { path: path() });
        }
        Ok(Self(entries))
    }

    /// Main memory, ascending, adjacent ranges as one. What firmware and the kernel keep for themselves within it counts too, what
    /// the list calls reserved does not.
    pub fn system_ram(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = self
            .0
            .iter()
            .filter(|entry| entry.is_ram())
            .map(|entry| entry.first..entry.last.saturating_add(1))
            .collect();
        ranges.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(before) if range.start <= before.end => before.end = before.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }

    /// The same in at most `most` ranges: where there are more, the smallest gaps between them are given up.
    pub fn system_ram_in(&self, most: usize) -> FewRanges {
        let mut few = FewRanges {
            ranges: self.system_ram(),
            ..FewRanges::default()
        };
        let more = few.ranges.len().saturating_sub(most.max(1));
        if more == 0 {
            return few;
        }
        let gap = |pair: &[Range<u64>]| pair[1].start - pair[0].end;
        // By size and, among the same, from low addresses up: the index is that of the range before the gap.
        let mut gaps: Vec<(u64, usize)> = few
            .ranges
            .windows(2)
            .enumerate()
            .map(|(index, pair)| (gap(pair), index))
            .collect();
        gaps.sort_unstable();
        gaps.truncate(more);
        few.gaps_lost = gaps.len();
        few.bytes_lost = gaps.iter().map(|(bytes, _)| bytes).sum();
        let mut given_up: Vec<usize> = gaps.into_iter().map(|(_, index)| index).collect();
        given_up.sort_unstable();
        for index in given_up.into_iter().rev() {
            few.ranges[index].end = few.ranges[index + 1].end;
            few.ranges.remove(index + 1);
        }
        few
    }

    /// What lies at an address, from the innermost to the outermost name: `virtio-pci-modern, 0000:00:03.0, PCI Bus 0000:00`;
    /// `None` where the list has nothing.
    pub fn name_at(&self, address: u64) -> Option<String> {
        // Each line is part of the newest one above it that is less deep, so those around the address follow in order.
        let mut names: Vec<&str> = self
            .0
            .iter()
            .filter(|entry| (entry.first..=entry.last).contains(&address))
            .map(|entry| (entry.depth, entry.name.as_str()))
            .fold(Vec::new(), |mut names, (depth, name)| {
                names.truncate(depth);
                names.push(name);
                names
            });
        names.reverse();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

impl Entry {
    fn is_ram(&self) -> bool {
        self.name
            .strip_prefix(RAM)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
    }
}

/// `  fec00000-fec003ff : IOAPIC 0`, two spaces for each line it is part of.
fn entry(line: &str) -> Option<Entry> {
    let indented = line.trim_start_matches(' ');
    let (range, name) = indented.split_once(" : ")?;
    let (first, last) = range.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some(Entry {
        depth: (line.len() - indented.len()) / 2,
        first: address(first)?,
        last: address(last)?,
        name: name.trim_end().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A virtual machine of type q35 with 4 GiB, a virtio device and a network card.
    const Q35: &str = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-0009ffff : Reserved
000a0000-000bffff : PCI Bus 0000:00
000c0000-000c97ff : Video ROM
000f0000-000fffff : Reserved
  000f0000-000fffff : System ROM
00100000-7ffd9fff : System RAM
  01000000-01e025c7 : Kernel code
  02000000-02a3bfff : Kernel rodata
  02c00000-02f5f6bf : Kernel data
  03293000-035fffff : Kernel bss
  2b000000-35ffffff : Crash kernel
7ffda000-7fffffff : Reserved
80000000-afffffff : PCI Bus 0000:00
b0000000-bfffffff : PCI ECAM 0000 [bus 00-ff]
  b0000000-bfffffff : Reserved
    b0000000-bfffffff : pnp 00:04
c0000000-febfffff : PCI Bus 0000:00
  fea00000-febfffff : PCI Bus 0000:01
    feb80000-feb9ffff : 0000:01:00.0
      feb80000-feb9ffff : e1000e
    febd0000-febd3fff : 0000:01:00.0
fec00000-fec003ff : IOAPIC 0
fed00000-fed003ff : HPET 0
  fed00000-fed003ff : PNP0103:00
fed90000-fed90fff : dmar0
fee00000-fee00fff : Local APIC
  fee00000-fee00fff : Reserved
fffc0000-ffffffff : Reserved
100000000-17fffffff : System RAM
8000000000-bfffffffff : PCI Bus 0000:00
  8000000000-8000003fff : 0000:00:03.0
    8000000000-8000003fff : virtio-pci-modern
fd00000000-ffffffffff : Reserved
";

    fn iomem(text: &str) -> Result<Iomem, IomemError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("written");
        Iomem::read_from(file.path())
    }

    #[test]
    fn main_memory_is_what_is_called_so() {
        let ram = iomem(Q35).expect("a list").system_ram();
        assert_eq!(
            ram,
            [
                0x1000..0x9_fc00,
                0x10_0000..0x7ffd_a000,
                0x1_0000_0000..0x1_8000_0000
            ]
        );
    }

    #[test]
    fn memory_that_a_driver_gave_to_the_kernel_counts_and_adjacent_ranges_are_one() {
        let ram = iomem(
            "00001000-00001fff : System RAM\n\
             00002000-00002fff : System RAM\n\
             00010000-0001ffff : Persistent Memory\n\
             \x20 00010000-0001ffff : dax0.0\n\
             \x20   00011000-0001ffff : System RAM (kmem)\n\
             00020000-0002ffff : System RAM buffer\n",
        );
        assert_eq!(
            ram.expect("a list").system_ram(),
            [0x1000..0x3000, 0x1_1000..0x2_0000]
        );
    }

    #[test]
    fn where_there_is_room_for_few_ranges_the_smallest_gaps_are_given_up() {
        let list = iomem(
            "00001000-00001fff : System RAM\n\
             00004000-00004fff : System RAM\n\
             00006000-00006fff : System RAM\n\
             00010000-00010fff : System RAM\n\
             00012000-00012fff : System RAM\n",
        )
        .expect("a list");
        assert_eq!(list.system_ram_in(5).ranges, list.system_ram());
        assert_eq!(list.system_ram_in(5).gaps_lost, 0);
        assert_eq!(
            list.system_ram_in(3),
            FewRanges {
                ranges: vec![0x1000..0x2000, 0x4000..0x7000, 0x1_0000..0x1_3000],
                gaps_lost: 2,
                bytes_lost: 0x2000,
            }
        );
        assert_eq!(
            list.system_ram_in(1).ranges.first(),
            Some(&(0x1000..0x1_3000))
        );
        assert_eq!(list.system_ram_in(1).gaps_lost, 4);
    }

    #[test]
    fn an_address_is_named_from_the_innermost_out() {
        let list = iomem(Q35).expect("a list");
        for (address, name) in [
            (
                0xfeb8_0000,
                Some("e1000e, 0000:01:00.0, PCI Bus 0000:01, PCI Bus 0000:00"),
            ),
            (
                0xfebd_3fff,
                Some("0000:01:00.0, PCI Bus 0000:01, PCI Bus 0000:00"),
            ),
            (0xfee0_0000, Some("Reserved, Local APIC")),
            (0xfed9_0000, Some("dmar0")),
            (0x1000, Some("System RAM")),
            (
                0x80_0000_0000,
                Some("virtio-pci-modern, 0000:00:03.0, PCI Bus 0000:00"),
            ),
            (0x100_0000_0000, None),
        ] {
            assert_eq!(list.name_at(address).as_deref(), name, "{address:#x}");
        }
    }

    #[test]
    fn hidden_addresses_and_missing_memory_are_told_with_what_would_help() {
        let hidden = iomem(
            "00000000-00000000 : Reserved\n\
             00000000-00000000 : System RAM\n\
             \x20 00000000-00000000 : Kernel code\n",
        )
        .expect_err("hidden")
        .to_string();
        assert!(
            hidden.contains("CAP_SYS_ADMIN") && hidden.contains("as root"),
            "{hidden}"
        );
        let empty = iomem("").expect_err("empty").to_string();
        assert!(empty.contains("System RAM"), "{empty}");
        let absent = Iomem::read_from(Path::new("/nonexistent/iomem"))
            .expect_err("absent")
            .to_string();
        assert!(
            absent.contains("cannot read /nonexistent/iomem"),
            "{absent}"
        );
    }
}
