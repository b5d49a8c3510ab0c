//! The device by which QEMU and firmware tell each other things, as files (`docs/specs/fw_cfg` of QEMU). Only firmware
//! uses it as a rule; the kernel's `qemu_fw_cfg` reads files but writes none.

use std::io;

use super::{FW_CFG_DATA, FW_CFG_REQUEST, PAGE, PAGE_SIZE, Physical, port::Ports};

/// Ports that take the address of a request in memory: the upper half, and the lower half, whose writing starts it. Both
/// are big-endian, as all numbers are here.
const ADDRESS: u16 = 0x514;
const UPPER: u16 = 0;
const LOWER: u16 = 4;

/// Bits of a request's control word; the selector stands in its upper half.
const ERROR: u32 = 1 << 0;
const READ: u32 = 1 << 1;
const SELECT: u32 = 1 << 3;
const WRITE: u32 = 1 << 4;

/// Selector of the directory: the number of files, then for each its size, its selector, two bytes, and a name of 56
/// bytes that ends in NUL.
const DIRECTORY: u16 = 0x19;
const ENTRY_SIZE: usize = 64;
const ENTRY_SELECTOR: usize = 4;
const ENTRY_NAME: usize = 8;

/// The device.
pub(super) struct FwCfg {
    ports: Ports,
    page: Physical,
}

impl FwCfg {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            ports: Ports::open(ADDRESS, 8)?,
            page: Physical::map(PAGE, PAGE_SIZE)?,
        })
    }

    /// The first bytes of a file.
    pub(super) fn read<const N: usize>(&self, name: &str) -> io::Result<[u8; N]> {
        self.select(self.selector(name)?)
    }

    /// Writes a file from its beginning.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let selector = self.selector(name)?;
        self.page.write_all(FW_CFG_DATA, bytes);
        self.request(WRITE | SELECT | u32::from(selector) << 16, bytes.len())
    }

    /// What selects the file of that name.
    fn selector(&self, name: &str) -> io::Result<u16> {
        let files = u32::from_be_bytes(self.select(DIRECTORY)?);
        for _ in 0..files {
            let entry: [u8; ENTRY_SIZE] = self.go_on()?;
            let rest = entry[ENTRY_NAME..].strip_prefix(name.as_bytes());
            if rest.is_some_and(|rest| rest.starts_with(&[0])) {
                return Ok(u16::from_be_bytes([
                    entry[ENTRY_SELECTOR],
                    entry[ENTRY_SELECTOR + 1],
                ]));
            }
        }
        Err(io::Error::other(format!("QEMU has no file {name}")))
    }

    /// Reads from the beginning of what the selector stands for.
    fn select<const N: usize>(&self, selector: u16) -> io::Result<[u8; N]> {
        self.request(READ | SELECT | u32::from(selector) << 16, N)?;
        Ok(self.page.read_all(FW_CFG_DATA))
    }

    /// Reads on from where the last reading ended.
    fn go_on<const N: usize>(&self) -> io::Result<[u8; N]> {
        self.request(READ, N)?;
        Ok(self.page.read_all(FW_CFG_DATA))
    }

    /// Has QEMU carry out a request, which it does before the port's writing is over.
    fn request(&self, control: u32, length: usize) -> io::Result<()> {
        let length = u32::try_from(length).map_err(io::Error::other)?;
        let data = PAGE + FW_CFG_DATA as u64;
        self.page.write(FW_CFG_REQUEST, control.to_be());
        self.page.write(FW_CFG_REQUEST + 4, length.to_be());
        self.page.write_all(FW_CFG_REQUEST + 8, &data.to_be_bytes());
        let request = PAGE + FW_CFG_REQUEST as u64;
        self.ports.write(UPPER, ((request >> 32) as u32).to_be());
        self.ports.write(LOWER, (request as u32).to_be());
        match u32::from_be(self.page.read(FW_CFG_REQUEST)) {
            0 => Ok(()),
            ERROR => Err(io::Error::other(format!(
                "QEMU refuses request {control:#x}"
            ))),
            left => Err(io::Error::other(format!(
                "QEMU leaves {left:#x} of request {control:#x}"
            ))),
        }
    }
}
