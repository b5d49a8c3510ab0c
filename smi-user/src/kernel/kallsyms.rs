//! Addresses of the kernel's symbols (`/proc/kallsyms`).

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
};

use thiserror::Error;

/// Why an address could not be had.
#[derive(Debug, Error)]
pub enum SymbolError {
    /// The list could not be read.
    #[error("cannot read /proc/kallsyms")]
    Read(#[from] io::Error),
    /// No such symbol.
    #[error("the kernel has no symbol \"{0}\"")]
    Unknown(String),
    /// Addresses read as zero.
    #[error(
        "the kernel hides its addresses from this process (kernel.kptr_restrict); run it as root with kernel.kptr_restrict below 2"
    )]
    Hidden,
}

/// The address of a function of the kernel proper.
///
/// # Errors
/// When there is no such function, or the kernel hides its address.
pub fn address_of(symbol: &str) -> Result<u64, SymbolError> {
    address_in(BufReader::new(File::open("/proc/kallsyms")?), symbol)
}

fn address_in(lines: impl BufRead, symbol: &str) -> Result<u64, SymbolError> {
    for line in lines.lines() {
        let line = line?;
        let mut parts = line.split_ascii_whitespace();
        let (Some(address), Some(_), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            // A fourth column names a module.
            continue;
        };
        if name == symbol {
            return match u64::from_str_radix(address, 16) {
                Ok(0) | Err(_) => Err(SymbolError::Hidden),
                Ok(address) => Ok(address),
            };
        }
    }
    Err(SymbolError::Unknown(symbol.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
ffffffff81000000 T _text
ffffffff811e5d40 T trace_buffer_unlock_commit_nostack
ffffffffc0123000 t commit\t[module]
";

    #[test]
    fn functions_of_the_kernel_proper_are_found() {
        let address = |symbol| address_in(LIST.as_bytes(), symbol);
        assert_eq!(
            address("trace_buffer_unlock_commit_nostack").expect("found"),
            0xffff_ffff_811e_5d40
        );
        assert!(matches!(address("commit"), Err(SymbolError::Unknown(_))));
    }

    #[test]
    fn hidden_addresses_are_told() {
        let hidden = address_in("0000000000000000 T _text\n".as_bytes(), "_text");
        assert!(matches!(hidden, Err(SymbolError::Hidden)));
    }
}
