//! Puts right the end of a recording whose writer was killed.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use super::lines::{Parsed, parse};

const BLOCK: u64 = 64 << 10;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mended {
    /// Nothing: it ends with a whole line.
    Whole,
    /// The end of the last line was added; its object was whole.
    Ended,
    /// The torn last line, this long, was cut off.
    Cut(u64),
}

/// Has `file`, opened to be appended to, end with a whole line. Nothing that is whole is lost.
///
/// # Errors
/// When it cannot be read or written.
pub(super) fn mend(file: &File) -> io::Result<Mended> {
    let len = file.metadata()?.len();
    let tail = len - end_of_last_line(file, len)?;
    if tail == 0 {
        return Ok(Mended::Whole);
    }
    let mut text = vec![0; tail as usize];
    file.read_exact_at(&mut text, len - tail)?;
    if matches!(parse(&text), Parsed::Nothing) {
        file.set_len(len - tail)?;
        return Ok(Mended::Cut(tail));
    }
    io::Write::write_all(&mut &*file, b"\n")?;
    Ok(Mended::Ended)
}

/// Where the last line that is ended ends.
fn end_of_last_line(file: &File, len: u64) -> io::Result<u64> {
    let mut block = Vec::new();
    let mut to = len;
    while to > 0 {
        let from = to.saturating_sub(BLOCK);
        block.resize((to - from) as usize, 0);
        file.read_exact_at(&mut block, from)?;
        if let Some(end) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + end as u64 + 1);
        }
        to = from;
    }
    Ok(0)
}
