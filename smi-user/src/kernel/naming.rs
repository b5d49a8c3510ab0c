//! Names of addresses, kept: the same places come again and again.

use std::{collections::HashMap, fs};

use super::kallsyms::{self, Place, SymbolError};

/// What modules there are, and where.
const MODULES: &str = "/proc/modules";

/// See the module.
#[derive(Default)]
pub struct Naming {
    known: HashMap<u64, Option<Place>>,
    /// [`MODULES`] as it was when they became known.
    modules: String,
}

impl Naming {
    /// Gets to know `addresses`.
    ///
    /// # Errors
    /// When the kernel's symbols cannot be read.
    pub fn learn(&mut self, addresses: impl IntoIterator<Item = u64>) -> Result<(), SymbolError> {
        let modules = modules();
        if modules != self.modules {
            self.known.clear();
            self.modules = modules;
        }
        let mut new: Vec<u64> = addresses
            .into_iter()
            .filter(|address| *address != 0 && !self.known.contains_key(address))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        new.sort_unstable();
        new.dedup();
        let places = kallsyms::places(&new)?;
        self.known.extend(new.into_iter().zip(places));
        Ok(())
    }

    /// The place of an address that was learnt.
    pub fn place(&self, address: u64) -> Option<&Place> {
        self.known.get(&address)?.as_ref()
    }

    /// In words: the address itself where it has no name.
    pub fn words(&self, address: u64) -> String {
        self.place(address)
            .map_or_else(|| format!("{address:#x}"), ToString::to_string)
    }
}

/// Names, sizes and addresses of the modules; not how often each is used, which changes all the time.
pub(super) fn modules() -> String {
    let text = fs::read_to_string(MODULES).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (name, size) = (words.next()?, words.next()?);
            let address = words.nth(3)?;
            Some(format!("{name} {size} {address}\n"))
        })
        .collect()
}
