//! What the first CPU says of itself (`/proc/cpuinfo`), and what a hypervisor calls itself (CPUID).

use std::fs;

/// Maker, family and abilities of the first CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuInfo {
    /// The maker: `GenuineIntel`, `AuthenticAMD` and others.
    pub vendor: String,
    /// Family number.
    pub family: u32,
    /// Model number within the family.
    pub model: u32,
    /// Name for people.
    pub name: String,
    /// Revision of the microcode; empty where it is not told.
    pub microcode: String,
    flags: Vec<String>,
}

impl CpuInfo {
    /// Reads the file; `None` where it cannot be read.
    pub fn read() -> Option<Self> {
        fs::read_to_string("/proc/cpuinfo")
            .ok()
            .map(|text| Self::parse(&text))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut info = Self::default();
        for line in text.lines().take_while(|line| !line.trim().is_empty()) {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            match key.trim() {
                "vendor_id" => value.clone_into(&mut info.vendor),
                "cpu family" => info.family = value.parse().unwrap_or_default(),
                "model" => info.model = value.parse().unwrap_or_default(),
                "model name" => value.clone_into(&mut info.name),
                "microcode" => value.clone_into(&mut info.microcode),
                "flags" => info.flags = value.split_whitespace().map(str::to_owned).collect(),
                _ => {}
            }
        }
        info
    }

    /// Whether the CPU has the ability `flag`.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|found| found == flag)
    }
}

/// The name a hypervisor gives itself (CPUID leaf `0x4000_0000`); to be asked only where the CPU has the flag
/// `hypervisor`.
pub fn hypervisor() -> String {
    let leaf = std::arch::x86_64::__cpuid(0x4000_0000);
    name_of([leaf.ebx, leaf.ecx, leaf.edx])
}

/// Twelve bytes of text in three registers, padded with NUL.
fn name_of(registers: [u32; 3]) -> String {
    registers
        .iter()
        .flat_map(|register| register.to_le_bytes())
        .filter(u8::is_ascii_graphic)
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/proc/cpuinfo` of a virtual machine with two CPUs.
    const CPUINFO: &str = include_str!("testdata/cpuinfo-kvm");

    #[test]
    fn the_first_cpu_is_read() {
        let info = CpuInfo::parse(CPUINFO);
        assert_eq!(info.vendor, "GenuineIntel");
        assert_eq!((info.family, info.model), (6, 106));
        assert_eq!(info.microcode, "0x1");
        assert!(info.has("hypervisor") && info.has("nonstop_tsc"));
        assert!(!info.has("vmx") && !info.has("tsc_"));
    }

    #[test]
    fn a_hypervisors_name_is_read_from_registers() {
        assert_eq!(name_of([0x4b4d_564b, 0x564b_4d56, 0x4d]), "KVMKVMKVM");
    }
}
