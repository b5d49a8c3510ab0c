//! When the first window of a `smilat run` begins, as seen from outside: the hand-over slots that the process shares with the
//! spin program tell when a stretch began, by the kernel's own clock.

use std::{
    mem::{offset_of, size_of},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use aya::maps::{Array, Map, MapData, loaded_maps};
use smi_common::{Knobs, SpinSlot};
use smi_user::kernel::clock::monotonic_ns;

use crate::killed::Killed;

/// How often it is looked. While the noise is measured, stretches of 1 ms are 1 ms apart: none goes by unseen.
const LOOK: Duration = Duration::from_micros(200);
/// How long a start may take.
const PATIENCE_NS: u64 = 10_000_000_000;

const SLOT_WORDS: usize = size_of::<SpinSlot>() / 8;
const KNOBS_WORDS: usize = size_of::<Knobs>() / 8;
const BEGUN: usize = offset_of!(SpinSlot, begun) / 8;
const BEGUN_NS: usize = offset_of!(SpinSlot, begun_ns) / 8;
const INTERVAL: usize = offset_of!(Knobs, interval) / 8;

/// What was reached when, in ns since just before the process was made.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The BPF maps were there; seen to within [`LOOK`].
    pub loaded_ns: u64,
    /// The first stretch that measures the noise began: all programs are verified.
    pub noise_ns: u64,
    /// The noise was measured; seen to within [`LOOK`].
    pub measured_ns: u64,
    /// The first window began.
    pub window_ns: u64,
}

/// The maps of a process.
struct Maps {
    knobs: Array<MapData, [u64; KNOBS_WORDS]>,
    slots: Array<MapData, [u64; SLOT_WORDS]>,
}

impl Maps {
    /// Those made since there were only those with an id of at most `before`, once both are there.
    fn after(before: u32) -> Option<Self> {
        let mut knobs = None;
        let mut slots = None;
        for map in loaded_maps().filter_map(Result::ok) {
            if map.id() <= before {
                continue;
            }
            let open = || MapData::from_id(map.id()).ok().map(Map::Array);
            match map.name_as_str() {
                Some("KNOBS") => knobs = Array::try_from(open()?).ok(),
                Some("SPIN_SLOTS") => slots = Array::try_from(open()?).ok(),
                _ => {}
            }
        }
        Some(Self {
            knobs: knobs?,
            slots: slots?,
        })
    }

    /// The number of the interval under way; 0 while the noise is measured.
    fn interval(&self) -> u64 {
        self.knobs.get(&0, 0).map_or(0, |knobs| knobs[INTERVAL])
    }

    /// Of each CPU the number of the stretch that began last, and when.
    fn stretches(&self) -> Vec<(u64, u64)> {
        let slots = (0..self.slots.len()).filter_map(|cpu| self.slots.get(&cpu, 0).ok());
        slots.map(|slot| (slot[BEGUN], slot[BEGUN_NS])).collect()
    }
}

/// Starts `command`, a `smilat run` with spin and windows of one stretch of at least 1 ms, and stops it in its first window.
///
/// # Errors
/// When there is no window, or it cannot be told which was the first because this process did not get the CPU in time to look.
pub fn watch(command: &mut Command) -> Result<Start, String> {
    let before = loaded_maps()
        .filter_map(Result::ok)
        .map(|map| map.id())
        .max()
        .unwrap_or_default();
    let began = monotonic_ns();
    let _running = Killed::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let in_time = || {
        thread::sleep(LOOK);
        if monotonic_ns() - began < PATIENCE_NS {
            Ok(())
        } else {
            Err(format!(
                "no window began within {} s; run `smilat run` by itself to see why",
                PATIENCE_NS / 1_000_000_000
            ))
        }
    };
    let maps = loop {
        match Maps::after(before) {
            Some(maps) => break maps,
            None => in_time()?,
        }
    };
    let loaded_ns = monotonic_ns() - began;
    let mut noise_ns = None;
    let mut measuring = maps.stretches();
    let mut looked = monotonic_ns();
    while maps.interval() == 0 {
        measuring = maps.stretches();
        let begun = measuring.iter().filter(|(number, _)| *number > 0);
        noise_ns = noise_ns.or_else(|| begun.map(|(_, at)| at - began).min());
        looked = monotonic_ns();
        in_time()?;
    }
    let measured_ns = monotonic_ns() - began;
    loop {
        let now = maps.stretches();
        let new = now.iter().zip(&measuring).filter(|(now, then)| now > then);
        if let Some(((number, at), (then, _))) = new.min_by_key(|((_, at), _)| *at) {
            if *number != then + 1 || *at < looked {
                return Err("a stretch went by unseen".to_owned());
            }
            return Ok(Start {
                loaded_ns,
                noise_ns: noise_ns.ok_or("the noise was measured unseen")?,
                measured_ns,
                window_ns: at - began,
            });
        }
        in_time()?;
    }
}
