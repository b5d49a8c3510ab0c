//! What the detectors that drive a kernel tracer have in common: an instance of their own, settings that are put back,
//! exposure from the switches of the tracer's threads.

mod running;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use smi_common::{Knobs, TracerLayout};

pub(super) use self::running::{Source, Tracing};
use super::Availability;
use crate::{
    bpf::Bpf,
    kernel::{
        changes::{Area, Changes},
        process::{self, Capabilities},
        tracefs::{self, Format},
    },
    settings::{Mode, Settings},
    units::{ns, show},
};

/// Name of the instance.
const INSTANCE: &str = "instances/smilat";

/// The setting that all tracers' thresholds share, in us.
pub(super) const THRESHOLD: &str = "tracing_thresh";

/// The program that follows the turns of threads, by the offsets of `prev_comm` and `next_comm` in a record of
/// `sched:sched_switch`.
const TURNS: [(&str, u32, u32); 3] = [
    ("turns_8_40", 8, 40),
    ("turns_12_48", 12, 48),
    ("turns_16_48", 16, 48),
];

/// Tracers that share a setting with those that the detectors drive: all of them the threshold, some much more.
const RIVALS: [&str; 3] = ["hwlat", "osnoise", "timerlat"];

/// What the user is told of the tracers' threads.
pub(super) const SCHEDULING: &str = "by the kernel's own threads, without real-time priority";

/// A tracer in an instance of its own. Dropping it stops the tracer and puts all settings back.
pub(super) struct Tracer {
    pub(super) changes: Changes,
    /// The tracing file system.
    pub(super) tracing: PathBuf,
    /// The instance in it.
    pub(super) instance: PathBuf,
    /// The file of the mode and what it has to say, for a tracer that has modes.
    mode: Option<(PathBuf, String)>,
    /// What to tell the user.
    pub(super) warnings: Vec<String>,
}

impl Tracer {
    /// Takes hold of the tracing settings and makes the instance, unless one of [`RIVALS`] is at work somewhere: the
    /// settings are the whole system's, and changing them would change what it does.
    pub(super) fn begin(tracer: &str) -> Result<Self> {
        let (mut changes, put_back) = Changes::begin(Area::Tracing, &format!("{tracer} detector"))?;
        for what in put_back {
            log::warn!("left by a smilat that was killed: {what}");
        }
        let tracing = tracefs::mounted().context("the tracing file system is not mounted")?;
        let instance = tracing.join(INSTANCE);
        if let Some((at, rival)) = at_work(&tracing)? {
            bail!(
                "the {rival} tracer is at work in {at}, with the settings of the whole system; end it (echo nop > \
                 {at}/current_tracer), or use --detector spin",
                at = at.display()
            );
        }
        if instance.exists() {
            // Nothing runs in it, and no smilat is at work, or it would hold the lock.
            tracefs::remove_instance(&instance)?;
            log::warn!("{} was left over and has been removed", instance.display());
        }
        changes.make(instance.clone())?;
        Ok(Self {
            changes,
            tracing,
            instance,
            mode: None,
            warnings: Vec::new(),
        })
    }

    /// Sets the time sampled and the period it is part of, in an order the kernel accepts: the first must stay below
    /// the second at every step.
    pub(super) fn set_timing(
        &mut self,
        width: &str,
        window: &str,
        settings: &Settings,
    ) -> Result<()> {
        let (width, window) = (self.tracing.join(width), self.tracing.join(window));
        let width_us = whole_us("--width", settings.width)?;
        let window_us = whole_us("--window", settings.window)?;
        let now_us: u64 = tracefs::read(&window)?
            .trim()
            .parse()
            .with_context(|| format!("{} does not hold a number", window.display()))?;
        let width = (width, width_us.to_string());
        let window = (window, window_us.to_string());
        let order = if width_us < now_us {
            [width, window]
        } else {
            [window, width]
        };
        for (path, value) in order {
            self.changes.set(path, &value)?;
        }
        Ok(())
    }

    /// Sets the mode in the file at `path`.
    pub(super) fn set_mode(&mut self, path: PathBuf, mode: Mode) -> Result<()> {
        let was = tracefs::read(&path)?;
        let was = tracefs::chosen(&was).unwrap_or_else(|| was.trim_end());
        // Noted even where it is right already: the kernel changes it by itself.
        self.changes
            .write(&path, &mode.to_string(), was.to_owned())?;
        self.mode = Some((path, mode.to_string()));
        Ok(())
    }

    /// Sets the mode again if it is another; returns what to tell the user. hwlat leaves `round-robin` for good when its
    /// thread is moved, as it is when its CPU goes offline (`move_to_next_cpu` in `kernel/trace/trace_hwlat.c`).
    fn keep_mode(&self) -> Result<Option<String>> {
        let Some((path, mode)) = &self.mode else {
            return Ok(None);
        };
        let now = tracefs::read(path)?;
        if tracefs::chosen(&now).is_none_or(|now| now == mode) {
            return Ok(None);
        }
        tracefs::write(path, mode)?;
        Ok(Some(format!(
            "the tracer had left the mode {mode}, as it does when a CPU goes offline; it is set again"
        )))
    }

    /// Sets the threshold of the tracers, in whole us.
    pub(super) fn set_threshold(&mut self, threshold: Duration) -> Result<()> {
        let us = whole_us("--threshold", threshold)?;
        self.changes
            .set(self.tracing.join(THRESHOLD), &us.to_string())?;
        Ok(())
    }

    /// Starts the tracer.
    pub(super) fn start(&mut self, tracer: &str) -> Result<()> {
        self.changes
            .write(&self.instance.join("current_tracer"), tracer, "nop".to_owned())
            .with_context(|| {
                format!("the {tracer} tracer cannot be started; only one instance can run it, is another at work?")
            })?;
        Ok(())
    }

    /// Whether the tracer still runs: somebody else may take it away.
    pub(super) fn still_runs(&self, tracer: &str) -> bool {
        tracefs::read(&self.instance.join("current_tracer"))
            .is_ok_and(|current| current.trim() == tracer)
    }
}

/// The first folder of tracing settings, the system's own or an instance's, in which hwlat, osnoise or
/// timerlat runs, and which.
///
/// # Errors
/// When the tracing file system at `tracing` cannot be read.
pub fn at_work(tracing: &Path) -> Result<Option<(PathBuf, String)>> {
    let instances = tracing.join("instances");
    let entries =
        fs::read_dir(&instances).with_context(|| format!("cannot read {}", instances.display()))?;
    let mut folders = vec![tracing.to_owned()];
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", instances.display()))?;
        folders.push(entry.path());
    }
    for folder in folders {
        let current = tracefs::read(&folder.join("current_tracer"))?;
        if RIVALS.contains(&current.trim()) {
            return Ok(Some((folder, current.trim().to_owned())));
        }
    }
    Ok(None)
}

/// Whether `tracer` can run here, as far as can be told without changing anything.
pub(super) fn available(tracer: &str, option: &str) -> Availability {
    let missing = |reason: String, remedy: String| Availability::Missing { reason, remedy };
    let capabilities = Capabilities::own();
    if !capabilities.has(process::CAP_SYS_ADMIN) {
        return missing(
            "this process lacks CAP_SYS_ADMIN".to_owned(),
            "run it as root, for example with sudo".to_owned(),
        );
    }
    let Some(tracing) = tracefs::mounted() else {
        return missing(
            "the tracing file system is not mounted".to_owned(),
            format!(
                "mount -t tracefs tracefs {}",
                tracefs::mount_point().display()
            ),
        );
    };
    match tracefs::has_tracer(&tracing, tracer) {
        Ok(true) => Availability::Ready,
        Ok(false) => missing(
            format!("this kernel has no {tracer} tracer"),
            format!("boot a kernel with {option}=y, such as Debian's linux-image-rt-amd64"),
        ),
        Err(error) => missing(error.to_string(), "run it as root".to_owned()),
    }
}

/// The part of the layout that the programs which follow turns need: threads whose names begin with `comm`.
pub(super) fn turns_layout(comm: &str, settings: &Settings) -> TracerLayout {
    let mut name = [0u8; 8];
    let mut mask = [0u8; 8];
    for (place, byte) in comm.bytes().take(8).enumerate() {
        name[place] = byte;
        mask[place] = u8::MAX;
    }
    TracerLayout {
        comm: u64::from_ne_bytes(name),
        comm_mask: u64::from_ne_bytes(mask),
        window_min_ns: ns(settings.width) / 2,
        ..TracerLayout::default()
    }
}

/// Has the programs begin to count from nothing, and pass on `records_per_s` single gaps.
pub(super) fn reset(
    bpf: &mut Bpf,
    tracing: &Path,
    layout: TracerLayout,
    settings: &Settings,
    records_per_s: u64,
) -> Result<()> {
    bpf.set_tracer(layout)?;
    bpf.reset_stats()?;
    bpf.set_knobs(Knobs {
        threshold_ns: ns(settings.threshold),
        records_per_s,
        interval: 1,
        look_ns: 0,
    })?;
    let switch = Format::of(tracing, "sched/sched_switch")?;
    let prev = switch.field("prev_comm")?.offset;
    let next = switch.field("next_comm")?.offset;
    let program = TURNS
        .iter()
        .find(|(_, p, n)| (*p, *n) == (prev, next))
        .map(|(program, ..)| *program)
        .with_context(|| {
            format!(
                "sched:sched_switch has the names of threads at offsets {prev} and {next}, where no kernel known has \
                 them; use --detector spin"
            )
        })?;
    Ok(bpf.attach_tracepoint(program, "sched", "sched_switch")?)
}

/// A time in whole microseconds, the only ones that tracers know.
pub(super) fn whole_us(option: &str, time: Duration) -> Result<u64> {
    let ns = ns(time);
    ensure!(
        ns >= 1_000 && ns.is_multiple_of(1_000),
        "{option} {} is not a whole number of microseconds, at least one, as the kernel's tracers need it; round it, \
         or use --detector spin",
        show(time)
    );
    Ok(ns / 1_000)
}
