//! What one server gets from one node over a long time, as a file that promtool takes in.

use std::io::{self, Write};

use super::{Long, Short, text};

/// Writes the pages that are scraped from a node with so many CPUs, of whose snapshots only each of number `every` is seen, as
/// `OpenMetrics` with the time of each sample.
///
/// # Errors
/// When it cannot be written.
pub fn scrapes(
    short: &Short,
    long: Long,
    every: u64,
    cpus: u32,
    to: &mut impl Write,
) -> io::Result<()> {
    short.each(long, |snapshot| {
        if !snapshot.interval.is_multiple_of(every) {
            return Ok(());
        }
        let page = text(snapshot, cpus).map_err(io::Error::other)?;
        let ms = snapshot.time.as_millisecond();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            writeln!(to, "{line} {}.{:03}", ms / 1_000, ms % 1_000)?;
        }
        Ok(())
    })?;
    writeln!(to, "# EOF")
}
