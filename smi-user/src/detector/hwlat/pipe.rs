//! hwlat's records out of the trace buffer: for kernels that refuse the breakpoint.
//!
//! `per_cpu/cpuN/trace_pipe_raw` hands out the buffer's pages as they are (`kernel/trace/ring_buffer.c`, layout in
//! `events/header_page` and `events/header_event`).

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use smi_common::{GapRecord, TracerLayout};

use crate::{
    detector::tracer::Source,
    kernel::{cpus::CpuList, tracefs},
};

/// Bytes before a page's first event: a time stamp and the length of what follows.
const PAGE_HEADER: usize = 16;
/// Low bits of the length that are the length; the rest are flags.
const LENGTH_MASK: u64 = (1 << 30) - 1;
/// More than one page, whatever its size.
const BUFFER: usize = 1 << 16;

/// Types of events (`include/linux/ring_buffer.h`); 1 to 28 are lengths in words.
const LONG: u32 = 0;
const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;

/// The buffers of all CPUs.
#[derive(Debug)]
pub(super) struct Pipes {
    instance: PathBuf,
    pipes: Vec<(u32, File)>,
    /// CPUs that were told to have none.
    told: BTreeSet<u32>,
    layout: TracerLayout,
    buffer: Vec<u8>,
}

impl Pipes {
    /// Opens the buffers of `instance`. While they are open, its tracer cannot be changed.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn open(instance: &Path, layout: TracerLayout, online: &CpuList) -> Result<Self> {
        let mut pipes = Self {
            instance: instance.to_owned(),
            pipes: Vec::new(),
            told: BTreeSet::new(),
            layout,
            buffer: vec![0; BUFFER],
        };
        for cpu in online.iter() {
            pipes.open_of(cpu)?;
        }
        Ok(pipes)
    }

    fn open_of(&mut self, cpu: u32) -> Result<()> {
        let path = self
            .instance
            .join(format!("per_cpu/cpu{cpu}/trace_pipe_raw"));
        let pipe = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        self.pipes.push((cpu, pipe));
        Ok(())
    }
}

impl Source for Pipes {
    const IN_KERNEL: bool = false;

    /// The buffer of a CPU that goes offline stays, with what is in it.
    fn follow(&mut self, online: &CpuList) -> Vec<String> {
        let missing: Vec<u32> = online
            .iter()
            .filter(|cpu| self.pipes.iter().all(|(opened, _)| opened != cpu))
            .collect();
        missing
            .into_iter()
            .filter_map(|cpu| {
                let Err(error) = self.open_of(cpu) else {
                    self.told.remove(&cpu);
                    return None;
                };
                self.told
                    .insert(cpu)
                    .then(|| format!("{error:#}: hwlat's records of that CPU are not seen"))
            })
            .collect()
    }

    fn records(&mut self) -> Result<Vec<GapRecord>> {
        let mut records = Vec::new();
        for (cpu, pipe) in &mut self.pipes {
            loop {
                match pipe.read(&mut self.buffer) {
                    Ok(0) => break,
                    Ok(length) => {
                        records.extend(events(&self.buffer[..length]).filter_map(|entry| {
                            Some(GapRecord {
                                cpu: u64::from(*cpu),
                                ..decode(entry, &self.layout)?
                            })
                        }));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        return Err(error)
                            .with_context(|| format!("cannot read the trace buffer of CPU {cpu}"));
                    }
                }
            }
        }
        Ok(records)
    }

    fn last_records(&mut self, instance: &Path) -> Result<Vec<GapRecord>> {
        // Nothing may come between the last reading and the closing. The instance is removed soon, so this setting
        // need not be put back.
        let written = tracefs::write(&instance.join("tracing_on"), "0");
        let records = self.records();
        self.pipes.clear();
        written?;
        records
    }
}

/// The records in a page, without what the buffer adds to them.
fn events(page: &[u8]) -> impl Iterator<Item = &[u8]> {
    let length = (word64(page, 8).unwrap_or(0) & LENGTH_MASK) as usize;
    let end = (PAGE_HEADER + length).min(page.len());
    let mut rest = page.get(PAGE_HEADER..end).unwrap_or_default();
    std::iter::from_fn(move || {
        loop {
            let head = word32(rest, 0)?;
            let (data, total) = match head & 31 {
                PADDING if head >> 5 == 0 => return None,
                PADDING => (0..0, 4 + word32(rest, 4)? as usize),
                TIME_EXTEND | TIME_STAMP => (0..0, 8),
                LONG => {
                    let length = word32(rest, 4)? as usize;
                    (8..4 + length, 4 + length)
                }
                words => (4..4 + words as usize * 4, 4 + words as usize * 4),
            };
            let entry = rest.get(data)?;
            rest = rest.get(total..)?;
            if !entry.is_empty() {
                return Some(entry);
            }
        }
    })
}

/// A record of hwlat; `None` for one of another event.
fn decode(entry: &[u8], layout: &TracerLayout) -> Option<GapRecord> {
    let at = |offset: u64| usize::try_from(offset).ok();
    let long = |offset: u64| word64(entry, at(offset)?);
    let int = |offset: u64| Some(u64::from(word32(entry, at(offset)?)?));
    let id = entry.first_chunk::<2>().map(|id| u16::from_ne_bytes(*id))?;
    if u64::from(id) != layout.hwlat_id {
        return None;
    }
    let (inner_us, outer_us) = (long(layout.hwlat_inner)?, long(layout.hwlat_outer)?);
    let wall_ns = long(layout.hwlat_tv_sec)? * 1_000_000_000 + long(layout.hwlat_tv_nsec)?;
    Some(GapRecord {
        end_ns: wall_ns.wrapping_sub(layout.wall_offset_ns),
        duration_ns: inner_us.max(outer_us) * 1_000,
        inner_ns: inner_us * 1_000,
        outer_ns: outer_us * 1_000,
        steps_over: int(layout.hwlat_steps_over)?,
        nmi_count: int(layout.hwlat_nmi_count)?,
        nmi_ns: long(layout.hwlat_nmi_us)? * 1_000,
        ..GapRecord::default()
    })
}

fn word32(bytes: &[u8], offset: usize) -> Option<u32> {
    let word = bytes.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*word))
}

fn word64(bytes: &[u8], offset: usize) -> Option<u64> {
    let word = bytes.get(offset..)?.first_chunk::<8>()?;
    Some(u64::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offsets of Linux 6.18.
    fn layout() -> TracerLayout {
        TracerLayout {
            hwlat_id: 16,
            hwlat_inner: 8,
            hwlat_outer: 16,
            hwlat_nmi_us: 24,
            hwlat_tv_sec: 32,
            hwlat_tv_nsec: 40,
            hwlat_nmi_count: 48,
            hwlat_steps_over: 56,
            wall_offset_ns: 1_000_000_000,
            ..TracerLayout::default()
        }
    }

    fn entry(id: u16, inner_us: u64, outer_us: u64) -> Vec<u8> {
        let mut entry = vec![0; 64];
        entry[..2].copy_from_slice(&id.to_ne_bytes());
        for (offset, value) in [(8, inner_us), (16, outer_us), (24, 77), (32, 3), (40, 5)] {
            entry[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        }
        entry[48..52].copy_from_slice(&2u32.to_ne_bytes());
        entry[56..60].copy_from_slice(&9u32.to_ne_bytes());
        entry
    }

    fn page(events: &[Vec<u8>]) -> Vec<u8> {
        let data = events.concat();
        let mut page = vec![0; 4096];
        // A flag beyond the length says that events before this page were lost.
        page[8..16].copy_from_slice(&(data.len() as u64 | 1 << 31).to_ne_bytes());
        page[16..16 + data.len()].copy_from_slice(&data);
        page
    }

    fn event(head: u32, rest: &[u8]) -> Vec<u8> {
        [&head.to_ne_bytes(), rest].concat()
    }

    #[test]
    fn records_are_found_among_what_the_buffer_adds() {
        let page = page(&[
            event(TIME_EXTEND | 5 << 5, &[0; 4]),
            event(16 | 7 << 5, &entry(16, 10, 20)),
            event(PADDING | 1 << 5, &[8, 0, 0, 0, 1, 1, 1, 1]),
            event(
                LONG,
                &[&68u32.to_ne_bytes()[..], &entry(16, 30, 5)].concat(),
            ),
            event(16, &entry(17, 1, 1)),
            event(PADDING, &[0; 4]),
            event(16, &entry(16, 99, 99)),
        ]);
        let records: Vec<_> = events(&page)
            .filter_map(|entry| decode(entry, &layout()))
            .collect();
        assert_eq!(
            records,
            [(10, 20, 20), (30, 5, 30)].map(|(inner, outer, longest)| GapRecord {
                end_ns: 2_000_000_005,
                duration_ns: longest * 1_000,
                inner_ns: inner * 1_000,
                outer_ns: outer * 1_000,
                steps_over: 9,
                nmi_count: 2,
                nmi_ns: 77_000,
                ..GapRecord::default()
            })
        );
    }

    #[test]
    fn a_page_cut_short_ends_the_records_without_harm() {
        let whole = page(&[event(16, &entry(16, 10, 20))]);
        for length in 0..16 + 68 {
            assert_eq!(events(&whole[..length]).count(), 0, "{length} bytes");
        }
        assert_eq!(events(&whole).count(), 1);
    }
}
