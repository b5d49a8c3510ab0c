//! How much room a long recording takes.

use std::io::{self, Write};

use flate2::{Compression, write::GzEncoder};
use serde::Serialize;

use super::{Long, Short};

/// Bytes of a recording's file before the next is begun, by default (`--rotate-size`).
const PART_BYTES: u64 = 64 << 20;

/// Bytes of a recording.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Packed {
    /// As it is written.
    pub bytes: u64,
    /// Compressed as files that were put aside are, each by itself.
    pub packed_bytes: u64,
}

/// Counts what is written through it.
struct Counted {
    sizes: Packed,
    part: u64,
    packer: GzEncoder<Count>,
}

#[derive(Default)]
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn packer() -> GzEncoder<Count> {
    GzEncoder::new(Count::default(), Compression::default())
}

impl Counted {
    fn end_part(&mut self) -> io::Result<()> {
        let full = std::mem::replace(&mut self.packer, packer());
        self.sizes.packed_bytes += full.finish()?.0;
        self.part = 0;
        Ok(())
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part + bytes.len() as u64 > PART_BYTES {
            self.end_part()?;
        }
        self.packer.write_all(bytes)?;
        self.part += bytes.len() as u64;
        self.sizes.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The room that `short` takes once it is `long`.
///
/// # Errors
/// Never: nothing is written.
pub fn packed(short: &Short, long: Long) -> io::Result<Packed> {
    let mut counted = Counted {
        sizes: Packed::default(),
        part: 0,
        packer: packer(),
    };
    short.write(long, &mut counted)?;
    counted.end_part()?;
    Ok(counted.sizes)
}
