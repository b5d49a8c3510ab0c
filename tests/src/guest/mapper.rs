//! The module that maps and unmaps for QEMU's `edu` (`tests/offender/smilat_mapper.c`).

use std::{fs, io};

const COMMAND: &str = "/sys/module/smilat_mapper/parameters/command";

/// What a command did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Maps.
    pub(super) maps: u64,
    /// Bytes of these.
    pub(super) map_bytes: u64,
    /// Unmaps.
    pub(super) unmaps: u64,
    /// Bytes that were asked of these.
    pub(super) asked_bytes: u64,
    /// Bytes that the kernel said were unmapped.
    pub(super) unmap_bytes: u64,
    /// How long it took, of those that are timed.
    pub(super) ns: u64,
}

/// The module with `edu` in a domain of the module's own. Dropped, it gives the device back, with all that is mapped.
pub(super) struct Mapper(());

impl Mapper {
    /// Attaches `edu` to a domain of the module's own.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[track_caller]
    pub(super) fn attach() -> Self {
        command("attach");
        Self(())
    }

    /// Has the module carry out a command; the source of the module lists them.
    ///
    /// # Panics
    /// When it cannot.
    #[track_caller]
    #[expect(clippy::unused_self, reason = "only what is attached can map")]
    pub(super) fn run(&self, text: &str) -> Done {
        command(text)
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        if let Err(error) = fs::write(COMMAND, "detach") {
            println!("    the mapper does not detach: {error}");
        }
    }
}

#[track_caller]
fn command(text: &str) -> Done {
    let carried_out = || -> io::Result<String> {
        fs::write(COMMAND, text)?;
        fs::read_to_string(COMMAND)
    };
    let told = carried_out().unwrap_or_else(|error| panic!("the mapper's {text}: {error}"));
    let numbers: Vec<u64> = told
        .split_whitespace()
        .map(|number| number.parse().expect(&told))
        .collect();
    let [maps, map_bytes, unmaps, asked_bytes, unmap_bytes, ns] = numbers[..] else {
        panic!("the mapper's {text}: {told}");
    };
    Done {
        maps,
        map_bytes,
        unmaps,
        asked_bytes,
        unmap_bytes,
        ns,
    }
}
