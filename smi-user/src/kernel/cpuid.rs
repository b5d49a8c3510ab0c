//! What the CPU says of itself by its instruction `CPUID`: who made it, which one it is, whether a hypervisor is below.

/// Makers that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// `GenuineIntel`.
    Intel,
    /// `AuthenticAMD`.
    Amd,
    /// Anybody else, and every CPU that is not x86.
    Other,
}

/// A CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its maker.
    pub vendor: Vendor,
    /// Its family, the extended one included.
    pub family: u32,
    /// Its model, the extended one included.
    pub model: u32,
    /// Whether a hypervisor says that it is there (leaf 1, ECX bit 31, which no CPU sets by itself).
    pub hypervisor: bool,
}

impl Cpu {
    /// The one this runs on.
    #[cfg(target_arch = "x86_64")]
    pub fn this() -> Self {
        use std::arch::x86_64::__cpuid;
        let (zero, one) = (__cpuid(0), __cpuid(1));
        let mut name = [0; 12];
        for (part, register) in name.chunks_mut(4).zip([zero.ebx, zero.edx, zero.ecx]) {
            part.copy_from_slice(&register.to_le_bytes());
        }
        Self::of(name, one.eax, one.ecx)
    }

    /// The one this runs on.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn this() -> Self {
        Self {
            vendor: Vendor::Other,
            family: 0,
            model: 0,
            hypervisor: false,
        }
    }

    /// By leaf 0's name and two registers of leaf 1 (AMD64 APM volume 3, appendix E; Intel SDM volume 2, `CPUID`).
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "nothing to read it from")
    )]
    fn of(name: [u8; 12], eax: u32, ecx: u32) -> Self {
        let field = |low: u32, bits: u32| eax >> low & ((1 << bits) - 1);
        let (base, extended) = (field(8, 4), field(20, 8));
        let family = if base == 15 { base + extended } else { base };
        let model = match base {
            6 | 15 => field(16, 4) << 4 | field(4, 4),
            _ => field(4, 4),
        };
        Self {
            vendor: match &name {
                b"GenuineIntel" => Vendor::Intel,
                b"AuthenticAMD" => Vendor::Amd,
                _ => Vendor::Other,
            },
            family,
            model,
            hypervisor: ecx >> 31 == 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn family_and_model_include_their_extensions() {
        for (name, eax, vendor, family, model) in [
            // Skylake-SP, Zen 1, Zen 2, Zen 4: signatures as their makers publish them.
            (b"GenuineIntel", 0x0005_0654, Vendor::Intel, 0x6, 0x55),
            (b"AuthenticAMD", 0x0080_0f11, Vendor::Amd, 0x17, 0x01),
            (b"AuthenticAMD", 0x0083_0f10, Vendor::Amd, 0x17, 0x31),
            (b"AuthenticAMD", 0x00a1_0f11, Vendor::Amd, 0x19, 0x11),
            (b"HygonGenuine", 0x0090_0f02, Vendor::Other, 0x18, 0x00),
        ] {
            let cpu = Cpu::of(*name, eax, 0);
            assert_eq!((cpu.vendor, cpu.family, cpu.model), (vendor, family, model));
            assert!(!cpu.hypervisor);
        }
        assert!(Cpu::of(*b"GenuineIntel", 0, 1 << 31).hypervisor);
    }
}
