//! Which function an address belongs to (`/proc/kallsyms`).

use std::fs;

/// The kernel's functions, BPF programs among them.
pub(super) struct Symbols(Vec<(u64, String)>);

impl Symbols {
    /// Reads them.
    ///
    /// # Panics
    /// When the kernel does not show them.
    pub(super) fn read() -> Self {
        // Shows BPF programs to root (`Documentation/admin-guide/sysctl/net.rst`).
        fs::write("/proc/sys/net/core/bpf_jit_kallsyms", "1").expect("bpf_jit_kallsyms");
        let text = fs::read_to_string("/proc/kallsyms").expect("/proc/kallsyms");
        let mut symbols: Vec<(u64, String)> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let address = u64::from_str_radix(words.next()?, 16).ok()?;
                let is_code = words.next()?.eq_ignore_ascii_case("t");
                is_code.then_some((address, words.next()?.to_owned()))
            })
            .collect();
        symbols.sort_unstable();
        Self(symbols)
    }

    /// The functions that begin at the same address as the one that holds `address`.
    fn names_of(&self, address: u64) -> impl Iterator<Item = &str> {
        let after = self.0.partition_point(|(start, _)| *start <= address);
        let start = after.checked_sub(1).map(|last| self.0[last].0);
        self.0[..after]
            .iter()
            .rev()
            .take_while(move |(other, _)| Some(*other) == start)
            .map(|(_, name)| name.as_str())
    }

    /// The function that holds `address`.
    pub(super) fn name_of(&self, address: u64) -> &str {
        self.names_of(address).next().unwrap_or("user space")
    }

    /// That function, and how far from its begin `address` is.
    pub(super) fn place_of(&self, address: u64) -> String {
        let after = self.0.partition_point(|(start, _)| *start <= address);
        let start = after.checked_sub(1).map_or(0, |last| self.0[last].0);
        format!("{}+{:#x}", self.name_of(address), address - start)
    }

    /// Whether `address` is in one of `functions`; those of BPF programs are told by how their names end.
    pub(super) fn is_in(&self, address: u64, functions: &[&str]) -> bool {
        self.names_of(address).any(|name| {
            functions.iter().any(|function| {
                name == *function || name.starts_with("bpf_prog_") && name.ends_with(function)
            })
        })
    }
}
