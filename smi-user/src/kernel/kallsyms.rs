//! Addresses of the kernel's symbols (`/proc/kallsyms`), and what is at an address. The list is read anew each time, some
//! megabytes of it, and not kept.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader},
    ops::Range,
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

const LIST: &str = "/proc/kallsyms";

/// The address of a function of the kernel proper.
///
/// # Errors
/// When there is no such function, or the kernel hides its address.
pub fn address_of(symbol: &str) -> Result<u64, SymbolError> {
    address_in(BufReader::new(File::open(LIST)?), symbol)
}

fn address_in(list: impl BufRead, symbol: &str) -> Result<u64, SymbolError> {
    let mut found = None;
    each(list, |line| {
        if found.is_none() && line.module.is_none() && line.name == symbol {
            found = Some(line.address);
        }
    })?;
    match found {
        None => Err(SymbolError::Unknown(symbol.to_owned())),
        Some(0) => Err(SymbolError::Hidden),
        Some(address) => Ok(address),
    }
}

/// Where the functions of that name lie, be they the kernel's or modules'.
///
/// # Errors
/// When there is none, or the kernel hides their addresses.
pub fn functions(name: &str) -> Result<Vec<Range<u64>>, SymbolError> {
    functions_in(|| Ok(BufReader::new(File::open(LIST)?)), name)
}

fn functions_in<R: BufRead>(
    open: impl Fn() -> io::Result<R>,
    name: &str,
) -> Result<Vec<Range<u64>>, SymbolError> {
    let mut found = Vec::new();
    each(open()?, |line| {
        if line.is_code() && line.name == name {
            found.push(line.address..u64::MAX);
        }
    })?;
    if found.is_empty() {
        return Err(SymbolError::Unknown(name.to_owned()));
    }
    if found.iter().any(|range| range.start == 0) {
        return Err(SymbolError::Hidden);
    }
    // Each ends where the next symbol begins, whatever that is; the list of modules is in no order.
    each(open()?, |line| {
        for range in &mut found {
            if line.address > range.start && line.address < range.end {
                range.end = line.address;
            }
        }
    })?;
    Ok(found)
}

/// A place in the kernel's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The function.
    pub function: String,
    /// The module it belongs to; `None`: the kernel proper.
    pub module: Option<String>,
    /// How far into it, in bytes.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        if self.offset > 0 {
            write!(f, "+{:#x}", self.offset)?;
        }
        if let Some(module) = &self.module {
            write!(f, " [{module}]")?;
        }
        Ok(())
    }
}

/// What is at each of `addresses`; `None` where the kernel has nothing, or hides it.
///
/// # Errors
/// When the list cannot be read.
pub fn places(addresses: &[u64]) -> Result<Vec<Option<Place>>, SymbolError> {
    places_in(BufReader::new(File::open(LIST)?), addresses)
}

fn places_in(list: impl BufRead, addresses: &[u64]) -> Result<Vec<Option<Place>>, SymbolError> {
    let mut sorted: Vec<u64> = addresses.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut best: Vec<Option<(u64, Place)>> = vec![None; sorted.len()];
    each(list, |line| {
        if !line.is_code() || line.address == 0 {
            return;
        }
        let from = sorted.partition_point(|address| *address < line.address);
        for (address, best) in sorted[from..].iter().zip(&mut best[from..]) {
            // The first of those with the same address: later ones are other names for it.
            if best.as_ref().is_none_or(|(begin, _)| *begin < line.address) {
                let place = Place {
                    function: line.name.to_owned(),
                    module: line.module.map(str::to_owned),
                    offset: address - line.address,
                };
                *best = Some((line.address, place));
            }
        }
    })?;
    let place = |address: &u64| {
        let at = sorted.binary_search(address).ok()?;
        best[at].clone().map(|(_, place)| place)
    };
    Ok(addresses.iter().map(place).collect())
}

/// A line of the list.
struct Line<'a> {
    address: u64,
    kind: &'a str,
    name: &'a str,
    module: Option<&'a str>,
}

impl Line<'_> {
    fn is_code(&self) -> bool {
        matches!(self.kind, "t" | "T" | "w" | "W")
    }
}

/// Hands each line to `take`.
fn each(mut list: impl BufRead, mut take: impl FnMut(Line<'_>)) -> io::Result<()> {
    let mut text = String::new();
    while list.read_line(&mut text)? > 0 {
        let mut parts = text.split_ascii_whitespace();
        if let (Some(address), Some(kind), Some(name)) = (parts.next(), parts.next(), parts.next())
        {
            let module = parts.next();
            take(Line {
                address: u64::from_str_radix(address, 16).unwrap_or(0),
                kind,
                name,
                module: module.map(|name| name.trim_matches(['[', ']'])),
            });
        }
        text.clear();
    }
    Ok(())
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
